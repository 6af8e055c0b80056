"""Beam search against the recorded rankings, exact and pruned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.beam_search import beam_search
from tests.parity import fixtures
from tests.parity.fixtures import Fixture


class Recording:
    """The recorded rankings, and our model with its weights and its users' memories."""

    def __init__(self):
        self.fixture, weights = Fixture("beam"), Fixture("t5_encdec")
        self.model = fixtures.t5_model(weights.meta, full=True)
        self.params = fixtures.t5_params(weights.below("param/"), full=True)
        self.catalogue = self.fixture["catalogue"].astype(np.int32)
        inputs = fixtures.t5_inputs(self.fixture)
        encode = jax.jit(lambda params, *args: self.model.bind(params).encode(*args))
        self.memory = encode(self.params, inputs["codes"], inputs["mask"], inputs["users"])

    def search(self, width):
        index = prefix_index.build(self.catalogue)

        @jax.jit
        def run(params, memory):
            module = self.model.bind(params)
            shared, cache = module.start_search(memory)

            def step(level, codes, cache):
                return module.search_step(level, codes, cache, shared, memory.mask)

            return beam_search(step, cache, index, width, len(memory.mask))[:2]

        return jax.device_get(run(self.params, self.memory))


@pytest.fixture(scope="module")
def recording():
    return Recording()


def test_probability_of_every_item(recording):
    catalogue, recorded = recording.catalogue, recording.fixture["logp_level"]
    users, items = recorded.shape[:2]
    pairs = jax.tree.map(lambda x: jnp.repeat(x, items, axis=0), recording.memory)
    decode = jax.jit(lambda params, *args: recording.model.bind(params).decode(*args))
    logits = decode(recording.params, np.tile(catalogue, (users, 1)), pairs)
    for level, level_logits in enumerate(logits):
        log_probs = np.asarray(jax.nn.log_softmax(level_logits)).reshape(users, items, -1)
        log_probs = log_probs[:, np.arange(items), catalogue[:, level]]
        np.testing.assert_allclose(log_probs, recorded[..., level], rtol=0, atol=5e-5)


def test_as_many_beams_as_items_find_the_exact_ranking(recording):
    fixture = recording.fixture
    items, scores = recording.search(len(recording.catalogue))
    best = fixture["top10_idx"].shape[1]
    np.testing.assert_array_equal(items[:, :best], fixture["top10_idx"])
    np.testing.assert_array_equal(recording.catalogue[items[:, :best]], fixture["top10_ids"])
    np.testing.assert_allclose(scores[:, :best], fixture["top10_score"], rtol=0, atol=5e-5)
    np.testing.assert_array_equal(
        np.sort(items), np.arange(items.shape[1])[None].repeat(len(items), 0)
    )
    by_item = np.take_along_axis(fixture["score"], items, axis=1)
    np.testing.assert_allclose(scores, by_item, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["k10", "kfull"])
def test_fewer_beams_prune_as_recorded(recording, name):
    fixture = recording.fixture
    items, scores = recording.search(int(fixture[f"beam/{name}_width"]))
    recorded = fixture[f"beam/{name}_logp"]
    real = recorded > -np.inf  # the original fills up with invalid IDs
    np.testing.assert_array_equal(items >= 0, real)
    np.testing.assert_array_equal(
        recording.catalogue[items][real], fixture[f"beam/{name}_ids"][real]
    )
    np.testing.assert_allclose(scores[real], recorded[real], rtol=0, atol=5e-5)
