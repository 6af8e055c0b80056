"""Identities of the encoder-decoder; its numbers are tested in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.models import encoder_decoder

LEVELS = (7, 5, 6, 3)


def make(**changes):
    arguments = {
        "level_sizes": LEVELS,
        "embedding_dim": 12,
        "dim": 8,
        "num_heads": 2,
        "head_dim": 5,
        "hidden_dim": 16,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "activation": "relu",
        "dropout": 0.3,
        "use_separator": False,
        "num_user_bins": 0,
        "dtype": "float32",
    }
    model = encoder_decoder.model(**(arguments | changes))
    return model, model.init(jax.random.key(0))


def batch(past=3, size=4):
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, k, (size, past)) for k in LEVELS], axis=-1)
    targets = np.stack([rng.integers(0, k, size) for k in LEVELS], axis=-1)
    mask = np.arange(past) < np.array([[past], [2], [1], [past]])
    return codes.astype(np.int32), mask, targets.astype(np.int32)


@pytest.mark.parametrize("changes", [{}, {"use_separator": True, "num_user_bins": 3}])
def test_searching_step_by_step_equals_decoding_at_once(changes):
    model, params = make(**changes)
    codes, mask, targets = batch()
    module = model.bind(params)
    memory = module.encode(codes, mask, jnp.arange(4))
    at_once = module.decode(targets, memory)
    shared, caches = module.start_search(memory)
    for level in range(len(LEVELS)):
        before = targets[:, level - 1][:, None] if level else None
        log_probs, caches = module.search_step(level, before, caches, shared, memory.mask)
        expected = jax.nn.log_softmax(at_once[level])
        np.testing.assert_allclose(log_probs[:, 0], expected, atol=1e-5)


def test_beams_do_not_see_each_other():
    model, params = make()
    codes, mask, _ = batch()
    module = model.bind(params)
    memory = module.encode(codes, mask)
    shared, caches = module.start_search(memory)
    _, caches = module.search_step(0, None, caches, shared, memory.mask)
    two = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=1), caches)
    beams = jnp.array([[1, 4]] * 4)
    together, _ = module.search_step(1, beams, two, shared, memory.mask)
    for beam in range(2):
        alone, _ = module.search_step(1, beams[:, [beam]], caches, shared, memory.mask)
        np.testing.assert_allclose(together[:, [beam]], alone, atol=1e-5)


@pytest.mark.parametrize("use_separator", [False, True])
def test_padding_changes_nothing(use_separator):
    model, params = make(use_separator=use_separator)
    codes, mask, targets = batch()
    padded_codes = np.concatenate([codes, np.full_like(codes, 2)], axis=1)
    padded_codes[~np.concatenate([mask, mask & False], axis=1)] = -1  # nothing is there
    padded_mask = np.concatenate([mask, np.zeros_like(mask)], axis=1)
    module = model.bind(params)
    losses = module.losses(codes, mask, targets)
    np.testing.assert_allclose(module.losses(padded_codes, padded_mask, targets), losses, atol=1e-5)


def test_the_order_of_the_history_matters():
    model, params = make()
    codes, _, targets = batch()
    module = model.bind(params)
    mask = np.ones(codes.shape[:2], bool)
    forward, backward = (module.losses(c, mask, targets) for c in (codes, codes[:, ::-1]))
    assert np.abs(forward - backward).max() > 1e-3


def test_a_code_knows_its_level():
    """The same number at another level is another token."""
    model, params = make()
    module = model.bind(params)
    x, _ = module.encoder_inputs(jnp.full((1, 1, 4), 2), jnp.ones((1, 1), bool))
    rows = params["tokens"][jnp.array([2, 7 + 2, 12 + 2, 18 + 2])] @ params["projection"]["kernel"]
    np.testing.assert_allclose(x[0], rows, rtol=1e-5)


def test_later_codes_do_not_leak_into_earlier_levels():
    model, params = make()
    codes, mask, targets = batch()
    module = model.bind(params)
    memory = module.encode(codes, mask)
    changed = targets.copy()
    changed[:, 2] = (changed[:, 2] + 1) % LEVELS[2]
    before, after = module.decode(targets, memory), module.decode(changed, memory)
    for level in range(3):
        np.testing.assert_array_equal(before[level], after[level])
    assert np.abs(before[3] - after[3]).max() > 1e-3


def test_dropout_draws_another_mask_for_another_key():
    model, params = make()
    codes, mask, targets = batch()

    def losses(rng):
        return np.asarray(model.bind(params).losses(codes, mask, targets, rng=rng))

    first, second = losses(jax.random.key(1)), losses(jax.random.key(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(losses(jax.random.key(1)), first)
    np.testing.assert_array_equal(losses(None), losses(None))


def test_bfloat16_computes_nearly_the_same():
    codes, mask, targets = batch()
    model, params = make()
    low, _ = make(dtype="bfloat16")
    expected = model.bind(params).losses(codes, mask, targets)
    actual = low.bind(params).losses(codes, mask, targets)
    assert actual.dtype == jnp.float32
    # bfloat16 has 8 bits: relative errors of 2**-8 in each of two layers' sums.
    np.testing.assert_allclose(actual, expected, atol=0.1)


def test_tokens_can_start_from_codebooks():
    _, params = make(embedding_dim=8)
    scales = jnp.array([5.0, 0.1])[:, None, None]
    codebooks = scales * jax.random.normal(jax.random.key(1), (2, 3, 4))
    started = encoder_decoder.with_codebook_tokens(params, codebooks, jax.random.key(2))
    tokens = started["tokens"]
    np.testing.assert_array_equal(tokens[6:], params["tokens"][6:])  # no codebook
    for level in range(2):
        rows, codewords = tokens[3 * level : 3 * level + 3], codebooks[level]
        assert float(rows.std()) == pytest.approx(1, rel=1e-4)
        # A rotation and one factor: the angles between codewords stay.
        np.testing.assert_allclose(cosines(rows), cosines(codewords), atol=1e-4)


def cosines(vectors):
    unit = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T
