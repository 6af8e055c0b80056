"""Beam search against the whole catalogue, scored one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.beam_search import beam_search, top_k
from genrec_jax.models import encoder_decoder

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
            num_decoder_layers=1,
            activation="relu",
            positions="relative",
            max_history=PAST,
            dropout=0.0,
            use_separator=False,
            num_user_bins=0,
            dtype="float32",
        )
        self.model = model
        self.params = model.init(jax.random.key(3, impl="unsafe_rbg"))  # compiles faster
        self.scores = self.score_all()
        self.compiled_search = jax.jit(
            self.search_users, static_argnames=("num_beams", "exclude", "renormalize")
        )

    def score_all(self):
        """Returns [users, items]: the log-probability of every ID, given its true codes."""

        @jax.jit
        def score(params):
            module = self.model.bind(params)
            memory = module.encode(self.ids[self.history], self.mask)
            # Every user with every item.
            pairs = jax.tree.map(lambda x: jnp.repeat(x, NUM_ITEMS, axis=0), memory)
            ids = jnp.tile(self.ids, (NUM_USERS, 1))
            return module.decode(ids, pairs)

        scores = np.zeros((NUM_USERS, NUM_ITEMS))
        for level, logits in enumerate(score(self.params)):
            log_probs = np.asarray(jax.nn.log_softmax(logits)).reshape(NUM_USERS, NUM_ITEMS, -1)
            scores += log_probs[:, np.arange(NUM_ITEMS), self.ids[:, level]]
        return scores

    def search_users(self, params, index, history, mask, *, num_beams, exclude, renormalize):
        module = self.model.bind(params)
        memory = module.encode(jnp.asarray(self.ids)[history], mask)
        shared, cache = module.start_search(memory)
        excluded = None
        if exclude:
            excluded = prefix_index.sorted_exclusions(index, history, mask)

        def step(level, codes, cache):
            return module.search_step(level, codes, cache, shared, memory.mask)

        return beam_search(step, cache, index, num_beams, len(history), excluded, renormalize)

    def search(self, num_beams, exclude=False, users=slice(None), index=None, renormalize=False):
        """Returns the items and scores of some users, in their order."""
        users = self.params, index or self.index, self.history[users], self.mask[users]
        items, scores, _ = self.compiled_search(
            *users, num_beams=num_beams, exclude=exclude, renormalize=renormalize
        )
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
        # Each item once and in its place, but for near ties, which rounding may swap.
        assert sorted(items[user, :allowed]) == sorted(order)
        gaps = np.diff(expected[order], prepend=np.inf, append=-np.inf)
        clear = (np.abs(gaps[:-1]) > 1e-4) & (np.abs(gaps[1:]) > 1e-4)
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(items[user, :allowed][clear], order[clear])
        np.testing.assert_allclose(
            scores[user, :allowed], expected[items[user, :allowed]], atol=1e-4
        )


def test_some_of_the_items_as_if_the_rest_were_excluded(world):
    among = np.arange(NUM_ITEMS) % 5 == 0
    index = prefix_index.build(world.ids, among)
    items, scores = world.search(NUM_ITEMS, exclude=True, index=index)
    for user in range(NUM_USERS):
        expected = np.where(among, world.scores[user], -np.inf)
        expected[world.history[user][world.mask[user]]] = -np.inf
        order = np.argsort(-expected)[: (expected > -np.inf).sum()]
        assert len(order) < among.sum() or not among[world.history[user][world.mask[user]]].any()
        np.testing.assert_array_equal(items[user, : len(order)], order)
        np.testing.assert_allclose(scores[user, : len(order)], expected[order], atol=1e-4)
        np.testing.assert_array_equal(items[user, len(order) :], -1)


@pytest.mark.parametrize("exclude", [False, True])
def test_few_beams_return_true_scores_of_distinct_allowed_items(world, exclude):
    items, scores = world.search(20, exclude)
    for user in range(NUM_USERS):
        assert len(set(items[user])) == 20 and (items[user] >= 0).all()
        np.testing.assert_allclose(scores[user], world.scores[user, items[user]], atol=1e-4)
        assert (np.diff(scores[user]) <= 0).all()
        if exclude:
            assert not set(items[user]) & set(world.history[user][world.mask[user]])


def test_beams_lead_to_the_items(world):
    users = world.params, world.index, world.history, world.mask
    items, scores, levels = world.compiled_search(
        *users, num_beams=20, exclude=True, renormalize=False
    )
    assert [level.codes.shape[1] for level in levels] == [6, 20, 20, 20]
    np.testing.assert_array_equal(levels[-1].scores, scores)
    user = np.arange(NUM_USERS)[:, None]
    beam = np.tile(np.arange(20), (NUM_USERS, 1))
    for level in reversed(range(4)):
        codes, parents, scores = (np.asarray(field) for field in levels[level])
        np.testing.assert_array_equal(codes[user, beam], world.ids[items, level])
        assert (np.diff(scores) <= 0).all()
        if level:
            above = np.asarray(levels[level - 1].scores)
            assert (scores[user, beam] <= above[user, parents[user, beam]]).all()
        beam = parents[user, beam]


def test_the_order_of_the_batch_does_not_matter(world):
    users = np.array([4, 0, 5, 2, 1, 3])
    items, scores = world.search(20, exclude=True)
    permuted_items, permuted_scores = world.search(20, exclude=True, users=users)
    np.testing.assert_array_equal(permuted_items, items[users])
    np.testing.assert_allclose(permuted_scores, scores[users], atol=1e-5)


def table_step(*tables):
    """Returns a step whose log-probabilities depend on the code before alone."""

    def step(level, codes, cache):
        table = jnp.log(jnp.array(tables[level]))
        return table[None, None] if codes is None else table[codes], cache

    return step


def test_a_beam_that_is_too_narrow_misses_the_best_item():
    """(0, 0) has .6 * .5 = .30, (1, 0) has .4 * .9 = .36, but one beam keeps code 0 only."""
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    step = table_step([0.6, 0.4], [[0.5, 0.5], [0.9, 0.1]])
    items, scores, _ = beam_search(step, (), index, 1, 1)
    assert int(items[0, 0]) in (0, 1)
    np.testing.assert_allclose(np.exp(scores), [[0.3]], rtol=1e-5)
    items, scores, _ = beam_search(step, (), index, 2, 1)
    np.testing.assert_array_equal(items[0, 0], 2)
    np.testing.assert_allclose(np.exp(scores[0]), [0.36, 0.3], rtol=1e-5)


def test_renormalised_scores_are_those_of_a_choice_among_the_items_allowed():
    """Code 2 leads to no item, nor does 0 after 1, so the choice is .75 or .25, then .25 or .75."""
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 1]]))
    step = table_step([0.6, 0.2, 0.2], [[0.1, 0.3, 0.6], [0.9, 0.1, 0.0]])
    items, scores, _ = beam_search(step, (), index, 4, 1, renormalize=True)
    np.testing.assert_array_equal(items, [[1, 2, 0, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0.5625, 0.25, 0.1875, 0]], rtol=1e-5)
    items, scores, _ = beam_search(step, (), index, 4, 1)
    np.testing.assert_array_equal(items, [[1, 0, 2, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0.18, 0.06, 0.02, 0]], rtol=1e-5)
    excluded = prefix_index.sorted_exclusions(index, jnp.array([[1]]), jnp.ones((1, 1), bool))
    items, scores, _ = beam_search(step, (), index, 4, 1, excluded, renormalize=True)
    np.testing.assert_array_equal(items, [[0, 2, -1, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0.75, 0.25, 0, 0]], rtol=1e-5)


def test_renormalised_probabilities_of_the_items_allowed_sum_to_one(world):
    index = prefix_index.build(world.ids, np.arange(NUM_ITEMS) % 5 == 0)
    for options in ({}, {"index": index}):
        _, scores = world.search(NUM_ITEMS, exclude=True, renormalize=True, **options)
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-4)
        _, scores = world.search(NUM_ITEMS, exclude=True, **options)
        assert (np.exp(scores).sum(axis=1) < 0.9).all()


def test_excluded_items_take_no_beam():
    """With both items below code 0 excluded, the one beam goes to code 1 at once."""
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    step = table_step([0.6, 0.4], [[0.5, 0.5], [0.9, 0.1]])
    excluded = prefix_index.sorted_exclusions(index, jnp.array([[0, 1]]), jnp.ones((1, 2), bool))
    items, scores, _ = beam_search(step, (), index, 1, 1, excluded)
    np.testing.assert_array_equal(items, [[2]])
    np.testing.assert_allclose(np.exp(scores), [[0.36]], rtol=1e-5)


def test_codes_that_no_item_has_are_never_followed():
    index = prefix_index.build(np.array([[1, 1], [2, 0]]))
    step = table_step([0.9, 0.06, 0.04], [[1.0, 0.0], [0.99, 0.01], [0.5, 0.5]])
    items, scores, _ = beam_search(step, (), index, 4, 1)
    np.testing.assert_array_equal(items, [[1, 0, -1, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0.02, 0.0006, 0, 0]], rtol=1e-4)


def test_the_beams_kept_at_each_level_are_the_best_of_all_candidates():
    """Two beams and three levels: (0,), (1,); then (1, 0), (0, 1); then the best below those.

    The best item of all, (2, 2, 0) with .2 * 1 * 1 = .2, begins with a code that is pruned.
    """
    ids = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [2, 2, 0]])
    step = table_step(
        [0.5, 0.3, 0.2],
        [[0.3, 0.35, 0.35], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]],
        [[0.5, 0.45, 0.05], [0.6, 0.4, 0.0], [1.0, 0.0, 0.0]],
    )
    items, scores, _ = beam_search(step, (), prefix_index.build(ids), 2, 1)
    # (1, 0) has .27 and (0, 1) has .175: the four items below them have .135, .1215, .105, .07.
    np.testing.assert_array_equal(items, [[3, 4]])
    np.testing.assert_allclose(np.exp(scores), [[0.135, 0.1215]], rtol=1e-5)


def test_caches_follow_their_beams():
    """A cache that records its beam's codes still holds them after beams have changed places."""
    ids = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    tables = [0.4, 0.6], [[0.9, 0.1], [0.5, 0.5]], [[0.8, 0.2], [0.3, 0.7]]
    seen = []

    def step(level, codes, cache):
        log_probs, _ = table_step(*tables)(level, codes, cache)
        if level:
            cache = cache.at[:, :, level - 1].set(codes)
        seen.append((codes, cache))
        return log_probs, cache

    start = jnp.full((1, 1, 3), -1)
    items, scores, _ = beam_search(step, start, prefix_index.build(ids), 5, 1)
    prefixes = np.asarray(seen[-1][1])[0, :, :2].tolist()
    # .4 * .9, then twice .6 * .5, then .4 * .1; a tie keeps the order of the codes.
    assert prefixes[:4] == [[0, 0], [1, 0], [1, 1], [0, 1]]
    expected = {0: 0.36 * 0.8, 1: 0.04 * 0.3, 2: 0.3 * 0.2, 3: 0.3 * 0.3, 4: 0.3 * 0.7}
    order = sorted(expected, key=lambda item: -expected[item])
    np.testing.assert_array_equal(items[0], order)
    np.testing.assert_allclose(np.exp(scores[0]), [expected[item] for item in order], rtol=1e-5)


def test_a_user_who_has_everything_gets_nothing():
    index = prefix_index.build(np.array([[0, 0], [0, 1], [1, 0]]))
    step = table_step([0.6, 0.4], [[0.5, 0.5], [0.9, 0.1]])
    history = jnp.array([[0, 1, 2], [0, 1, 2]])
    mask = jnp.array([[True, True, True], [True, True, False]])
    excluded = prefix_index.sorted_exclusions(index, history, mask)
    items, scores, _ = beam_search(step, (), index, 2, 2, excluded)
    np.testing.assert_array_equal(items, [[-1, -1], [2, -1]])
    np.testing.assert_allclose(np.exp(scores), [[0, 0], [0.36, 0]], rtol=1e-5)


@pytest.mark.parametrize("length, k", [(1_000, 7), (70, 1), (64, 30), (333, 3)])
def test_the_largest_in_groups_are_those_of_whole_rows(length, k):
    rng = np.random.default_rng(length)
    x = rng.integers(40, size=(50, length)).astype(np.float32)  # with many ties
    x[rng.random(x.shape) < 0.5] = -np.inf
    x[:3, k // 2 :] = -np.inf
    values, places = top_k(jnp.asarray(x), k)
    expected_values, expected_places = jax.lax.top_k(x, k)
    np.testing.assert_array_equal(values, expected_values)
    is_finite = np.isfinite(expected_values)
    np.testing.assert_array_equal(places[is_finite], expected_places[is_finite])
    assert places.min() >= 0 and places.max() < length
