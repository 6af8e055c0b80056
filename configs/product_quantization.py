"""Product quantisation: item embeddings to semantic IDs of independent levels.

Each level codes dimensions of its own (Jegou et al., 2011), after a rotation that is learnt so that
little is lost (optimised product quantisation: Ge et al., 2013).

    python -m genrec_jax.main --config=configs/product_quantization.py
    python -m genrec_jax.main --config=configs/product_quantization.py:beauty \\
        --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = common.tokenizer("product_quantization", dataset, smoke)
    config.model = common.clusters(dataset, smoke)
    config.model.num_rotations = 5 if smoke else 30  # improvements of the rotation; 0: plain PQ
    return config
