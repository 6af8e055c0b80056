"""Checkpoints of RQ-VAE-Recommender, the PyTorch original, to runs of ours: docs/from_pytorch.md.

    python -m genrec_jax.main --config=configs/from_pytorch.py:beauty --config.data.dir=FOLDER \\
        --config.rqvae=rqvae.pt --config.embedder.path=sentence_t5.npy --workdir=runs/ids
    python -m genrec_jax.main --config=configs/from_pytorch.py:beauty --config.data.dir=FOLDER \\
        --config.decoder=decoder.pt --workdir=runs/original

Sizes are read off the arrays. Nothing in the files is run, and torch is not needed.
"""

from ml_collections import ConfigDict, config_dict

from configs import common, retrieval


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]; nothing is trained, so `smoke` changes nothing."""
    dataset, _ = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "from_pytorch"
    config.name = "from_pytorch"
    config.cache_dir = ""  # prepared data and embeddings; default WORKDIR/cache
    config.data = common.data(dataset)  # with items and users in the original's order
    config.rqvae = ""  # .pt or .safetensors
    config.decoder = ""  # the same; of T5 layers

    # Items as the RQ-VAE reads them, the original's sentence-T5 embeddings.
    config.embedder = common.embedder(False)
    config.embedder.name = "precomputed"
    config.embedder.standardize = False

    # What an RQ-VAE's arrays do not tell. Without one: what else is in its file, or else no
    # normalisation, no categorical columns, 0.25 and "straight_through", as for Amazon's data.
    config.normalize = config_dict.placeholder(bool)  # vae_codebook_normalize
    config.num_categorical = config_dict.placeholder(int)  # vae_n_cat_feats
    config.commitment_weight = config_dict.placeholder(float)
    config.estimator = config_dict.placeholder(str)  # vae_codebook_mode
    # Values of the code that tells colliding items apart; 0 for as many as it takes, which leaves
    # no room for items added later.
    config.extra_code_size = 0

    # What a decoder's arrays do not tell.
    config.dropout = 0.1  # which T5 has by default; serves nobody who only recommends
    config.first_user = 1  # the number of the data set's first user there, for user tokens

    # The rest of what the runs say of themselves; `eval` is how they recommend.
    config.retrieval = retrieval.get_config(arg)
    config.retrieval.name = "from_pytorch"
    config.retrieval.max_history = 20
    config.retrieval.dtype = "float32"
    config.retrieval.data = config.data
    config.retrieval.cache_dir = config.get_ref("cache_dir")
    config.retrieval.tokenizer_config.data = config.data
    config.retrieval.tokenizer_config.cache_dir = config.get_ref("cache_dir")
    config.retrieval.tokenizer_config.embedder = config.embedder
    return config
