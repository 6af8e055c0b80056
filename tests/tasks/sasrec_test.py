"""SASRec's loss over histories, and a whole run of it."""

import json

import jax
import numpy as np
import pytest
from pyarrow import parquet

from configs import sasrec as config_lib
from genrec_jax import train_step
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, packing
from genrec_jax.errors import UserError
from genrec_jax.models import sasrec as model_lib
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import sasrec
from tests.data.corpus_test import make

CORPUS = make([[0, 1, 2, 3, 4, 5], [2, 0, 1, 4], [3, 4, 0]], num_items=6)  # [:-2] is for training


def test_the_loss_is_the_mean_over_all_targets():
    rows = packing.pack(CORPUS.offsets[:-1], CORPUS.splits.train_ends, 4)
    assert rows.places.tolist() == [[0, 1, 2, 3], [6, 7, 0, 0]]  # histories 0 1 2 3 and 2 0
    settings = config_lib.get_config().model.to_dict() | {"dim": 8, "dropout": 0.0}
    model = model_lib.from_config({"dtype": "auto", "model": settings}, 6)
    params = model.init(jax.random.key(0))
    data = {"items": CORPUS.items, "samples": rows}
    loss_fn = sasrec.loss_fn(model, packing.mean_targets(rows))
    loss_fn = jax.jit(train_step.gathering(packing.gather, loss_fn))
    bound_scores = jax.jit(lambda *history: model.bind(params).scores(*history))
    loss, _ = loss_fn(params, data, np.array([0, 1]), 0, None)
    scores = []
    for history, target in (([0], 1), ([0, 1], 2), ([0, 1, 2], 3), ([2], 0)):
        items = np.array([history])
        scores.append(bound_scores(items, np.ones_like(items, bool))[0, target])
    assert loss == pytest.approx(-np.mean(scores), rel=1e-5)
    parts = [loss_fn(params, data, np.array([row]), 0, None)[0] for row in (0, 1)]
    assert np.mean(parts) == pytest.approx(float(loss), rel=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder, config and metrics of a small run that learns a little."""
    folder = tmp_path_factory.mktemp("run")
    config = config_lib.get_config("smoke")
    config.data.synthetic_shop.num_users = 600
    config.data.synthetic_shop.num_items = 100
    config.optimizer.learning_rate = 5e-3
    config.model.update(dim=16, num_heads=1, hidden_dim=16, num_layers=1, dropout=0.1)
    return folder, config, sasrec.run(config, folder)


def test_interactions_on_the_host_change_nothing(run, tmp_path):
    _, config, metrics = run
    config = config.copy_and_resolve_references()
    config.interactions_on = "host"
    found = sasrec.run(config, tmp_path)
    for split in ("valid", "test", "test_new"):
        assert found[f"{split}/ndcg@10"] == metrics[f"{split}/ndcg@10"]


def test_a_run_beats_the_most_popular_items(run):
    _, _, metrics = run
    for protocol in ("test", "test_new"):
        popularity = metrics[f"baseline/popularity/{protocol}/ndcg@10"]
        assert metrics[f"{protocol}/ndcg@10"] > 1.2 * popularity
    assert metrics["train/best_step"] in (100, 200)


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


def test_metrics_are_the_means_of_the_ranks(run):
    folder, _, metrics = run
    ranks = parquet.read_table(folder / "ranks.parquet").to_pydict()
    assert len(ranks.pop("user_id")) == len(ranks.pop("item_id")) == 600
    names = ["test", "test_new"]
    names += [f"baseline/{name}/{split}" for name in ("popularity", "itemknn") for split in names]
    assert list(ranks) == names
    for name, column in ranks.items():
        hits = [rank is not None and rank <= 10 for rank in column]
        assert np.mean(hits) == pytest.approx(metrics[f"{name}/recall@10"], abs=1e-9)
        gains = [0 if rank is None or rank > 10 else 1 / np.log2(rank + 1) for rank in column]
        assert np.mean(gains) == pytest.approx(metrics[f"{name}/ndcg@10"], abs=1e-9)


def test_heads_must_share_the_width(tmp_path):
    config = config_lib.get_config("smoke")
    config.model.num_heads = 3
    with pytest.raises(UserError, match=r"model.dim=128 cannot be split into 3 heads: make it a m"):
        sasrec.run(config, tmp_path)


def test_data_that_have_changed_since_the_start_are_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    items = [json.dumps({"item_id": str(item), "title": f"No. {item}"}) for item in range(12)]
    (folder / "items.jsonl").write_text("\n".join(items))
    rng = np.random.default_rng(0)
    histories = [[f"user-{user}", *map(str, rng.permutation(12)[:6])] for user in range(20)]
    config = config_lib.get_config("files,smoke")
    config.data.dir = str(folder)
    config.model.update(dim=8, num_heads=1, hidden_dim=8, num_layers=1)
    config.update(num_steps=2, eval_every=2, batch_size=4)

    def run_on(histories):
        lines = [" ".join(history) for history in histories]
        (folder / "sequences.txt").write_text("\n".join(lines))
        return sasrec.run(config, tmp_path / "run")

    run_on(histories)
    histories[0][1:3] = histories[0][2:0:-1]  # two events of one user change places
    with pytest.raises(UserError, match=r"run was trained on other data: choose another --workdir"):
        run_on(histories)
