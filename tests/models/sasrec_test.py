"""SASRec: a hand-worked case, and what each place may see."""

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.models import sasrec

NUM_ITEMS, LENGTH = 7, 5
# A history of three items and one of two; one of four.
ITEMS = np.array([[3, 1, 4, 5, 2], [1, 6, 0, 2, 0]], np.int32)
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, -1]], np.int32)
HAS_TARGET = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 0, 0]], bool)


def make(**changes):
    arguments = {
        "num_items": NUM_ITEMS,
        "dim": 8,
        "num_heads": 2,
        "hidden_dim": 16,
        "num_layers": 2,
        "activation": "gelu",
        "dropout": 0.0,
        "dtype": "float32",
    }
    model = sasrec.model(**arguments | changes)
    return model, model.init(jax.random.key(0))


def test_without_its_layers_it_scores_by_the_last_item_alone():
    model, params = make(num_items=3, dim=2, num_heads=1, num_layers=1)
    params["items"] = jnp.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    params["stack"]["blocks"][0]["self_attention"]["out"] *= 0
    params["stack"]["blocks"][0]["feed_forward"]["down"]["kernel"] *= 0
    # Of root mean square 1, the first item's vector is (3, 4) / sqrt(12.5).
    logits = np.array([25.0, 3.0, 8.0]) / np.sqrt(12.5)
    expected = logits - np.log(np.exp(logits).sum())
    scores = model.bind(params).scores(np.array([[1, 0]]), np.array([[True, True]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_a_place_sees_what_is_before_it_in_its_history_and_nothing_else():
    model, params = make()
    states = model.bind(params).states(ITEMS, SEGMENTS)
    for place in range(LENGTH):
        changed = ITEMS.copy()
        changed[:, place] = (changed[:, place] + 1) % NUM_ITEMS
        differs = np.any(model.bind(params).states(changed, SEGMENTS) != states, axis=-1)
        sees = (SEGMENTS == SEGMENTS[:, [place]]) & (np.arange(LENGTH) >= place)
        np.testing.assert_array_equal(differs[SEGMENTS >= 0], sees[SEGMENTS >= 0])


def test_packed_histories_have_the_losses_of_rows_of_their_own():
    model, params = make()
    losses = model.bind(params).losses(ITEMS, SEGMENTS)
    assert (np.asarray(losses > 0) == HAS_TARGET).all()
    for history, places in (([3, 1, 4], slice(0, 3)), ([5, 2], slice(3, 5))):
        items = np.array([history])
        own = model.bind(params).losses(items, np.zeros_like(items))
        np.testing.assert_allclose(losses[0, places], own[0], atol=1e-6)


def test_losses_are_those_of_the_scores():
    model, params = make()
    module = model.bind(params)
    losses = module.losses(ITEMS, SEGMENTS)
    for past in (1, 2, 3):
        scores = module.scores(ITEMS[1:], np.arange(LENGTH)[None] < past)
        np.testing.assert_allclose(scores[0, ITEMS[1, past]], -losses[1, past - 1], atol=1e-5)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def test_an_empty_history_has_scores():
    model, params = make()
    scores = model.bind(params).scores(ITEMS, np.zeros_like(HAS_TARGET))
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[1])


def test_dropout_is_for_training():
    model, params = make(dropout=0.5)
    module = model.bind(params)
    one, other = (module.losses(ITEMS, SEGMENTS, jax.random.key(n)) for n in (1, 2))
    assert (one[HAS_TARGET] != other[HAS_TARGET]).all()
    plain, params = make()
    expected = plain.bind(params).losses(ITEMS, SEGMENTS)
    np.testing.assert_array_equal(module.losses(ITEMS, SEGMENTS), expected)


def test_bfloat16_is_close_to_float32():
    model, params = make()
    rough, _ = make(dtype="bfloat16")
    expected = model.bind(params).losses(ITEMS, SEGMENTS)
    np.testing.assert_allclose(rough.bind(params).losses(ITEMS, SEGMENTS), expected, atol=0.05)
