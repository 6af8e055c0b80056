"""The hybrid's loss over rows, and a whole run of it."""

import jax
import numpy as np
import pytest

from configs import hybrid as config_lib
from genrec_jax import train_step
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, packing
from genrec_jax.decoding import catalogue_tree
from genrec_jax.errors import UserError
from genrec_jax.models import hybrid as model_lib
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import hybrid
from tests.data.corpus_test import make

pytestmark = pytest.mark.once

CORPUS = make([[0, 1, 2, 3, 4, 5], [2, 0, 1, 4], [3, 4, 0]], num_items=6)  # [:-2] is for training
IDS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]])


def test_the_loss_is_the_mean_over_all_targets_of_both_heads():
    rows = packing.pack(CORPUS.offsets[:-1], CORPUS.splits.train_ends, 4)
    config = config_lib.get_config()
    for stack in (config.model.encoder, config.model.decoder):
        stack.update(dim=8, num_heads=2, hidden_dim=8, dropout=0.0)
    config.model.item_dropout = 0.0
    model = model_lib.from_config(config.to_dict(), 6, 3, (3, 2))
    params = model.init(jax.random.key(0))
    is_known = np.ones(6, bool)
    tree = catalogue_tree.build(IDS, (3, 2), is_known)
    catalogue = model_lib.Catalogue(np.ones((6, 3), np.float32), is_known, tree)
    catalogue = jax.tree.map(jax.numpy.asarray, catalogue)
    data = {"items": CORPUS.items, "samples": rows, "catalogue": catalogue}
    loss_fn = hybrid.loss_fn(
        model,
        packing.mean_targets(rows),
        code_weight=0.5,
        backward_weight=0.25,
        label_smoothing=0.0,
    )
    loss_fn = jax.jit(train_step.gathering(packing.gather, loss_fn))
    loss, (metrics, _) = loss_fn(params, data, np.array([0, 1]), 0, None)
    totals = np.zeros(4)
    for history in ([0, 1, 2, 3], [2, 0]):
        items = np.array([history])
        losses = jax.jit(lambda items: model.bind(params).losses(items, 0 * items, catalogue))(
            items
        )
        totals += [losses.items.sum(), losses.backward.sum(), *losses.codes.sum(axis=(0, 1))]
    assert metrics["item_loss"] == pytest.approx(totals[0] / 4, rel=1e-5)
    assert metrics["backward_loss"] == pytest.approx(totals[1] / 4, rel=1e-5)
    assert metrics["level_1_loss"] == pytest.approx(totals[3] / 4, rel=1e-5)
    expected = totals[0] + 0.25 * totals[1] + 0.5 * totals[2:].sum()
    assert loss == pytest.approx(expected / 4, rel=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder, config and metrics of a small run with cold items."""
    folder = tmp_path_factory.mktemp("run")
    config = config_lib.get_config("smoke")
    config.data.synthetic_shop.num_users = 600
    config.data.synthetic_shop.num_items = 100
    config.data.cold_share = 0.2
    config.embedder.update(dim=16, remainder_dim=4, collaborative_dim=4)
    config.tokenizer_config.model.update(level_sizes=(16, 16))
    config.optimizer.learning_rate = 5e-3
    for stack in (config.model.encoder, config.model.decoder):
        stack.update(dim=16, num_heads=1, hidden_dim=16, num_layers=1)
    return folder, config, hybrid.run(config, folder)


def test_both_heads_beat_the_most_popular_items(run):
    _, _, metrics = run
    for protocol in ("test", "test_new"):
        popularity = metrics[f"baseline/popularity/{protocol}/ndcg@10"]
        for part in ("", "generated/", "scored/"):
            assert metrics[f"{part}{protocol}/ndcg@10"] > 1.5 * popularity


def test_items_that_training_lacks_are_found_by_their_content(run):
    _, _, metrics = run
    assert metrics["test_cold/num_users"] > 20
    assert metrics["test_cold/recall@20"] > 0
    assert metrics["baseline/popularity/test_cold/recall@20"] == 0


def test_the_recommender_gives_what_the_test_was_scored_with(run):
    folder, config, metrics = run
    corpus = datasets.load(folder / "cache", **config.data.to_dict())
    samples = corpus_lib.held_out_samples(corpus, "test")
    histories = [
        [corpus.item_ids[item] for item in corpus.items[start:target]]
        for start, target in zip(samples.start, samples.target, strict=True)
    ]
    targets = [corpus.item_ids[corpus.items[target]] for target in samples.target]
    recommender = Recommender.load(folder)
    for exclude, split in ((False, "test"), (True, "test_new")):
        found = recommender.recommend(histories, 10, exclude_history=exclude)
        hits = [target in best.item_ids for target, best in zip(targets, found, strict=True)]
        assert np.mean(hits) == pytest.approx(metrics[f"{split}/recall@10"], abs=1e-9)
    with pytest.raises(UserError, match=r"which reads more of its items than their IDs: leave out"):
        Recommender.load(folder, tokenizer=folder)


def test_settings_are_checked_before_anything_is_computed(tmp_path):
    for key, value, message in (
        ("eval.score_weight", 1.5, r"--config.eval.score_weight=1.5 must be from 0 to 1"),
        ("model.decoder.num_heads", 3, r"model.decoder.dim=64 cannot be split into 3 heads: make"),
        ("model.encoder.num_layers", 0, r"model.encoder.num_layers=0 must be at least 1"),
        (
            "model.item_dropout",
            1.0,
            r"--config.model.item_dropout=1.0 must be at least 0 and below",
        ),
        ("row_length", 1, r"--config.row_length=1 must be at least 2"),
    ):
        config = config_lib.get_config("smoke")
        config.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=message):
            hybrid.run(config, tmp_path)
    assert not list(tmp_path.iterdir())
