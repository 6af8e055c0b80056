"""RQ-VAE: an autoencoder whose code is a residual quantisation (Lee et al., 2022; TIGER, 2023).

B batch   E embedding width   C code width   Q levels   K codebook size
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from genrec_jax import losses
from genrec_jax.models import layers
from genrec_jax.quantizers import residual, vector


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
    """Encoder, codebooks and the encoder's mirror image as decoder.

    Args:
        embedding_dim, hidden_dims, code_dim: widths, from the input to the latents.
        num_levels, codebook_size: Q and K.
        commitment_weight: see `losses.quantization`.
        residual_gradient: see `residual.residual_quantize`.
        estimator, distance, temperature: see `vector.quantize`.
        simvq: whether each level's codewords are its table times a trained matrix.
        normalize: whether latents and the first level's codewords have length 1.
    """

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
        estimator: str,
        distance: str,
        temperature: float,
        simvq: bool,
        normalize: bool,
        rngs: nnx.Rngs,
    ):
        dims = (embedding_dim, *hidden_dims, code_dim)
        self.encoder = MLP(dims, rngs=rngs)
        self.decoder = MLP(dims[::-1], rngs=rngs)
        shape = (num_levels, codebook_size, code_dim)
        self.codebooks = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.simvq = simvq
        if simvq:  # begins as no change, so that codebooks may start as k-means
            identity = jnp.broadcast_to(jnp.eye(code_dim), (num_levels, code_dim, code_dim))
            self.projections = nnx.Param(identity)
        self.normalize = normalize
        self.commitment_weight = commitment_weight
        self.distance = distance
        self.estimator = {
            "estimator": estimator,
            "residual_gradient": residual_gradient,
            "temperature": temperature,
        }

    def encode(self, x: jax.Array) -> jax.Array:
        """Returns [B, C] latents of x [B, E]."""
        latents = self.encoder(x)
        return vector.unit_length(latents) if self.normalize else latents

    def codewords(self) -> jax.Array:
        """Returns [Q, K, C], what the codebooks stand for."""
        codebooks = [
            vector.effective_codebook(
                codebook,
                self.projections[level] if self.simvq else None,
                normalize=self.normalize and level == 0,
            )
            for level, codebook in enumerate(self.codebooks[...])
        ]
        return jnp.stack(codebooks)

    def quantize(self, latents: jax.Array) -> residual.Quantized:
        """Returns the codes of latents [B, C], and the codewords exactly."""
        return residual.residual_quantize(latents, self.codewords(), distance=self.distance)

    def __call__(
        self, x: jax.Array, rng: jax.Array | None = None, uniform: jax.Array | None = None
    ) -> Output:
        """Encodes, quantises and decodes x [B, E].

        Args:
            x: the batch.
            rng: for training, in which the estimator counts; without it, codewords are exact.
            uniform: [Q, B, K], what `gumbel` would draw by `rng`.
        """
        latents = self.encode(x)
        if rng is None:
            quantized = self.quantize(latents)
        else:
            if self.estimator["estimator"] == "gumbel" and uniform is None:
                num_levels, num_codes, _ = self.codebooks.shape
                uniform = jax.random.uniform(rng, (num_levels, len(x), num_codes))
            quantized = residual.residual_quantize(
                latents,
                self.codewords(),
                distance=self.distance,
                uniform=uniform,
                **self.estimator,
            )
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
