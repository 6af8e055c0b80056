"""A scorer ranks all items; a generator is tested with the evaluator and the beam search."""

import jax
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.data.corpus import Samples
from genrec_jax.evaluators import searchers
from genrec_jax.models import sasrec

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
        positions="learned",
        max_history=MAX_HISTORY,
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
