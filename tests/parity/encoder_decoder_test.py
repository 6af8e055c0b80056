"""The encoder-decoder and its gradients against the recording."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.models.layers import relative_position_bucket
from tests.parity import fixtures
from tests.parity.fixtures import Fixture, assert_close


def load(layout: str):
    """Returns the fixture with our model in the layout `full` or `bare`."""
    fixture = Fixture("t5_encdec")
    model = fixtures.t5_model(fixture.meta, full=layout == "full")
    params = fixtures.t5_params(fixture.below("param/"), full=layout == "full")
    return fixture, fixture.below(f"{layout}/"), model, params


@pytest.mark.parametrize("layout", ["full", "bare"])
def test_encoder(layout):
    fixture, expected, model, params = load(layout)
    inputs = fixtures.t5_inputs(fixture)
    module = model.bind(params)
    args = inputs["codes"], inputs["mask"], inputs["users"]
    embedded, mask = module.encoder_inputs(*args)
    np.testing.assert_array_equal(mask, expected["enc_mask"].astype(bool))
    # Where nothing is read, which embedding stands there is nobody's concern.
    np.testing.assert_array_equal(embedded[mask], expected["enc_inputs_embeds"][mask])
    memory = module.encode(*args)
    np.testing.assert_array_equal(memory.mask, mask)
    assert_close(memory.states[mask], expected["enc_output"][mask], 2e-5)


@pytest.mark.parametrize("layout", ["full", "bare"])
def test_decoder(layout):
    fixture, expected, model, params = load(layout)
    inputs = fixtures.t5_inputs(fixture)
    num_levels = fixture.meta["num_hierarchies"]
    module = model.bind(params)
    # The recording embeds the last code too, and throws away what follows from it.
    embedded = module.decoder_inputs(inputs["targets"])
    np.testing.assert_array_equal(embedded, expected["dec_inputs_embeds"][:, :num_levels])
    memory = module.encode(inputs["codes"], inputs["mask"], inputs["users"])
    logits = jnp.stack(module.decode(inputs["targets"], memory), axis=1)
    assert_close(logits, expected["logits"], 2e-5)
    losses = module.losses(**inputs).mean(axis=0)
    assert_close(losses, expected["loss_d"], 2e-5)
    assert_close(losses.sum(), expected["loss"], 2e-5)


def test_gradients():
    fixture, _, model, params = load("full")
    inputs = fixtures.t5_inputs(fixture)
    recorded = Fixture("t5_grads")

    def loss_fn(params):
        return model.bind(params).losses(**inputs).mean(axis=0).sum()

    loss, grads = jax.jit(jax.value_and_grad(loss_fn))(params)
    assert_close(loss, recorded["loss"], 1e-4)
    weights = recorded.below("grad/")
    expected = fixtures.t5_params(weights, full=True)
    assert len(jax.tree.leaves(expected)) == len(weights)  # none is left out
    assert_close(grads, expected, 1e-4)


@pytest.mark.parametrize("name, bidirectional", [("bidirectional", True), ("causal", False)])
def test_relative_position_buckets(name, bidirectional):
    fixture = Fixture("t5_encdec")
    config = fixture.meta["t5config"]["encoder"]
    buckets = relative_position_bucket(
        fixture["bucket/relative_position"],
        bidirectional=bidirectional,
        num_buckets=config["relative_attention_num_buckets"],
        max_distance=config["relative_attention_max_distance"],
    )
    np.testing.assert_array_equal(buckets, fixture[f"bucket/{name}"])
