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
    config.model = common.levels(dataset)
    config.model.num_init = 1 if smoke else 3  # fits a level, of which the best is kept
    config.model.max_iterations = 20 if smoke else 300  # or mini-batches
    config.model.batch_size = 0  # of mini-batches, for very large catalogues; 0: all items
    config.model.balanced = False
    return config
