"""Semantic IDs of a whole catalogue, and the health of the tokenizer that gives them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import losses, sharding
from genrec_jax.quantizers import health, residual
from genrec_jax.tokenizers.codecs import Codec

_ROWS = 32_768  # items a call


class Assignment(NamedTuple):
    """What `Evaluator.assign` returns."""

    codes: np.ndarray  # [I, Q] int32
    latents: np.ndarray  # [I, C] float32
    losses: dict[str, float]  # means over the catalogue


class Evaluator:
    """Assigns codes to all items, in float32 at full precision whatever training used."""

    def __init__(
        self,
        codec: Codec,
        embeddings: jax.Array,
        is_held_out: np.ndarray,
        mesh: jax.sharding.Mesh,
    ):
        """Takes what all calls share.

        Args:
            codec: of the kind of tokenizer.
            embeddings: [I, E].
            is_held_out: [I] bool, which items training does not see.
            mesh: the devices, which share the items of a call.
        """
        self._codec = codec
        self._embeddings, self._is_held_out = embeddings, is_held_out
        num_shards = mesh.shape["data"]
        self._rows = -(-min(_ROWS, len(embeddings)) // num_shards) * num_shards
        if codec.balanced_levels:  # codes depend on the other items of the call
            self._rows = codec.balanced_rows or len(embeddings)

        @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
        def assign(params, rows):
            if len(rows) % num_shards == 0:
                rows = jax.lax.with_sharding_constraint(rows, sharding.over_rows(mesh))
            with jax.default_matmul_precision("highest"):
                latents = codec.encode(params, rows)
                quantized = residual.residual_quantize(
                    latents,
                    codec.codewords(params),
                    distance=codec.distance,
                    balanced_levels=codec.balanced_levels,
                    implementation="xla",  # written IDs are those of float32 products
                )
                x_hat = codec.decode(params, quantized.embedding)
            return (
                quantized.ids,
                latents,
                losses.reconstruction(x_hat, rows, codec.num_categorical),
                losses.quantization(
                    quantized.residuals, quantized.codewords, codec.commitment_weight
                ),
            )

        self._assign = assign

    def assign(self, params) -> Assignment:
        """Returns the codes of all items.

        If items are held out, the reconstruction of these is reported beside.
        """
        calls = [
            self._assign(params, self._rows_from(first))
            for first in range(0, len(self._embeddings), self._rows)
        ]
        ids, latents, reconstruction, quantization = (
            np.concatenate(parts)[: len(self._embeddings)]
            for parts in zip(*sharding.on_host(calls), strict=True)
        )
        values = {
            "tokenizer/reconstruction_loss": float(reconstruction.mean(dtype=np.float64)),
            "tokenizer/quantization_loss": float(quantization.mean(dtype=np.float64)),
        }
        if self._is_held_out.any():
            held_out = reconstruction[self._is_held_out].mean(dtype=np.float64)
            values["tokenizer/held_out_reconstruction_loss"] = float(held_out)
        return Assignment(ids, latents, values)

    def _rows_from(self, first: int) -> jax.Array:
        """Returns the embeddings of a call."""
        rows = self._embeddings[first : first + self._rows]
        if self._codec.balanced_levels:
            return rows
        # Filled up, as another shape would be another program, which GPUs take long to compile.
        return jnp.pad(rows, ((0, self._rows - len(rows)), (0, 0)))

    def codewords(self, params) -> list[np.ndarray]:
        """Returns Q arrays [K, C]."""
        return list(sharding.on_host(jax.jit(self._codec.codewords)(params)))

    def run(self, params) -> dict[str, float]:
        """Returns losses and health under `tokenizer/`, before collisions are resolved."""
        assignment = self.assign(params)
        return assignment.losses | health.report(assignment.codes, self.codewords(params))
