"""Tokenizers that are clustered: residual k-means, product quantisation."""

import time

import jax

from genrec_jax.quantizers import kmeans, product
from genrec_jax.tokenizers import codecs


def fit(config, data: jax.Array) -> tuple[dict, dict[str, float]]:
    """Clusters data [N, E], with the settings of configs/residual_kmeans.py and its like.

    Returns:
        params: of the codec, see `codecs.clustered_params`.
        metrics: `time/train_seconds`.
    """
    started = time.monotonic()
    settings, rng = config.model, jax.random.key(config.seed)
    shared = {
        "num_init": settings.num_init,
        "max_iterations": settings.max_iterations,
        "batch_size": settings.batch_size,
    }
    level_sizes = codecs.sizes_of(settings)
    if config.name == "residual_kmeans":
        codebooks = kmeans.residual_kmeans(
            rng, data, level_sizes=level_sizes, balanced=settings.balanced, **shared
        )
        params = codecs.clustered_params(codebooks)
    else:
        rotation, codebooks = product.product_quantization(
            rng, data, level_sizes, num_rotations=settings.num_rotations, **shared
        )
        params = codecs.clustered_params(codebooks, rotation)
    jax.block_until_ready(params)
    return params, {"time/train_seconds": time.monotonic() - started}
