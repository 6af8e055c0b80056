"""An autoencoder whose code is a finite scalar quantisation: see quantizers/fsq.py.

B batch   E embedding width   C code width   Q levels
"""

import jax
import jax.numpy as jnp
from flax import nnx

from genrec_jax import losses
from genrec_jax.models import layers, rqvae
from genrec_jax.quantizers import fsq, residual


class FSQ(nnx.Module):
    """Encoder, a fixed grid, and the encoder's mirror image as decoder.

    Args:
        embedding_dim, hidden_dims: widths, from the input to the last before the latents.
        level_shapes: for each level the number of values of each of its dimensions, which are C
            together.
    """

    def __init__(
        self,
        *,
        embedding_dim: int,
        hidden_dims: tuple[int, ...],
        level_shapes: tuple[tuple[int, ...], ...],
        rngs: nnx.Rngs,
    ):
        self.level_shapes = level_shapes
        self.num_values = tuple(number for shape in level_shapes for number in shape)
        dims = (embedding_dim, *hidden_dims, len(self.num_values))
        self.encoder = rqvae.MLP(dims, rngs=rngs)
        self.decoder = rqvae.MLP(dims[::-1], rngs=rngs)

    @jax.named_scope("encode")
    def encode(self, x: jax.Array) -> jax.Array:
        """Returns [B, C] latents of x [B, E], within the grid."""
        return fsq.bound(self.encoder(x), self.num_values)

    def codewords(self) -> list[jax.Array]:
        """Returns Q arrays [K, C]."""
        return [jnp.asarray(grid) for grid in fsq.grids(self.level_shapes)]

    @jax.named_scope("decode")
    def decode(self, latents: jax.Array) -> jax.Array:
        """Returns [B, E] of quantised latents [B, C]."""
        return self.decoder(latents)

    def __call__(
        self, x: jax.Array, rng: jax.Array | None = None, temperature: float | jax.Array = 1.0
    ) -> rqvae.Output:
        """Encodes, rounds with straight-through gradients and decodes x [B, E].

        `rng` and `temperature` serve nothing: rounding is the same in training. The grid is fixed,
        so there is no quantisation loss.
        """
        quantized = residual.residual_quantize(self.encode(x), self.codewords())
        x_hat = self.decode(quantized.embedding)
        return rqvae.Output(x_hat, quantized, losses.reconstruction(x_hat, x), jnp.zeros(len(x)))


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of an `FSQ` with these arguments."""
    return layers.functional(lambda rngs: FSQ(**kwargs, rngs=rngs))
