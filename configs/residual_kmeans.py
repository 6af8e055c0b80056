"""Residual k-means: item embeddings to semantic IDs without training a model.

k-means of the embeddings, then of what each level leaves over. `balanced` gives all clusters of a
level equally many items, as OneRec does (Deng et al., 2025, https://arxiv.org/abs/2502.18965).

    python -m genrec_jax.main --config=configs/residual_kmeans.py
    python -m genrec_jax.main --config=configs/residual_kmeans.py:beauty --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = common.tokenizer("residual_kmeans", dataset, smoke)
    config.model = common.clusters(dataset, smoke)
    config.model.balanced = False
    return config
