"""SASRec: a hand-worked case, and what each place may see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.models import sasrec, transformer

NUM_ITEMS, LENGTH = 7, 4
ITEMS = np.array([[3, 1, 4, 1], [5, 2, 6, 0]], np.int32)
TARGETS = np.array([[1, 4, 1, 5], [2, 6, 0, 0]], np.int32)
MASK = np.array([[True] * 4, [True, True, False, False]])


def make(**changes):
    arguments = {
        "num_items": NUM_ITEMS,
        "dim": 8,
        "num_heads": 2,
        "hidden_dim": 16,
        "num_layers": 2,
        "activation": "gelu",
        "positions": "learned",
        "max_history": LENGTH,
        "dropout": 0.0,
        "dtype": "float32",
    }
    model = sasrec.model(**arguments | changes)
    return model, model.init(jax.random.key(0))


def test_without_its_layers_it_scores_by_the_last_item_alone():
    model, params = make(num_items=3, dim=2, num_heads=1, num_layers=1)
    params["items"] = jnp.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    params["stack"]["places"] *= 0
    params["stack"]["blocks"][0]["self_attention"]["out"] *= 0
    params["stack"]["blocks"][0]["feed_forward"]["down"]["kernel"] *= 0
    # Of root mean square 1, the first item's vector is (3, 4) / sqrt(12.5).
    logits = np.array([25.0, 3.0, 8.0]) / np.sqrt(12.5)
    expected = logits - np.log(np.exp(logits).sum())
    scores = model.bind(params).scores(np.array([[1, 0]]), np.array([[True, True]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


@pytest.mark.parametrize("positions", transformer.POSITIONS)
def test_a_place_sees_what_is_before_it_and_nothing_else(positions):
    model, params = make(positions=positions)
    losses = model.bind(params).losses(ITEMS, MASK, TARGETS)
    for place in range(LENGTH):
        changed = ITEMS.copy()
        changed[:, place] = (changed[:, place] + 1) % NUM_ITEMS
        differs = np.asarray(model.bind(params).losses(changed, MASK, TARGETS) != losses)
        assert not differs[:, :place].any()
        assert differs[0, place:].all()
        assert (differs[1, place:] == MASK[1, place:]).all() or place > 1
    np.testing.assert_array_equal(losses[~MASK], 0)


def test_what_is_masked_does_not_matter():
    model, params = make()
    losses = model.bind(params).losses(ITEMS, MASK, TARGETS)
    short = model.bind(params).losses(ITEMS[1:, :2], MASK[1:, :2], TARGETS[1:, :2])
    np.testing.assert_allclose(losses[1:, :2], short, atol=1e-6)


def test_scores_are_the_losses_of_the_last_place():
    model, params = make()
    module = model.bind(params)
    losses, scores = module.losses(ITEMS, MASK, TARGETS), module.scores(ITEMS, MASK)
    for row, last in enumerate((3, 1)):
        np.testing.assert_allclose(scores[row, TARGETS[row, last]], -losses[row, last], atol=1e-5)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def test_an_empty_history_has_scores():
    model, params = make()
    scores = model.bind(params).scores(ITEMS, np.zeros_like(MASK))
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[1])


def test_dropout_is_for_training():
    model, params = make(dropout=0.5)
    one, other = (
        model.bind(params).losses(ITEMS, MASK, TARGETS, jax.random.key(n)) for n in (1, 2)
    )
    assert (one[MASK] != other[MASK]).all()
    plain, params = make()
    module = model.bind(params)
    np.testing.assert_array_equal(
        module.losses(ITEMS, MASK, TARGETS), plain.bind(params).losses(ITEMS, MASK, TARGETS)
    )


def test_bfloat16_is_close_to_float32():
    model, params = make()
    rough, _ = make(dtype="bfloat16")
    expected = model.bind(params).losses(ITEMS, MASK, TARGETS)
    np.testing.assert_allclose(rough.bind(params).losses(ITEMS, MASK, TARGETS), expected, atol=0.05)
