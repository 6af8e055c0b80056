"""The whole autoencoder and fifty steps of its training against the recording."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genrec_jax import sharding, train_step
from genrec_jax.interop import pytorch
from genrec_jax.quantizers import health
from genrec_jax.tokenizers import neural
from tests.parity import fixtures
from tests.parity.fixtures import Fixture, assert_close

# The tolerances of outputs and of gradients in float32; a low temperature amplifies rounding.
CURVES = ("train_curve", "train_curve_rotation")
TOLERANCES = {
    "rqvae_ste": (3e-5, 3e-5),
    "rqvae_rotation": (3e-5, 3e-5),
    "rqvae_simvq_norm": (3e-5, 3e-5),
    "rqvae_cat": (3e-5, 3e-5),
    "rqvae_gumbel": (5e-4, 1e-3),
}


def run(fixture, dtype):
    """Returns what was recorded of one batch: the loss, our gradients, the outputs."""
    # Recorded in float32; it was the decimal number.
    temperature = float(str(fixture.get("temperature", 1)))
    model = fixtures.rqvae_model(fixture.meta)
    params = fixtures.as_dtype(pytorch.rqvae_params(fixture.below("param/")), dtype)
    uniform = fixture["uniform"].astype(dtype) if "uniform" in fixture else None

    def mean_loss(params, x):
        output = model.bind(params)(
            x, jax.random.key(0), temperature, uniform
        )  # the key serves nothing
        return jnp.mean(output.reconstruction_loss + output.quantization_loss), output

    x = fixture["x"].astype(dtype)
    gradients = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (loss, output), grads = gradients(params, x)
    latents = jax.jit(lambda params, x: model.bind(params).encode(x))(params, x)
    evaluated = jax.jit(lambda params, x: model.bind(params)(x))(params, x)
    return loss, output, grads, latents, evaluated


@pytest.fixture(scope="module", params=TOLERANCES)
def recording(request):
    fixture = Fixture(request.param)
    return fixture, TOLERANCES[request.param], run(fixture, np.float32)


def check_means(loss, output, expected, tolerance):
    assert_close(loss, expected["loss"], tolerance)
    reconstruction = output.reconstruction_loss.mean()
    assert_close(reconstruction, expected["reconstruction_loss"], tolerance)
    assert_close(output.quantization_loss.mean(), expected["rqvae_loss"], tolerance)


def check_codes(output, expected, tolerance):
    np.testing.assert_array_equal(output.quantized.ids, expected["sem_ids"])
    norms = jnp.linalg.norm(output.quantized.codewords, axis=-1).T
    assert_close(norms, expected["embs_norm"], tolerance)
    unique = health.unique_share(np.asarray(output.quantized.ids))
    assert unique == pytest.approx(float(expected["p_unique_ids"]))


def test_outputs_in_float32(recording):
    fixture, (tolerance, _), (loss, output, _, latents, _) = recording
    expected = fixture.below("out/")
    check_codes(output, expected, tolerance)
    check_means(loss, output, expected, tolerance)
    residuals = np.moveaxis(expected["residuals"], 2, 0)  # [B, C, Q] -> [Q, B, C]
    assert_close(latents, expected["z"], tolerance)
    assert_close(output.quantized.residuals, residuals, tolerance)
    codewords = np.moveaxis(expected["embs"], 2, 0)
    assert_close(output.quantized.codewords, codewords, tolerance)
    assert_close(output.quantized.embedding, expected["z_hat"], tolerance)
    assert_close(output.reconstruction, expected["x_hat"], tolerance)
    per_example = expected["reconstruction_loss_per_example"]
    assert_close(output.reconstruction_loss, per_example, tolerance)
    assert_close(output.quantization_loss, expected["rqvae_loss_per_example"], tolerance)


def test_evaluation(recording):
    fixture, (tolerance, _), (_, _, _, _, output) = recording
    expected = fixture.below("eval/")
    check_codes(output, expected, tolerance)
    loss = jnp.mean(output.reconstruction_loss + output.quantization_loss)
    check_means(loss, output, expected, tolerance)
    assert_close(output.quantized.embedding, expected["z_hat"], tolerance)
    assert_close(output.reconstruction, expected["x_hat"], tolerance)


def test_gradients_in_float32(recording):
    fixture, (_, tolerance), (_, _, grads, _, _) = recording
    assert_close(grads, pytorch.rqvae_params(fixture.below("grad/")), tolerance)


def test_outputs_and_gradients_in_float64(recording):
    fixture, _, _ = recording
    with jax.enable_x64(True):
        loss, output, grads, _, _ = run(fixture, np.float64)
        expected = fixture.below("f64/")
        assert output.reconstruction.dtype == np.float64
        np.testing.assert_array_equal(output.quantized.ids, fixture["out/sem_ids"])
        check_means(loss, output, expected, 1e-9)
        assert_close(output.quantized.embedding, expected["z_hat"], 1e-9)
        assert_close(output.reconstruction, expected["x_hat"], 1e-9)
        per_example = expected["reconstruction_loss_per_example"]
        assert_close(output.reconstruction_loss, per_example, 1e-9)
        assert_close(output.quantization_loss, expected["rqvae_loss_per_example"], 1e-9)
        assert_close(grads, pytorch.rqvae_params(fixture.below("f64/grad/")), 1e-9)


def train_curve(fixture, dtype, weight_decay):
    """Trains as recorded. Returns metrics and IDs of each step, and parameters after each."""
    meta = fixture.meta
    model = fixtures.rqvae_model(meta)
    tx = optax.adamw(meta["lr"], *meta["betas"], eps=meta["eps"], weight_decay=weight_decay)
    mesh = sharding.one_device()
    train_superbatch = train_step.make_train_superbatch(
        neural.loss_fn(model), tx, mesh, accumulation=1, ema_decay=0.0, rules=None
    )
    params = fixtures.as_dtype(pytorch.rqvae_params(fixture.below("init/")), dtype)
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}
    state = jax.device_put(state, sharding.replicated(mesh))
    x = sharding.replicate(mesh, fixture["x_all"].astype(dtype))
    rng = jax.random.key(0)
    assign = jax.jit(lambda params, x: model.bind(params)(x).quantized.ids)
    history, ids, after = [], [], []
    for indices in fixture["batch_idx"]:
        ids.append(np.asarray(assign(state["params"], x[indices])))
        superbatch = sharding.shard_rows(mesh, indices[None], row_axis=1)
        state, metrics = train_superbatch(state, x, superbatch, rng)
        history.append(jax.device_get(metrics))
        after.append(jax.device_get(state["params"]))
    return jax.tree.map(lambda *values: np.array(values), *history), np.stack(ids), after


@pytest.mark.parametrize("name", CURVES)
def test_fifty_steps_in_float32(name):
    fixture = Fixture(name)
    metrics, ids, after = train_curve(fixture, np.float32, fixture.meta["weight_decay"])
    np.testing.assert_array_equal(ids, fixture["sem_ids"])
    np.testing.assert_allclose(metrics["loss"], fixture["loss"], rtol=1e-5)
    reconstruction = fixture["reconstruction_loss"]
    np.testing.assert_allclose(metrics["reconstruction_loss"], reconstruction, rtol=1e-5)
    np.testing.assert_allclose(metrics["quantization_loss"], fixture["rqvae_loss"], rtol=1e-5)
    unique = [health.unique_share(batch) for batch in ids]
    np.testing.assert_allclose(unique, fixture["p_unique_ids"], rtol=1e-6)
    check_weights(after[0], fixture.below("step1/"), 2e-6)
    check_weights(after[-1], fixture.below("final/"), 3e-5)


@pytest.mark.parametrize("name", CURVES)
def test_fifty_steps_with_strong_weight_decay(name):
    fixture = Fixture(name)
    metrics, ids, after = train_curve(fixture, np.float32, 0.1)  # "wd01"
    np.testing.assert_array_equal(ids, fixture["wd01/sem_ids"])
    np.testing.assert_allclose(metrics["loss"], fixture["wd01/loss"], rtol=1e-5)
    check_weights(after[-1], fixture.below("wd01/final/"), 3e-5)


@pytest.mark.parametrize("name", CURVES)
def test_fifty_steps_in_float64(name):
    fixture = Fixture(name)
    with jax.enable_x64(True):
        metrics, ids, after = train_curve(fixture, np.float64, fixture.meta["weight_decay"])
        np.testing.assert_array_equal(ids, fixture["sem_ids"])
        np.testing.assert_allclose(metrics["loss"], fixture["f64/loss"], rtol=1e-8)
        check_weights(after[-1], fixture.below("f64/final/"), 1e-8)
        metrics, _, _ = train_curve(fixture, np.float64, 0.1)
        np.testing.assert_allclose(metrics["loss"], fixture["wd01/f64/loss"], rtol=1e-8)


def check_weights(params, weights, atol):
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol),
        params,
        pytorch.rqvae_params(weights),
    )
