"""Beam search against the whole catalogue, scored one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.beam_search import beam_search
from genrec_jax.models import encoder_decoder
from genrec_jax.models.encoder_decoder import Memory

LEVELS = (6, 7, 8, 3)
NUM_ITEMS, NUM_USERS, PAST = 240, 6, 5


class World:
    """A catalogue, users with histories of different lengths, and a random model."""

    def __init__(self):
        rng = np.random.default_rng(0)
        space = rng.permutation(np.prod(LEVELS))[:NUM_ITEMS]
        self.ids = np.stack(np.unravel_index(space, LEVELS), axis=-1).astype(np.int32)
        self.index = prefix_index.build(self.ids)
        self.history = rng.integers(0, NUM_ITEMS, (NUM_USERS, PAST))
        self.mask = np.arange(PAST) < np.array([[5], [1], [3], [5], [2], [4]])
        model = encoder_decoder.model(
            level_sizes=LEVELS,
            embedding_dim=8,
            dim=16,
            num_heads=2,
            head_dim=8,
            hidden_dim=32,
            num_encoder_layers=1,
            num_decoder_layers=2,
            activation="relu",
            dropout=0.0,
            use_separator=False,
            num_user_bins=0,
            dtype="float32",
        )
        self.module = model.bind(model.init(jax.random.key(3)))
        self.scores = self.score_all()

    def score_all(self):
        """Returns [users, items]: the log-probability of every ID, given its true codes."""
        memory = self.module.encode(self.ids[self.history], self.mask)
        scores = []
        for user in range(NUM_USERS):
            ours = Memory(*(jnp.repeat(x[user : user + 1], NUM_ITEMS, axis=0) for x in memory))
            log_probs = [jax.nn.log_softmax(x) for x in self.module.decode(self.ids, ours)]
            chosen = [
                np.take_along_axis(np.asarray(x), self.ids[:, [level]], 1)[:, 0]
                for level, x in enumerate(log_probs)
            ]
            scores.append(np.sum(chosen, axis=0))
        return np.stack(scores)

    def search(self, num_beams, exclude=False, users=slice(None)):
        history, mask = self.history[users], self.mask[users]

        @jax.jit
        def run(index, history, mask):
            memory = self.module.encode(jnp.asarray(self.ids)[history], mask)
            shared, cache = self.module.start_search(memory)
            excluded = None
            if exclude:
                excluded = prefix_index.sorted_exclusions(index, history, mask)

            def step(level, codes, cache):
                return self.module.search_step(level, codes, cache, shared, memory.mask)

            return beam_search(step, cache, index, num_beams, len(history), excluded)

        items, scores = run(self.index, history, mask)
        return np.asarray(items), np.asarray(scores)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("exclude", [False, True])
def test_exhaustive_search_equals_brute_force(world, exclude):
    items, scores = world.search(NUM_ITEMS, exclude)
    for user in range(NUM_USERS):
        expected = world.scores[user].copy()
        if exclude:
            expected[world.history[user][world.mask[user]]] = -np.inf
        allowed = int((expected > -np.inf).sum())
        order = np.argsort(-expected)[:allowed]
        np.testing.assert_allclose(scores[user, :allowed], expected[order], atol=1e-4)
        np.testing.assert_array_equal(items[user, allowed:], -1)
        np.testing.assert_array_equal(scores[user, allowed:], -np.inf)
        # Each item once, and with its own score, whatever the order of near ties.
        assert sorted(items[user, :allowed]) == sorted(order)
        np.testing.assert_allclose(
            scores[user, :allowed], expected[items[user, :allowed]], atol=1e-4
        )


@pytest.mark.parametrize("exclude", [False, True])
def test_few_beams_return_true_scores_of_distinct_allowed_items(world, exclude):
    items, scores = world.search(20, exclude)
    for user in range(NUM_USERS):
        assert len(set(items[user])) == 20 and (items[user] >= 0).all()
        np.testing.assert_allclose(scores[user], world.scores[user, items[user]], atol=1e-4)
        assert (np.diff(scores[user]) <= 0).all()
        if exclude:
            assert not set(items[user]) & set(world.history[user][world.mask[user]])


def test_the_order_of_the_batch_does_not_matter(world):
    users = np.array([4, 0, 5, 2, 1, 3])
    items, scores = world.search(15, exclude=True)
    permuted_items, permuted_scores = world.search(15, exclude=True, users=users)
    np.testing.assert_array_equal(permuted_items, items[users])
    np.testing.assert_allclose(permuted_scores, scores[users], atol=1e-5)


def table_step(*tables):
    """Returns a step whose log-probabilities depend on the code before alone."""

    def step(level, codes, cache):
        table = jnp.log(jnp.array(tables[level]))
        rows = table[None, None] if codes is None else table[codes]
        return rows, cache

    return step


def test_a_beam_that_is_too_narrow_misses_the_best_item():
    """(0, 0) has .6 * .5 = .30, (1, 0) has .4 * .9 = .36, but one beam keeps code 0 only."""
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    step = table_step([0.6, 0.4], [[0.5, 0.5], [0.9, 0.1]])
    items, scores = beam_search(step, (), index, 1, 1)
    assert int(items[0, 0]) in (0, 1)
    np.testing.assert_allclose(np.exp(scores), [[0.3]], rtol=1e-5)
    items, scores = beam_search(step, (), index, 2, 1)
    np.testing.assert_array_equal(items[0, 0], 2)
    np.testing.assert_allclose(np.exp(scores[0]), [0.36, 0.3], rtol=1e-5)


def test_excluded_items_take_no_beam():
    """With both items below code 0 excluded, the one beam goes to code 1 at once."""
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    step = table_step([0.6, 0.4], [[0.5, 0.5], [0.9, 0.1]])
    excluded = prefix_index.sorted_exclusions(index, jnp.array([[0, 1]]), jnp.ones((1, 2), bool))
    items, scores = beam_search(step, (), index, 1, 1, excluded)
    np.testing.assert_array_equal(items, [[2]])
    np.testing.assert_allclose(np.exp(scores), [[0.36]], rtol=1e-5)


def test_codes_that_no_item_has_are_never_followed():
    index = prefix_index.build(np.array([[1, 1], [2, 0]]))
    step = table_step([0.9, 0.06, 0.04], [[1.0, 0.0], [0.99, 0.01], [0.5, 0.5]])
    items, scores = beam_search(step, (), index, 4, 1)
    np.testing.assert_array_equal(items, [[1, 0, -1, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0.02, 0.0006, 0, 0]], rtol=1e-4)
