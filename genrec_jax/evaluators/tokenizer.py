"""Semantic IDs of a whole catalogue, and the health of the tokenizer that gives them."""

import jax
import numpy as np

from genrec_jax.models.layers import Model
from genrec_jax.quantizers import health

_ROWS = 8192  # items a call


class Evaluator:
    """Assigns codes to all items, in float32 at full precision whatever training used."""

    def __init__(self, model: Model, embeddings: jax.Array, is_held_out: np.ndarray):
        """`embeddings` [I, E]; `is_held_out` [I] bool, which items training does not see."""
        self._embeddings, self._is_held_out = embeddings, is_held_out

        @jax.jit
        def assign(params, rows):
            with jax.default_matmul_precision("highest"):
                output = model.bind(params)(rows)
            return output.quantized.ids, output.reconstruction_loss, output.quantization_loss

        self._assign = assign

    def assign(self, params) -> tuple[np.ndarray, dict[str, float]]:
        """Returns codes [I, Q] int32, and the mean losses over the catalogue.

        If items are held out, the reconstruction of these is reported beside.
        """
        calls = [
            self._assign(params, self._embeddings[first : first + _ROWS])
            for first in range(0, len(self._embeddings), _ROWS)
        ]
        ids, reconstruction, quantization = map(np.concatenate, zip(*calls, strict=True))
        losses = {
            "tokenizer/reconstruction_loss": float(reconstruction.mean(dtype=np.float64)),
            "tokenizer/quantization_loss": float(quantization.mean(dtype=np.float64)),
        }
        if self._is_held_out.any():
            held_out = reconstruction[self._is_held_out].mean(dtype=np.float64)
            losses["tokenizer/held_out_reconstruction_loss"] = float(held_out)
        return ids, losses

    def run(self, params) -> dict[str, float]:
        """Returns losses and health under `tokenizer/`, before collisions are resolved."""
        ids, losses = self.assign(params)
        return losses | health.report(ids, np.asarray(params["codebooks"]))
