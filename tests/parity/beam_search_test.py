"""Beam search against the recorded rankings, exact and pruned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.beam_search import beam_search
from tests.parity import fixtures
from tests.parity.fixtures import Fixture


def load():
    """Returns the recording, our model bound to its weights, and what it reads of the users."""
    fixture, weights = Fixture("beam"), Fixture("t5_encdec")
    model = fixtures.t5_model(weights.meta, full=True)
    params = fixtures.t5_params(weights.below("param/"), weights.meta, full=True)
    inputs = fixtures.t5_inputs(fixture)
    module = model.bind(params)
    memory = module.encode(inputs["codes"], inputs["mask"], inputs["users"])
    return fixture, module, memory


def search(module, memory, catalogue, width):
    shared, cache = module.start_search(memory)

    def step(level, codes, cache):
        return module.search_step(level, codes, cache, shared, memory.mask)

    index = prefix_index.build(catalogue)
    items, scores = beam_search(step, cache, index, width, len(memory.mask))
    return np.asarray(items), np.asarray(scores)


def test_probability_of_every_item():
    fixture, module, memory = load()
    catalogue = fixture["catalogue"].astype(np.int32)
    for user in range(len(memory.mask)):
        ours = jax.tree.map(
            lambda x, user=user: jnp.repeat(x[user][None], len(catalogue), 0), memory
        )
        logits = module.decode(catalogue, ours)
        for level, level_logits in enumerate(logits):
            log_probs = jax.nn.log_softmax(level_logits)[
                np.arange(len(catalogue)), catalogue[:, level]
            ]
            np.testing.assert_allclose(log_probs, fixture["logp_level"][user, :, level], atol=5e-5)


def test_as_many_beams_as_items_find_the_exact_ranking():
    fixture, module, memory = load()
    width = len(fixture["catalogue"])
    items, scores = search(module, memory, fixture["catalogue"], width)
    best = fixture["top10_idx"].shape[1]
    np.testing.assert_array_equal(items[:, :best], fixture["top10_idx"])
    np.testing.assert_allclose(scores[:, :best], fixture["top10_score"], atol=5e-5)
    by_item = np.take_along_axis(fixture["score"], items, axis=1)
    np.testing.assert_allclose(scores, by_item, atol=5e-5)


@pytest.mark.parametrize("name", ["k10", "kfull"])
def test_fewer_beams_prune_as_recorded(name):
    fixture, module, memory = load()
    width = int(fixture[f"beam/{name}_width"])
    items, scores = search(module, memory, fixture["catalogue"], width)
    recorded = fixture[f"beam/{name}_logp"]
    real = recorded > -np.inf  # the original fills up with invalid IDs
    np.testing.assert_array_equal(items >= 0, real)
    np.testing.assert_array_equal(
        fixture["catalogue"][items][real], fixture[f"beam/{name}_ids"][real]
    )
    np.testing.assert_allclose(scores[real], recorded[real], atol=5e-5)
