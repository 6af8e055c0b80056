"""The autoencoder around the quantiser; its numbers are tested in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.models import rqvae

SIZES = {
    "embedding_dim": 6,
    "hidden_dims": (8, 5),
    "code_dim": 3,
    "level_sizes": (4, 4),
    "commitment_weight": 0.25,
    "estimator": "straight_through",
    "distance": "euclidean",
    "simvq": False,
    "normalize": False,
    "learns_codebooks": True,
    "balanced_levels": (),
    "num_categorical": 0,
}


def test_shapes():
    model = rqvae.model(**SIZES, residual_gradient="estimator")
    params = jax.eval_shape(model.init, jax.random.key(0))
    output = jax.eval_shape(lambda params, x: model.bind(params)(x), params, jnp.ones((7, 6)))
    assert params["codebooks"].shape == (2, 4, 3)
    assert output.reconstruction.shape == (7, 6)
    assert output.quantized.ids.shape == (7, 2)
    assert output.quantized.residuals.shape == output.quantized.codewords.shape == (2, 7, 3)
    assert output.reconstruction_loss.shape == output.quantization_loss.shape == (7,)


def test_a_random_encoder_keeps_the_scale_of_its_input():
    sizes = SIZES | {"embedding_dim": 64, "hidden_dims": (512, 256), "code_dim": 128}
    model = rqvae.model(**sizes, residual_gradient="estimator")
    x = jax.random.normal(jax.random.key(0), (200, 64))
    params = jax.jit(model.init)(jax.random.key(1))
    latents = model.bind(params).encode(x)
    assert 0.8 < float(jnp.sqrt((latents**2).mean())) < 1.2


@pytest.mark.parametrize("mode", ["estimator", "pass"])
def test_what_teaches_the_encoder(mode):
    """Straight-through lets the first level alone teach the encoder, `pass` lets all."""
    model = rqvae.model(**SIZES, residual_gradient=mode)
    params = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (7, 6))

    def quantization(encoder, codebooks):
        module = model.bind(params | {"encoder": encoder, "codebooks": codebooks})
        return module(x, jax.random.key(2)).quantization_loss.sum()

    grad = jax.jit(jax.grad(quantization))
    codebooks = params["codebooks"]
    moved = codebooks.at[1].mul(1.01)  # codes stay, later residuals and their losses change
    before, after = (grad(params["encoder"], values) for values in (codebooks, moved))
    same = jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-7), before, after))
    assert same == (mode == "estimator")


def test_levels_of_different_sizes_are_padded_and_stay_so():
    model = rqvae.model(**SIZES | {"level_sizes": (4, 2)}, residual_gradient="estimator")
    params = model.init(jax.random.key(0))
    assert params["codebooks"].shape == (2, 4, 3)
    assert [len(codebook) for codebook in model.bind(params).codewords()] == [4, 2]

    def loss(params):
        output = model.bind(params)(
            jax.random.normal(jax.random.key(1), (50, 6)), jax.random.key(2)
        )
        return (output.quantization_loss + output.reconstruction_loss).sum()

    grads = jax.jit(jax.grad(loss))(params)["codebooks"]
    for padding in (params["codebooks"][1, 2:], grads[1, 2:]):
        np.testing.assert_array_equal(padding, np.zeros((2, 3)))
    assert np.abs(grads[1, :2]).max() > 0


def test_codebooks_that_learn_by_averages_have_no_gradient():
    model = rqvae.model(**SIZES | {"learns_codebooks": False}, residual_gradient="pass")
    params = model.init(jax.random.key(0))

    def loss(params):
        output = model.bind(params)(
            jax.random.normal(jax.random.key(1), (50, 6)), jax.random.key(2)
        )
        return (output.quantization_loss + output.reconstruction_loss).sum()

    grads = jax.jit(jax.grad(loss))(params)
    np.testing.assert_array_equal(grads["codebooks"], np.zeros((2, 4, 3)))
    assert np.abs(grads["encoder"]["layers"][0]["kernel"]).max() > 0


def test_training_can_choose_balanced_codes_and_evaluation_does_not():
    model = rqvae.model(**SIZES | {"balanced_levels": (0, 1)}, residual_gradient="estimator")
    params = model.init(jax.random.key(0))
    x = jnp.ones((8, 6))  # copies, so that the nearest code is one
    trained = np.asarray(model.bind(params)(x, jax.random.key(1)).quantized.ids)
    evaluated = np.asarray(model.bind(params)(x).quantized.ids)
    np.testing.assert_array_equal(np.bincount(trained[:, 0], minlength=4), [2, 2, 2, 2])
    assert len(np.unique(evaluated, axis=0)) == 1
