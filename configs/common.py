"""What several configs share: the argument, the data, the embedder."""

from ml_collections import ConfigDict

from genrec_jax.data.datasets import NAMES, check_name
from genrec_jax.errors import UserError


def parse_arg(arg: str) -> tuple[str, bool]:
    """Returns the data set and whether `smoke` is asked for, from `[DATASET][,smoke]`."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    names = [word for word in words if word != "smoke"]
    for name in names:
        check_name(name)
    if len(names) > 1:
        raise UserError(f"config argument {arg!r} names {len(names)} data sets: give one")
    return names[0] if names else NAMES[0], smoke


def data(dataset: str) -> ConfigDict:
    """Returns which data to read. `dir` is one data set's folder, see docs/data.md."""
    config = ConfigDict()
    config.dataset = dataset
    config.dir = ""  # or GENREC_DATA_DIR; of `files`, or these two tables, whose columns follow:
    config.edition = ""  # of `movielens` and `amazon`, to download: "ml-1m", "2023/All_Beauty"
    config.items_file = ""  # --config.data.items; a ConfigDict has a method of that name
    config.interactions = ""
    config.item_id = "item_id"  # "ITEMS_COLUMN,INTERACTIONS_COLUMN" if they differ
    config.user_id = "user_id"
    config.time = "timestamp"  # empty if the rows are in the order of time
    config.text = ""  # columns of items with commas between; empty for those named as usual
    config.k_core = 0  # events that each user and each item must have; 0 for any number
    config.max_bad_lines = 0  # of files as published, to leave out with a warning
    config.split = "leave_one_out"  # or "temporal", at the times after which these shares lie:
    config.valid_share = 0.1
    config.test_share = 0.1
    config.cold_share = 0.0  # of the items to predict in the test: nothing is trained on them
    config.cold_seed = 0  # chooses them
    config.synthetic_shop = ConfigDict({"seed": 0, "num_users": 8000, "num_items": 1000})
    return config


def tokenizer(name: str, dataset: str, smoke: bool) -> ConfigDict:
    """Returns what the configs of all tokenizers share."""
    config = ConfigDict()
    config.task = "tokenizer"
    config.name = name
    config.seed = 0
    config.cache_dir = ""  # prepared data and embeddings; default WORKDIR/cache
    config.data = data(dataset)
    config.embedder = embedder(smoke)
    config.held_out_share = 0.0  # of the items, which only get IDs and an evaluation of their own
    # Items with equal codes get the nearest free codes, or are told apart by one more code.
    config.collisions = "reassign"  # or "extra_code"
    # Values of that code; 0 for as many as it takes, which leaves no room for items added later.
    config.extra_code_size = 0 if smoke else 256
    return config


def checkpoint() -> ConfigDict:
    """Returns when training saves, beside after each evaluation, and which checkpoints stay."""
    config = ConfigDict()
    config.every_minutes = 10.0  # saves between evaluations; 0 for none
    config.keep_last = 2
    config.keep_best = 2  # by validation, where it selects; as many as `keep_last` at least
    config.keep_every_hours = 0.0  # one in so many hours stays for good; 0 for none
    return config


def profile() -> ConfigDict:
    """Returns which steps of training to trace, into WORKDIR/profile, see docs/profiling.md."""
    config = ConfigDict()
    config.first_step = 0
    config.num_steps = 0  # 0 for none; dispatches are traced whole, `steps_per_call` each
    return config


def mesh() -> ConfigDict:
    """Returns how many devices share what, see genrec_jax/sharding.py; -1 for all that are left."""
    config = ConfigDict()
    config.data = -1  # share the rows of a batch
    config.model = 1  # share large arrays
    return config


def plan() -> ConfigDict:
    """Returns for how many devices to print the memory of a run's arrays, instead of running it."""
    config = ConfigDict()
    config.num_devices = 0  # 0 to run
    return config


def levels(dataset: str) -> ConfigDict:
    """Returns the levels of a semantic ID, below `model`."""
    config = ConfigDict()
    config.num_levels = 3
    config.codebook_size = 64 if dataset == "synthetic" else 256
    config.level_sizes = ()  # of levels of different sizes: one number each, instead of these two
    return config


def clusters(dataset: str, smoke: bool) -> ConfigDict:
    """Returns the levels and how k-means finds their codewords, below `model`."""
    config = levels(dataset)
    config.num_init = 1 if smoke else 3  # fits a level, of which the best is kept
    config.max_iterations = 20 if smoke else 300  # or mini-batches
    config.batch_size = 0  # of mini-batches, for very large catalogues; 0: all items
    return config


def embedder(smoke: bool) -> ConfigDict:
    """Returns how items become vectors."""
    config = ConfigDict()
    # One of "lsa", "minilm", "sentence_t5", "collaborative", "precomputed" and "categories", or
    # several, with commas between, side by side.
    config.name = "lsa,collaborative"
    config.weights = ()  # of several: their shares of the squared distances; empty for equal ones
    config.dim = 64 if smoke else 128  # of `lsa`: of what many texts share
    config.remainder_dim = 32  # of `lsa`: of what that leaves out
    config.collaborative_dim = 64  # of `collaborative`: of who had which items, in training alone
    config.model = (
        "sentence-transformers/sentence-t5-base"  # of `sentence_t5`: any such, or a folder
    )
    config.path = ""  # of `precomputed`
    config.standardize = True
    config.seed = 0  # of `lsa` and `collaborative`
    return config


def evaluation() -> ConfigDict:
    """Returns how a recommender is evaluated."""
    config = ConfigDict()
    config.num_beams = 50  # items that are searched for
    config.batch_size = 512
    config.max_users = 0  # a sample of so many users, the same for all seeds; 0 for all
    config.unseen_share = 0.0  # of the places, at least, for items that training lacks
    return config
