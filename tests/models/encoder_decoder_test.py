"""Identities of the encoder-decoder; its numbers are tested in tests/parity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from genrec_jax.models import encoder_decoder, transformer

LEVELS = (7, 5, 6, 3)
TOKENS = {"use_separator": True, "num_user_bins": 3}
LAYOUTS = [{}, TOKENS, TOKENS | {"positions": "learned"}]


@functools.cache
def make(**changes):
    """Returns a small model and random parameters, drawn by NumPy: nothing is compiled."""
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
        "positions": "relative",
        "max_history": 6,
        "dropout": 0.3,
        "use_separator": False,
        "num_user_bins": 0,
        "dtype": "float32",
    }
    model = encoder_decoder.model(**(arguments | changes))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "scale":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, 0.4, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return model, jax.tree_util.tree_map_with_path(draw, shapes)


def batch(past=3, size=4):
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, k, (size, past)) for k in LEVELS], axis=-1)
    targets = np.stack([rng.integers(0, k, size) for k in LEVELS], axis=-1)
    mask = np.arange(past) < np.array([[past], [2], [1], [past]])
    return codes.astype(np.int32), mask, targets.astype(np.int32)


def losses_of(model, params):
    """Returns `losses(codes, mask, targets, users, rng)` of the bound model, jitted."""
    return jax.jit(lambda *args, **kwargs: model.bind(params).losses(*args, **kwargs))


@pytest.mark.parametrize("changes", LAYOUTS)
def test_searching_step_by_step_equals_decoding_at_once(changes):
    model, params = make(**changes)
    codes, mask, targets = batch()

    @jax.jit
    def both(params):
        module = model.bind(params)
        memory = module.encode(codes, mask, jnp.arange(4))
        shared, caches = module.start_search(memory)
        one_by_one = []
        for level in range(len(LEVELS)):
            before = targets[:, level - 1][:, None] if level else None
            log_probs, caches = module.search_step(level, before, caches, shared, memory.mask)
            one_by_one.append(log_probs[:, 0])
        return one_by_one, [jax.nn.log_softmax(x) for x in module.decode(targets, memory)]

    for level, (one_by_one, at_once) in enumerate(zip(*both(params), strict=True)):
        assert one_by_one.shape == (4, LEVELS[level])
        np.testing.assert_allclose(one_by_one, at_once, atol=1e-5)


def test_beams_do_not_see_each_other():
    model, params = make()
    codes, mask, _ = batch()
    beams = jnp.array([[1, 4]] * 4)

    @jax.jit
    def search(params):
        module = model.bind(params)
        memory = module.encode(codes, mask)
        shared, caches = module.start_search(memory)
        _, caches = module.search_step(0, None, caches, shared, memory.mask)
        two = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=1), caches)
        together, _ = module.search_step(1, beams, two, shared, memory.mask)
        alone = [
            module.search_step(1, beams[:, [beam]], caches, shared, memory.mask)[0]
            for beam in range(2)
        ]
        return together, jnp.concatenate(alone, axis=1)

    together, alone = search(params)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3


@pytest.mark.parametrize("changes", LAYOUTS)
def test_padding_changes_nothing(changes):
    model, params = make(**changes)
    codes, mask, targets = batch()
    padded_codes = np.concatenate([codes, np.full_like(codes, 2)], axis=1)
    padded_codes[~np.concatenate([mask, mask & False], axis=1)] = -1  # nothing is there
    padded_mask = np.concatenate([mask, np.zeros_like(mask)], axis=1)
    losses, users = losses_of(model, params), jnp.arange(4)
    expected = losses(codes, mask, targets, users)
    padded = losses(padded_codes, padded_mask, targets, users)
    np.testing.assert_allclose(padded, expected, atol=1e-5)


@pytest.mark.parametrize("positions", transformer.POSITIONS)
def test_the_order_of_the_history_matters(positions):
    model, params = make(positions=positions)
    codes, _, targets = batch()
    mask = np.ones(codes.shape[:2], bool)
    losses = losses_of(model, params)
    forward, backward = (losses(c, mask, targets) for c in (codes, codes[:, ::-1]))
    assert np.abs(forward - backward).max() > 1e-3


def test_learned_places_have_a_row_for_each_place():
    _, params = make(positions="learned", use_separator=True, num_user_bins=3)
    assert params["encoder"]["places"].shape == (1 + 6 * (4 + 1), 8)
    assert params["decoder"]["places"].shape == (4, 8)
    assert "relative_bias" not in params["encoder"]


def test_users_share_tokens_modulo_the_bins():
    model, params = make(use_separator=True, num_user_bins=3)
    codes, mask, targets = (x[:1].repeat(4, axis=0) for x in batch())
    first, other, same, negative = losses_of(model, params)(
        codes, mask, targets, jnp.array([1, 2, 301, -2])
    )
    np.testing.assert_allclose(same, first, atol=1e-6)
    np.testing.assert_allclose(negative, first, atol=1e-6)
    assert np.abs(other - first).max() > 1e-3


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
    changed = targets.copy()
    changed[:, 2] = (changed[:, 2] + 1) % LEVELS[2]

    @jax.jit
    def decode(targets):
        module = model.bind(params)
        return module.decode(targets, module.encode(codes, mask))

    before, after = decode(targets), decode(changed)
    for level in range(3):
        np.testing.assert_array_equal(before[level], after[level])
    assert np.abs(before[3] - after[3]).max() > 1e-3


def test_dropout_draws_another_mask_for_another_key():
    model, params = make(num_encoder_layers=1, num_decoder_layers=1)
    losses = losses_of(model, params)
    keys = [jax.random.key(n, impl="unsafe_rbg") for n in (1, 1, 2)]  # compiles in half the time
    first, again, second = (losses(*batch(), rng=key) for key in keys)
    none = losses(*batch())
    np.testing.assert_array_equal(again, first)
    assert np.abs(first - second).max() > 1e-3 and np.abs(first - none).max() > 1e-3


def test_dropout_sits_on_inputs_weights_outputs_and_inside_the_feed_forward():
    model, params = make()

    @jax.jit
    def draws(params, codes, mask, targets):
        module, counts = model.bind(params), []
        rngs = nnx.Rngs(dropout=0)
        memory = module.encode(codes, mask, rngs=rngs)
        counts.append(rngs.dropout.count[...])
        rngs = nnx.Rngs(dropout=0)
        module.decode(targets, memory, rngs)
        return [*counts, rngs.dropout.count[...]]

    encoder, decoder = draws(params, *batch())
    # The input, the last norm, and two for each sub-layer: two sub-layers or three, two blocks.
    assert int(encoder) == 1 + 1 + 2 * 2 * 2
    assert int(decoder) == 1 + 1 + 2 * 3 * 2


def test_weights_start_with_the_spread_that_their_inputs_call_for():
    sizes = {"embedding_dim": 96, "dim": 64, "num_heads": 4, "head_dim": 24, "hidden_dim": 160}
    depths = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    model, _ = make(**sizes, **depths, use_separator=True, num_user_bins=5)
    params = jax.jit(model.init)(jax.random.key(0, impl="unsafe_rbg"))
    attention = {
        "query": (64 * 24) ** -0.5,  # T5 has the 1 / sqrt(H) of the scores here
        "key": 64**-0.5,
        "value": 64**-0.5,
        "out": (4 * 24) ** -0.5,
    }
    expected = {
        **{
            f"{name}_attention/{matrix}": std
            for name in ("self", "cross")
            for matrix, std in attention.items()
        },
        "up/kernel": 64**-0.5,
        "down/kernel": 160**-0.5,
        "relative_bias/table": 64**-0.5,
        "projection/kernel": 96**-0.5,
        **{f"heads/{level}/kernel": 64**-0.5 for level in range(len(LEVELS))},
        **dict.fromkeys(("tokens", "start", "separator", "users"), 1.0),
    }
    seen = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = "/".join(str(key.key) for key in path)
        if name.endswith("scale"):
            np.testing.assert_array_equal(leaf, 1)
            continue
        (ending,) = [ending for ending in expected if name.endswith(ending)]
        seen.add(ending)
        # The spread of n draws is itself uncertain by 1 / sqrt(2 n); four times that.
        spread = float(jnp.sqrt(jnp.mean(leaf**2)))
        assert spread == pytest.approx(expected[ending], rel=4 / (2 * leaf.size) ** 0.5), name
    assert seen == set(expected)


def test_bfloat16_computes_nearly_the_same():
    model, params = make()
    low, _ = make(dtype="bfloat16")
    expected = losses_of(model, params)(*batch())
    actual = losses_of(low, params)(*batch())
    assert actual.dtype == jnp.float32
    # bfloat16 has 8 bits: relative errors of 2**-8 in each of two layers' sums.
    np.testing.assert_allclose(actual, expected, atol=0.1)
    assert np.abs(actual - expected).max() > 1e-6  # it was bfloat16


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


def test_codewords_wider_than_the_table_are_projected_to_its_variance():
    _, params = make(embedding_dim=8)
    codebooks = 3 * jax.random.normal(jax.random.key(1), (2, 5, 20))
    started = encoder_decoder.with_codebook_tokens(params, codebooks, jax.random.key(2))
    assert started["tokens"].shape == params["tokens"].shape
    for level in range(2):
        rows = started["tokens"][5 * level : 5 * level + 5]
        assert float(rows.std()) == pytest.approx(1, rel=1e-4)


def cosines(vectors):
    unit = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T
