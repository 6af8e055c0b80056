"""Semantic IDs of a whole catalogue, and the health of the tokenizer that gives them."""

import jax
import numpy as np

from genrec_jax.models.layers import Model
from genrec_jax.quantizers import health

_ROWS = 8192  # items a call


class Evaluator:
    """Assigns codes to all items, in float32 at full precision whatever training used."""

    def __init__(self, model: Model, embeddings: jax.Array):
        self._embeddings = embeddings  # [I, E]

        @jax.jit
        def assign(params, rows):
            with jax.default_matmul_precision("highest"):
                output = model.bind(params)(rows)
            return output.quantized.ids, output.reconstruction_loss, output.quantization_loss

        self._assign = assign

    def assign(self, params) -> tuple[np.ndarray, dict[str, float]]:
        """Returns codes [I, Q] int32, and the mean losses over the catalogue."""
        calls = [
            self._assign(params, self._embeddings[first : first + _ROWS])
            for first in range(0, len(self._embeddings), _ROWS)
        ]
        ids, reconstruction, quantization = map(np.concatenate, zip(*calls, strict=True))
        losses = {
            "tokenizer/reconstruction_loss": float(reconstruction.mean(dtype=np.float64)),
            "tokenizer/quantization_loss": float(quantization.mean(dtype=np.float64)),
        }
        return ids, losses

    def run(self, params) -> dict[str, float]:
        """Returns losses and health under `tokenizer/`, before collisions are resolved."""
        ids, losses = self.assign(params)
        return losses | health.report(ids, np.asarray(params["codebooks"]))
