"""The hybrid: both heads worked by hand, cached against uncached, packed against apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import catalogue_tree, item_scores, prefix_index
from genrec_jax.models import hybrid

LEVEL_SIZES = (2, 3, 3)
ENCODER = {"dim": 8, "num_heads": 2, "hidden_dim": 16, "num_layers": 1, "dropout": 0.0}
DECODER = ENCODER | {"dim": 12, "num_heads": 3}
DEEP = {"encoder": ENCODER | {"num_layers": 2}, "decoder": DECODER | {"num_layers": 2}}
IDS = np.array([[1, 0, 2], [0, 2, 0], [1, 0, 1], [1, 2, 0], [0, 0, 1], [0, 1, 1], [1, 1, 2]])
NUM_ITEMS, LENGTH = 7, 5
IS_KNOWN = np.arange(NUM_ITEMS) != 5
TREE = catalogue_tree.build(IDS, LEVEL_SIZES, IS_KNOWN)
CONTENT = np.random.default_rng(0).normal(size=(NUM_ITEMS, 4)).astype(np.float32)
CATALOGUE = jax.tree.map(jnp.asarray, hybrid.Catalogue(CONTENT, IS_KNOWN, TREE))
# A history of three items and one of two; one of four.
ITEMS = np.array([[3, 1, 4, 5, 2], [1, 6, 0, 2, 0]], np.int32)
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, -1]], np.int32)
HAS_TARGET = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 0, 0]], bool)


def make(**changes):
    arguments = {
        "num_items": NUM_ITEMS,
        "content_dim": CONTENT.shape[1],
        "level_sizes": LEVEL_SIZES,
        "encoder": ENCODER,
        "decoder": DECODER,
        "activation": "gelu",
        "item_dropout": 0.0,
        "dtype": "float32",
    }
    model = hybrid.model(**arguments | changes)
    params = model.init(jax.random.key(0))
    params["repeat_bias"] += 0.05
    params["level_repeat_bias"] += np.array([0.3, 0.2, 0.1], np.float32)
    return model, params


@functools.partial(jax.jit, static_argnames=("model", "smoothing"))
def losses_of(
    model, params, items=ITEMS, segments=SEGMENTS, catalogue=CATALOGUE, smoothing=0.0, rng=None
):
    return model.bind(params).losses(items, segments, catalogue, smoothing, rng)


@functools.partial(jax.jit, static_argnames=("model", "method", "level"))
def call(model, params, method, *arguments, **named):
    """Returns what this method of the model gives, compiled as a whole."""
    return getattr(model.bind(params), method)(*arguments, **named)


def read(model, params, histories):
    """Returns the vectors, and the state and memory of each history's last place."""
    vectors = call(model, params, "vectors", CATALOGUE)
    items = np.zeros((len(histories), LENGTH), np.int32)
    mask = np.arange(LENGTH) < np.array([[len(history)] for history in histories])
    items[mask] = np.concatenate(histories)
    memory = call(model, params, "encode", items, np.where(mask, 0, -1), vectors)
    return vectors, *memory.at(hybrid.last_places(mask))


def test_losses_are_those_of_what_a_search_computes():
    model, params = make()
    item_losses, _, code_losses = losses_of(model, params)
    np.testing.assert_array_equal(np.asarray(item_losses > 0), HAS_TARGET)
    assert (code_losses[~HAS_TARGET] == 0).all()
    vectors, state, memory = read(model, params, [[1], [1, 6], [1, 6, 0]])
    targets = np.array([[6], [0], [2]])
    scores = call(model, params, "item_logits", state, memory, vectors)[:, 0]
    scores = jax.nn.log_softmax(scores, where=IS_KNOWN)
    np.testing.assert_allclose(
        np.take_along_axis(np.asarray(scores), targets, 1)[:, 0], -item_losses[1, :3], atol=1e-5
    )
    logits = call(model, params, "code_logits", state, TREE.codes[targets], memory, CATALOGUE.tree)
    scores = item_scores.log_probs(prefix_index.build(IDS, IS_KNOWN), logits, targets)
    np.testing.assert_allclose(scores[:, 0], -code_losses[1, :3].sum(axis=-1), atol=1e-5)


def test_backwards_the_item_before_is_predicted():
    """With the second encoder's parameters in both places, it is the loss of turned histories."""
    model, params = make()
    backward = losses_of(model, params).backward
    has_target = np.array([[0, 1, 1, 0, 1], [0, 1, 1, 1, 0]], bool)
    np.testing.assert_array_equal(np.asarray(backward > 0), has_target)
    turned = params | {"encoder": params["backward_encoder"], "repeat_bias": jnp.zeros(())}
    expected = losses_of(model, turned, ITEMS[:, ::-1], SEGMENTS[:, ::-1]).items
    np.testing.assert_allclose(backward, expected[:, ::-1], atol=1e-5)


def test_the_bias_of_repeats_alone_learns_from_them():
    """Its gradient is that of a loss that counts on it, and all others' of one that does not."""
    model, params = make()
    items = np.array([[1, 3, 1, 4, 2], [6, 6, 2, 6, 0]], np.int32)  # 1 and 6 come again

    @jax.jit
    def gradients(params):
        def loss(params):
            return losses_of(model, params, items).items.sum()

        return jax.value_and_grad(loss)(params)

    @jax.jit
    def counting_gradients(params):
        def loss(params):
            module = model.bind(params)
            vectors = module.vectors(CATALOGUE)
            memory = module.encode(items, SEGMENTS, vectors)
            logits = module.item_logits(memory.states, memory, vectors)
            logits = jax.nn.log_softmax(logits, where=IS_KNOWN)
            targets = jnp.roll(items, -1, axis=1)[..., None]
            chosen = jnp.take_along_axis(logits, targets, axis=-1)[..., 0]
            return -jnp.where(HAS_TARGET, chosen, 0).sum()

        return jax.value_and_grad(loss)(params)

    def without(params):
        return {name: value for name, value in params.items() if name != "repeat_bias"}

    (loss, found), (expected_loss, counting) = gradients(params), counting_gradients(params)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(found["repeat_bias"], counting["repeat_bias"], rtol=1e-4)
    assert abs(found["repeat_bias"]) > 1
    _, plain = counting_gradients(params | {"repeat_bias": jnp.zeros(())})
    for one, other in zip(*map(jax.tree.leaves, (without(found), without(plain))), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_an_item_that_training_lacks_is_no_alternative():
    model, params = make()
    changed = CATALOGUE._replace(content=CATALOGUE.content.at[5].add(1))
    items = np.where(ITEMS == 5, 6, ITEMS)  # as training has it
    before, after = (
        losses_of(model, params, items, SEGMENTS, one, 0.1) for one in (CATALOGUE, changed)
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_are_finite_where_a_history_has_all_items():
    """The bias then weighs all that is likely, and might be far from 0 on either side."""
    model, params = make()
    items, segments = np.array([[0, 1, 2, 3, 4, 6, 0]]), np.array([[0, 0, 0, 0, 0, 0, -1]])
    gradients = jax.jit(
        jax.grad(lambda params: sum(map(jnp.sum, losses_of(model, params, items, segments))))
    )
    for bias in (-4.0, 12.0):
        found = gradients(params | {"repeat_bias": jnp.array(bias)})
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_gradients_are_finite_where_nothing_follows():
    model, params = make()
    is_known = np.arange(NUM_ITEMS) != 1  # what rolls to the end of the first row's histories
    catalogue = CATALOGUE._replace(
        is_known=is_known, tree=catalogue_tree.build(IDS, LEVEL_SIZES, is_known)
    )
    catalogue = jax.tree.map(jnp.asarray, catalogue)

    @jax.jit
    @jax.grad
    def gradients(params):
        items, segments = np.array([[2, 3, 4, 1, 1]]), np.array([[0, 0, 0, -1, -1]])
        return sum(map(jnp.sum, losses_of(model, params, items, segments, catalogue)))

    for gradient in jax.tree.leaves(gradients(params)):
        assert np.isfinite(gradient).all()


def test_packed_histories_have_the_losses_of_rows_of_their_own():
    model, params = make(**DEEP)
    together = losses_of(model, params)
    for history, places in (([3, 1, 4], slice(0, 3)), ([5, 2], slice(3, 5))):
        items = np.array([history])
        apart = losses_of(model, params, items, np.zeros_like(items))
        for one, other in zip(together, apart, strict=True):
            np.testing.assert_allclose(one[0, places], other[0], atol=1e-5)


def test_a_step_of_a_search_gives_the_logits_of_training():
    model, params = make(**DEEP)
    _, state, memory = read(model, params, [[1, 6, 0], [3]])
    beams = np.broadcast_to(np.arange(NUM_ITEMS), (2, NUM_ITEMS))
    everywhere = memory._replace(sees=np.repeat(memory.sees, NUM_ITEMS, axis=1))
    states = np.repeat(state, NUM_ITEMS, axis=1)
    expected = call(
        model, params, "code_logits", states, TREE.codes[beams], everywhere, CATALOGUE.tree
    )
    shared, cache = call(model, params, "start_search", memory)
    for level in range(3):
        codes = None if level == 0 else TREE.codes[beams, level - 1]
        logits, cache = call(
            model,
            params,
            "search_step",
            level=level,
            codes=codes,
            cache=cache,
            state=state,
            shared=shared,
            memory=memory,
            tree=CATALOGUE.tree,
        )
        np.testing.assert_allclose(
            np.broadcast_to(logits, expected[level].shape), expected[level], atol=1e-5
        )
        if level == 0:  # all items' beams begin as one
            cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, NUM_ITEMS, axis=1), cache)


def test_items_that_come_again_are_scored_by_what_is_learned_of_repeats():
    model, params = make()
    none = params | {"repeat_bias": 0 * params["repeat_bias"]}
    logits = []
    for one in (params, none):
        vectors, state, memory = read(model, one, [[1, 6, 1]])
        logits.append(np.asarray(call(model, one, "item_logits", state, memory, vectors)[0, 0]))
    change = np.zeros(NUM_ITEMS)
    change[[1, 6]] = 0.5  # 10 times 0.05, once
    np.testing.assert_allclose(logits[0] - logits[1], change, atol=1e-5)


def test_codes_are_scored_by_how_many_of_their_items_are_left():
    model, params = make()
    none = params | {"level_repeat_bias": 0 * params["level_repeat_bias"]}
    differences = []
    for one in (params, none):
        _, state, memory = read(model, one, [[0, 1]])  # 1 0 2 and 0 2 0
        codes = np.array([[[1, 0, 1]]])
        differences.append(call(model, one, "code_logits", state, codes, memory, CATALOGUE.tree))
    least = np.log(1e-4)
    expected = (
        [0.3 * np.log(2 / 3), 0.3 * np.log(3 / 4)],  # one of 3 and one of 4 items
        [0.2 * np.log(1 / 2), 0, 0],  # of 1 0 one of two items; 0 2 is not below 1
        [0, 0, 0.1 * least],  # all of 1 0 2
    )
    for level in range(3):
        change = differences[0][level] - differences[1][level]
        np.testing.assert_allclose(change[0, 0], expected[level], atol=1e-5)


def test_an_item_that_training_lacks_has_its_content_alone():
    model, params = make()
    vectors = call(model, params, "vectors", CATALOGUE)
    np.testing.assert_allclose(vectors[5], CONTENT[5] @ params["content"]["kernel"], rtol=1e-5)
    own = np.asarray(vectors - CONTENT @ params["content"]["kernel"])
    np.testing.assert_allclose(own[IS_KNOWN], params["items"][IS_KNOWN], atol=1e-6)


def test_a_place_sees_what_is_before_it_in_its_history_and_nothing_else():
    model, params = make()
    vectors = call(model, params, "vectors", CATALOGUE)
    states = call(model, params, "encode", ITEMS, SEGMENTS, vectors).states
    for place in range(LENGTH):
        changed = ITEMS.copy()
        changed[:, place] = (changed[:, place] + 1) % NUM_ITEMS
        differs = np.any(
            call(model, params, "encode", changed, SEGMENTS, vectors).states != states, axis=-1
        )
        sees = (SEGMENTS == SEGMENTS[:, [place]]) & (np.arange(LENGTH) >= place)
        np.testing.assert_array_equal(differs[SEGMENTS >= 0], sees[SEGMENTS >= 0])


def test_an_empty_history_has_finite_logits():
    model, params = make()
    vectors = call(model, params, "vectors", CATALOGUE)
    memory = call(model, params, "encode", ITEMS[:1], np.full((1, LENGTH), -1), vectors)
    state, memory = memory.at(np.array([0]))
    codes = TREE.codes[[[2]]]
    logits = call(model, params, "code_logits", state, codes, memory, CATALOGUE.tree)
    assert all(np.isfinite(level).all() for level in logits)
    assert np.isfinite(call(model, params, "item_logits", state, memory, vectors)).all()


@pytest.mark.parametrize(
    ("settings", "is_used"),
    [
        ({"encoder": ENCODER | {"dropout": 0.5}}, (True, True, True)),
        ({"decoder": DECODER | {"dropout": 0.5}}, (False, False, True)),
        ({"item_dropout": 0.5}, (True, True, True)),
    ],
)
def test_dropout_is_for_training(settings, is_used):
    model, params = make(**settings)
    one, other = (losses_of(model, params, rng=jax.random.key(n)) for n in (1, 3))
    for first, second, differs in zip(one, other, is_used, strict=True):
        assert np.any(first != second) == differs
    plain, params = make()
    expected = losses_of(plain, params)
    for value, wanted in zip(losses_of(model, params), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_bfloat16_is_close_to_float32():
    model, params = make()
    rough, _ = make(dtype="bfloat16")
    expected = losses_of(model, params)
    for value, wanted in zip(losses_of(rough, params), expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=0.1)
