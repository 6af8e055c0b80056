"""A scorer ranks all items, a hybrid what both of its heads find.

A generator is tested with the evaluator and the beam search.
"""

import jax
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.data.corpus import Samples
from genrec_jax.decoding import catalogue_tree, item_scores, prefix_index
from genrec_jax.evaluators import searchers
from genrec_jax.models import hybrid, sasrec

NUM_ITEMS, MAX_HISTORY = 9, 3
IS_UNSEEN = np.arange(NUM_ITEMS) % 3 == 1
HISTORIES = [[1, 2, 3, 4, 5], [8, 8, 0], [6], [4, 2, 7, 1]]


@pytest.fixture(scope="module")
def world():
    """Returns a searcher, its parameters, the data, samples, and all scores [4, 9]."""
    model = sasrec.model(
        num_items=NUM_ITEMS,
        dim=8,
        num_heads=2,
        hidden_dim=8,
        num_layers=1,
        activation="relu",
        dropout=0.5,  # must not matter
        dtype="float32",
    )
    params = model.init(jax.random.key(0))
    ends = np.cumsum([len(history) for history in HISTORIES])
    samples = Samples(np.arange(4), np.append(0, ends[:-1]), ends)
    scores = []
    for history in HISTORIES:
        read = np.array(history[-MAX_HISTORY:])[None]
        scores.append(model.bind(params).scores(read, np.ones_like(read, bool))[0])
    mesh = sharding.make_mesh()
    searcher = searchers.of_scorer(model, mesh, MAX_HISTORY, IS_UNSEEN)
    data = sharding.replicate(mesh, {"items": np.concatenate(HISTORIES).astype(np.int32)})
    return searcher, sharding.replicate(mesh, params), data, samples, np.stack(scores)


@pytest.mark.parametrize("num_beams", [4, NUM_ITEMS, NUM_ITEMS + 3])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("among_unseen", [False, True])
def test_the_best_items_of_those_allowed(world, num_beams, exclude, among_unseen):
    searcher, params, data, samples, all_scores = world
    items, scores = searcher.search(
        params,
        data,
        searcher.unseen_index if among_unseen else searcher.index,
        samples,
        num_beams=num_beams,
        num_excluded=5 if exclude else 0,
        renormalize=among_unseen,
    )
    assert items.shape == scores.shape == (4, num_beams)
    for row, history in enumerate(HISTORIES):
        own = np.asarray(all_scores[row], np.float64)
        if among_unseen:
            own = np.where(IS_UNSEEN, own - np.log(np.exp(own[IS_UNSEEN]).sum()), -np.inf)
        if exclude:
            own[history] = -np.inf
        best = np.argsort(-own)[:num_beams]
        best = best[own[best] > -np.inf]
        assert items[row, : len(best)].tolist() == best.tolist()
        np.testing.assert_allclose(scores[row, : len(best)], own[best], atol=1e-5)
        assert (items[row, len(best) :] == -1).all()
        assert (scores[row, len(best) :] == -np.inf).all()


def test_there_is_no_index_of_unseen_items_if_there_are_none(world):
    searcher, *_ = world
    none = np.zeros(NUM_ITEMS, bool)
    assert searcher.unseen_index is not None
    assert searchers.of_scorer(None, sharding.make_mesh(), 2, none).unseen_index is None


LEVEL_SIZES = (2, 3, 3)
IDS = np.stack(np.unravel_index(np.arange(18)[::2], LEVEL_SIZES), -1).astype(np.int32)
CONTENT = np.random.default_rng(0).normal(size=(NUM_ITEMS, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def hybrid_world():
    """Returns a model and its parameters, the data, and samples."""
    stack = {"dim": 8, "num_heads": 2, "hidden_dim": 8, "num_layers": 1}
    stack["dropout"] = 0.5  # must not matter
    model = hybrid.model(
        num_items=NUM_ITEMS,
        content_dim=4,
        level_sizes=LEVEL_SIZES,
        encoder=stack,
        decoder=stack,
        activation="relu",
        item_dropout=0.5,
        dtype="float32",
    )
    params = model.init(jax.random.key(1))
    params["repeat_bias"] -= 0.1
    params["level_repeat_bias"] += 0.2
    params["items"] *= 4  # so that scores differ as much as the codes' probabilities
    ends = np.cumsum([len(history) for history in HISTORIES])
    samples = Samples(np.arange(4), np.append(0, ends[:-1]), ends)
    return model, params, np.concatenate(HISTORIES).astype(np.int32), samples


def both_log_probs(model, params, history, among):
    """Returns what each head thinks of all items [9], -inf of those that are not among."""
    module, tree = model.bind(params), catalogue_tree.build(IDS, LEVEL_SIZES, ~IS_UNSEEN)
    catalogue = hybrid.Catalogue(CONTENT, ~IS_UNSEEN, tree)
    catalogue = jax.tree.map(jax.numpy.asarray, catalogue)
    vectors = module.vectors(catalogue)
    items = np.array(history[-MAX_HISTORY:])[None]
    memory = module.encode(items, np.zeros_like(items), vectors)
    state, memory = memory.at(np.array([items.shape[1] - 1]))
    scores = np.asarray(module.item_logits(state, memory, vectors)[0, 0], np.float64)
    scores = np.where(among, scores - np.log(np.exp(scores[among]).sum()), -np.inf)
    codes = []
    for item in range(NUM_ITEMS):
        logits = module.code_logits(state, IDS[None, [item]], memory, catalogue.tree)
        index = prefix_index.build(IDS, among)
        codes.append(item_scores.log_probs(index, logits, np.array([[item]]))[0, 0])
    return scores, np.array(codes, np.float64)


@pytest.mark.parametrize(
    "weight, exclude, among_unseen",
    [
        (0, False, False),
        (1, True, False),
        (0.4, False, True),
        (0.4, True, False),
        (0.4, True, True),
    ],
)
def test_a_hybrid_that_considers_all_items_ranks_by_the_mean(
    hybrid_world, weight, exclude, among_unseen
):
    model, params, flat, samples = hybrid_world
    mesh = sharding.make_mesh()
    searcher = searchers.of_hybrid(
        model, mesh, MAX_HISTORY, IDS, LEVEL_SIZES, CONTENT, IS_UNSEEN, weight
    )
    items, scores = searcher.search(
        sharding.replicate(mesh, params),
        searcher.data | sharding.replicate(mesh, {"items": flat}),
        searcher.unseen_index if among_unseen else searcher.index,
        samples,
        num_beams=NUM_ITEMS + 2,
        num_excluded=5 if exclude else 0,
        renormalize=among_unseen,
    )
    for row, history in enumerate(HISTORIES):
        among = IS_UNSEEN if among_unseen else np.ones(NUM_ITEMS, bool)
        by_scores, by_codes = both_log_probs(model, params, history, among)
        mean = np.array(by_codes if weight == 0 else by_scores)
        if 0 < weight < 1:
            mean = weight * by_scores + (1 - weight) * by_codes
        if exclude and weight == 0:
            # Codes are then scored among what is left, see test_beam_search.
            left = set(np.flatnonzero(among)) - set(history)
            assert set(items[row, : len(left)].tolist()) == left
            assert (np.diff(scores[row, : len(left)]) <= 0).all()
            assert (items[row, len(left) :] == -1).all()
            continue
        mean = np.where(among, mean, -np.inf)
        if exclude:
            mean[history] = -np.inf
        best = np.argsort(-mean)
        best = best[mean[best] > -np.inf]
        assert items[row, : len(best)].tolist() == best.tolist()
        np.testing.assert_allclose(scores[row, : len(best)], mean[best], atol=1e-4)
        assert (items[row, len(best) :] == -1).all()


def test_a_hybrid_considers_the_best_of_both_heads(hybrid_world):
    model, params, flat, samples = hybrid_world
    mesh = sharding.make_mesh()
    everything = np.zeros(NUM_ITEMS, bool)
    found = {}
    for weight in (0, 0.4, 1):
        searcher = searchers.of_hybrid(
            model, mesh, MAX_HISTORY, IDS, LEVEL_SIZES, CONTENT, everything, weight
        )
        found[weight], _ = searcher.search(
            sharding.replicate(mesh, params),
            searcher.data | sharding.replicate(mesh, {"items": flat}),
            searcher.index,
            samples,
            num_beams=2,
            num_excluded=0,
            renormalize=False,
        )
    for row in range(len(HISTORIES)):
        both = set(found[0][row].tolist()) | set(found[1][row].tolist())
        assert set(found[0.4][row].tolist()) <= both
    assert (found[0] != found[1]).any()
