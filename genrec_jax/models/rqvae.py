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
        level_sizes: K of each level. Parameters are padded to the largest, see `residual.pad`.
        commitment_weight: see `losses.quantization`.
        residual_gradient: see `residual.residual_quantize`.
        estimator, distance: see `vector.quantize`.
        simvq: whether each level's codewords are its table times a trained matrix.
        normalize: whether latents and the first level's codewords have length 1.
        learns_codebooks: whether codewords have a loss of their own.
        balanced_levels: in training, see `residual.residual_quantize`.
        implementation: how codes are found, see `residual.nearest_codes`.
        num_categorical: the last so many columns of the input are 0 or 1, see
            `losses.reconstruction`; the reconstruction of the others then has length 1, as in
            RQ-VAE-Recommender.
    """

    def __init__(
        self,
        *,
        embedding_dim: int,
        hidden_dims: tuple[int, ...],
        code_dim: int,
        level_sizes: tuple[int, ...],
        commitment_weight: float,
        residual_gradient: str,
        estimator: str,
        distance: str,
        simvq: bool,
        normalize: bool,
        learns_codebooks: bool,
        balanced_levels: tuple[int, ...],
        num_categorical: int,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ):
        dims = (embedding_dim, *hidden_dims, code_dim)
        self.encoder = MLP(dims, rngs=rngs)
        self.decoder = MLP(dims[::-1], rngs=rngs)
        shape = (len(level_sizes), max(level_sizes), code_dim)
        codebooks = jax.random.normal(rngs.params(), shape)
        self.codebooks = nnx.Param(residual.pad(residual.unpad(codebooks, level_sizes)))
        self.level_sizes = level_sizes
        self.simvq = simvq
        if simvq:  # begins as no change, so that codebooks may start as k-means
            identity = jnp.broadcast_to(jnp.eye(code_dim), (len(level_sizes), code_dim, code_dim))
            self.projections = nnx.Param(identity)
        self.normalize = normalize
        self.weights = {
            "commitment_weight": commitment_weight,
            "codebook_weight": float(learns_codebooks),
        }
        self.distance = distance
        self.estimator = estimator
        self.residual_gradient = residual_gradient
        self.balanced_levels = balanced_levels
        self.num_categorical = num_categorical
        self.implementation = implementation

    @jax.named_scope("encode")
    def encode(self, x: jax.Array) -> jax.Array:
        """Returns [B, C] latents of x [B, E]."""
        latents = self.encoder(x)
        return vector.unit_length(latents) if self.normalize else latents

    def codewords(self) -> list[jax.Array]:
        """Returns Q arrays [K, C], what the codebooks stand for."""
        return [
            vector.effective_codebook(
                codebook,
                self.projections[level] if self.simvq else None,
                normalize=self.normalize and level == 0,
            )
            for level, codebook in enumerate(residual.unpad(self.codebooks[...], self.level_sizes))
        ]

    @jax.named_scope("decode")
    def decode(self, latents: jax.Array) -> jax.Array:
        """Returns [B, E] of quantised latents [B, C]; logits of the categorical columns."""
        x_hat = self.decoder(latents)
        if self.num_categorical == 0:
            return x_hat
        split = x_hat.shape[-1] - self.num_categorical
        return jnp.concatenate([vector.unit_length(x_hat[:, :split]), x_hat[:, split:]], axis=-1)

    def __call__(
        self,
        x: jax.Array,
        rng: jax.Array | None = None,
        temperature: float | jax.Array = 1.0,
        uniform: jax.Array | None = None,
    ) -> Output:
        """Encodes, quantises and decodes x [B, E].

        Args:
            x: the batch.
            rng: for training, in which the estimator counts; without it, codewords are exact.
            temperature: of the estimator `gumbel`.
            uniform: [Q, B, K], what `gumbel` would draw by `rng`.
        """
        latents, codewords = self.encode(x), self.codewords()
        if rng is None:
            quantized = residual.residual_quantize(
                latents, codewords, distance=self.distance, implementation=self.implementation
            )
        else:
            if self.estimator == "gumbel" and uniform is None:
                uniform = jax.random.uniform(rng, (len(codewords), len(x), max(self.level_sizes)))
            quantized = residual.residual_quantize(
                latents,
                codewords,
                distance=self.distance,
                estimator=self.estimator,
                residual_gradient=self.residual_gradient,
                balanced_levels=self.balanced_levels,
                temperature=temperature,
                uniform=uniform,
                implementation=self.implementation,
            )
        x_hat = self.decode(quantized.embedding)
        return Output(
            x_hat,
            quantized,
            losses.reconstruction(x_hat, x, self.num_categorical),
            losses.quantization(quantized.residuals, quantized.codewords, **self.weights),
        )


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of an `RQVAE` with these arguments."""
    return layers.functional(lambda rngs: RQVAE(**kwargs, rngs=rngs))
