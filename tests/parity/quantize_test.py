"""One quantiser in every variant and estimator against the recording."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import losses
from genrec_jax.quantizers import vector
from tests.parity.fixtures import Fixture, assert_close

ESTIMATORS = {
    "quantize_ste": "straight_through",
    "quantize_rotation": "rotation",
    "quantize_gumbel": "gumbel",
}
VARIANTS = ("plain", "simvq", "norm", "simvq_norm", "cosine")
TOLERANCES = {"straight_through": 1e-5, "rotation": 1e-5, "gumbel": 2e-4}


@pytest.fixture(scope="module", params=ESTIMATORS)
def recording(request):
    return Fixture(request.param), ESTIMATORS[request.param]


def quantize(fixture, variant, estimator, dtype, x, codebook, projection):
    """Returns the objective that was differentiated, what was quantised, losses, codewords."""
    codewords = vector.effective_codebook(
        codebook,
        projection if variant.startswith("simvq") else None,
        normalize=variant.endswith("norm"),
    )
    draws = {}
    if estimator == "gumbel":
        draws = {
            "uniform": fixture["uniform"].astype(dtype),
            # Recorded in float32; it was the decimal number.
            "temperature": np.asarray(str(fixture["temperature"]), dtype),
        }
    distance = "cosine" if variant == "cosine" else "euclidean"
    level = vector.quantize(x, codewords, estimator=estimator, distance=distance, **draws)
    weight = fixture.meta["commitment_weight"]
    loss = losses.quantization(x[None], level.codewords[None], weight)
    objective = jnp.sum(level.output * fixture["w"].astype(dtype)) + jnp.mean(loss)
    return objective, (level, loss, codewords)


def run(fixture, variant, estimator, dtype):
    inputs = [fixture[name].astype(dtype) for name in ("x", "codebook", "proj")]
    inputs[2] = inputs[2].T
    function = functools.partial(quantize, fixture, variant, estimator, dtype)
    return jax.jit(jax.value_and_grad(function, (0, 1, 2), has_aux=True))(*inputs)


def check(fixture, variant, values, gradients, tolerance, prefix=""):
    objective, (level, loss, _) = values
    expected = fixture.below(f"{variant}/{prefix}")
    np.testing.assert_array_equal(level.ids, fixture[f"{variant}/ids"])
    assert_close(level.output, expected["emb_out"], tolerance)
    assert_close(loss, expected["loss"], tolerance)
    assert_close(objective, expected["objective"], tolerance)
    assert_close(gradients[0], expected["grad_x"], tolerance)
    assert_close(gradients[1], expected["grad_codebook"], tolerance)
    if variant.startswith("simvq"):
        assert_close(gradients[2].T, expected["grad_proj"], tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_in_float32(recording, variant):
    fixture, estimator = recording
    values, gradients = run(fixture, variant, estimator, np.float32)
    check(fixture, variant, values, gradients, TOLERANCES[estimator])
    codewords = values[1][2]
    assert_close(codewords, fixture[f"{variant}/codebook_eff"], 1e-5)
    distance = vector.DISTANCES["cosine" if variant == "cosine" else "euclidean"]
    assert_close(distance(fixture["x"], codewords), fixture[f"{variant}/dist"], 1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_in_float64(recording, variant):
    fixture, estimator = recording
    with jax.enable_x64(True):
        values, gradients = run(fixture, variant, estimator, np.float64)
        assert values[1][0].output.dtype == np.float64
        check(fixture, variant, values, gradients, 1e-9, prefix="f64/")


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluation_gives_the_codewords_themselves(recording, variant):
    fixture, _ = recording
    x, codewords = fixture["x"], fixture[f"{variant}/codebook_eff"]
    distance = "cosine" if variant == "cosine" else "euclidean"
    level = vector.quantize(x, codewords, distance=distance)
    assert_close(level.output, fixture[f"{variant}/eval_emb_out"], 1e-5)
    weight = fixture.meta["commitment_weight"]
    loss = losses.quantization(x[None], level.codewords[None], weight)
    assert_close(loss, fixture[f"{variant}/eval_loss"], 1e-5)


def test_gumbel_weights():
    fixture = Fixture("quantize_gumbel")
    logits = -fixture["plain/dist"]
    weights = vector.gumbel_softmax(logits, fixture["uniform"], fixture["temperature"])
    assert_close(weights, fixture["plain/weights"], 2e-4)
    without_noise = jax.nn.softmax(logits / fixture["temperature"], axis=-1)
    assert_close(without_noise, fixture["plain/weights_nonoise"], 2e-4)
