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
    "num_levels": 2,
    "codebook_size": 4,
    "commitment_weight": 0.25,
    "estimator": "straight_through",
    "distance": "euclidean",
    "temperature": 0.2,
    "simvq": False,
    "normalize": False,
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
