"""RQ-VAE: an autoencoder whose code is a residual quantisation (Lee et al., 2022; TIGER, 2023).

B batch   E embedding width   C code width   Q levels   K codebook size
"""

from typing import NamedTuple

import jax
from flax import nnx

from genrec_jax import losses
from genrec_jax.models import layers
from genrec_jax.quantizers import residual


class Output(NamedTuple):
    """What `RQVAE.__call__` returns."""

    reconstruction: jax.Array  # [B, E]
    quantized: residual.Quantized
    reconstruction_loss: jax.Array  # [B]
    quantization_loss: jax.Array  # [B]


class MLP(nnx.Module):
    """Linear layers without biases, ReLU between them."""

    def __init__(self, dims: tuple[int, ...], *, rngs: nnx.Rngs):
        # Half the variance is lost in each ReLU: He et al., 2015.
        stds = [(2 / dim) ** 0.5 for dim in dims[:-2]] + [dims[-2] ** -0.5]
        self.layers = nnx.List(
            layers.Linear(n_in, n_out, std=std, rngs=rngs)
            for n_in, n_out, std in zip(dims[:-1], dims[1:], stds, strict=True)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class RQVAE(nnx.Module):
    """Encoder, codebooks and the encoder's mirror image as decoder."""

    def __init__(
        self,
        *,
        embedding_dim: int,
        hidden_dims: tuple[int, ...],
        code_dim: int,
        num_levels: int,
        codebook_size: int,
        commitment_weight: float,
        residual_gradient: str,
        rngs: nnx.Rngs,
    ):
        dims = (embedding_dim, *hidden_dims, code_dim)
        self.encoder = MLP(dims, rngs=rngs)
        self.decoder = MLP(dims[::-1], rngs=rngs)
        shape = (num_levels, codebook_size, code_dim)
        self.codebooks = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.commitment_weight = commitment_weight
        self.residual_gradient = residual_gradient

    def encode(self, x: jax.Array) -> jax.Array:
        """Returns [B, C] latents of x [B, E]."""
        return self.encoder(x)

    def quantize(self, latents: jax.Array) -> residual.Quantized:
        return residual.residual_quantize(latents, self.codebooks[...], self.residual_gradient)

    def __call__(self, x: jax.Array) -> Output:
        quantized = self.quantize(self.encode(x))
        x_hat = self.decoder(quantized.embedding)
        return Output(
            x_hat,
            quantized,
            losses.reconstruction(x_hat, x),
            losses.quantization(quantized.residuals, quantized.codewords, self.commitment_weight),
        )


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of an `RQVAE` with these arguments."""
    return layers.functional(lambda rngs: RQVAE(**kwargs, rngs=rngs))
