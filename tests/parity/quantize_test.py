"""One quantiser, straight-through, against the recording."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import losses
from genrec_jax.quantizers import residual
from tests.parity.fixtures import Fixture, assert_close


@pytest.fixture(scope="module")
def fixture():
    return Fixture("quantize_ste")


def quantize(fixture, x, codebook):
    """Returns the outputs, the loss of each example, and the objective that was differentiated."""
    quantized = residual.residual_quantize(x, codebook[None])
    weight = fixture.meta["commitment_weight"]
    loss = losses.quantization(quantized.residuals, quantized.codewords, weight)
    objective = jnp.sum(quantized.embedding * fixture["w"]) + jnp.mean(loss)
    return objective, (quantized, loss)


def gradients(fixture, dtype):
    inputs = fixture["x"].astype(dtype), fixture["codebook"].astype(dtype)
    function = jax.value_and_grad(lambda *args: quantize(fixture, *args), (0, 1), has_aux=True)
    return jax.jit(function)(*inputs)


def test_distances_and_ids(fixture):
    distances = residual.squared_distances(fixture["x"], fixture["codebook"])
    assert_close(distances, fixture["plain/dist"], 1e-5)
    ids = residual.nearest_codeword(fixture["x"], fixture["codebook"])
    np.testing.assert_array_equal(ids, fixture["plain/ids"])


def test_outputs_and_gradients_in_float32(fixture):
    (objective, (quantized, loss)), (grad_x, grad_codebook) = gradients(fixture, np.float32)
    np.testing.assert_array_equal(quantized.ids[:, 0], fixture["plain/ids"])
    assert_close(quantized.embedding, fixture["plain/emb_out"], 1e-5)
    assert_close(loss, fixture["plain/loss"], 1e-5)
    assert_close(objective, fixture["plain/objective"], 1e-5)
    assert_close(grad_x, fixture["plain/grad_x"], 1e-5)
    assert_close(grad_codebook, fixture["plain/grad_codebook"], 1e-5)


def test_evaluation_gives_the_codewords_themselves(fixture):
    _, (quantized, loss) = quantize(fixture, fixture["x"], fixture["codebook"])
    assert_close(quantized.codewords[0], fixture["plain/eval_emb_out"], 1e-5)
    assert_close(loss, fixture["plain/eval_loss"], 1e-5)


def test_outputs_and_gradients_in_float64(fixture):
    with jax.enable_x64(True):
        (objective, (quantized, loss)), (grad_x, grad_codebook) = gradients(fixture, np.float64)
        assert quantized.embedding.dtype == np.float64
        np.testing.assert_array_equal(quantized.ids[:, 0], fixture["plain/ids"])
        assert_close(quantized.embedding, fixture["plain/f64/emb_out"], 1e-9)
        assert_close(loss, fixture["plain/f64/loss"], 1e-9)
        assert_close(objective, fixture["plain/f64/objective"], 1e-9)
        assert_close(grad_x, fixture["plain/f64/grad_x"], 1e-9)
        assert_close(grad_codebook, fixture["plain/f64/grad_codebook"], 1e-9)
