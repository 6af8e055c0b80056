"""Numbers recorded from RQ-VAE-Recommender, and our models of their shapes.

The files lie beside this one, or in the folder that GENREC_PARITY_DIR names. Every size and
hyperparameter comes from the file, so another recording is read by the same tests.
"""

import json
import os
import pathlib

import jax
import numpy as np

from genrec_jax.interop import pytorch
from genrec_jax.models import encoder_decoder, rqvae


class Fixture(dict):
    """The arrays of one file by name, and its `meta`."""

    def __init__(self, name: str):
        folder = os.environ.get("GENREC_PARITY_DIR") or pathlib.Path(__file__).parent
        with np.load(pathlib.Path(folder) / f"{name}.npz", allow_pickle=False) as file:
            super().__init__(file)
        self.meta = json.loads(str(self.pop("meta")))

    def below(self, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays whose names begin with `prefix`, without it."""
        return {
            name.removeprefix(prefix): array
            for name, array in self.items()
            if name.startswith(prefix)
        }


def assert_close(actual, expected, tolerance: float) -> None:
    """Asserts that max |a - b| / max(1, max |b|) is within the tolerance, of whole pytrees."""

    def check(path, a, b):
        assert np.shape(a) == np.shape(b), jax.tree_util.keystr(path)
        difference = np.abs(np.asarray(a, np.float64) - b).max() / max(1.0, np.abs(b).max())
        assert difference <= tolerance, f"{jax.tree_util.keystr(path)}: {difference}"

    jax.tree_util.tree_map_with_path(check, actual, expected)


def as_dtype(tree, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


RQVAE_ESTIMATORS = {"ste": "straight_through", "rotation": "rotation", "gumbel": "gumbel"}


def rqvae_model(meta: dict):
    return rqvae.model(
        embedding_dim=meta["input_dim"],
        hidden_dims=tuple(meta["hidden_dims"]),
        code_dim=meta["embed_dim"],
        level_sizes=(meta["codebook_size"],) * meta["n_layers"],
        commitment_weight=meta.get("commitment_weight", 0.25),  # `semids` records no loss
        residual_gradient="estimator",
        estimator=RQVAE_ESTIMATORS[meta.get("mode", "ste")],
        distance="euclidean",
        simvq=meta.get("sim_vq", False),
        normalize=meta.get("codebook_normalize", False),
        learns_codebooks=True,
        balanced_levels=(),
        num_categorical=meta.get("n_cat_features", 0),
    )


def t5_model(meta: dict, *, full: bool):
    """Returns our model of their layout `full` (user token and separator) or `bare`."""
    config = meta["t5config"]["encoder"]
    assert config["relative_attention_num_buckets"] == 32
    assert config["relative_attention_max_distance"] == 128
    return encoder_decoder.model(
        level_sizes=(meta["num_embeddings_per_hierarchy"],) * meta["num_hierarchies"],
        embedding_dim=config["d_model"],
        dim=config["d_model"],
        num_heads=config["num_heads"],
        head_dim=config["d_kv"],
        hidden_dim=config["d_ff"],
        num_encoder_layers=config["num_layers"],
        num_decoder_layers=meta["t5config"]["decoder"]["num_layers"],
        activation=config["dense_act_fn"],
        positions="relative",
        max_history=0,  # serves learned places only
        dropout=config["dropout_rate"],
        use_separator=full,
        num_user_bins=meta["num_user_bins"] if full else 0,
        dtype="float32",
    )


def t5_params(weights: dict[str, np.ndarray], *, full: bool) -> dict:
    """Returns our parameters, or gradients, from theirs."""
    params = pytorch.decoder_params(weights)
    if not full:
        del params["separator"], params["users"]
    return params


def t5_inputs(fixture: Fixture) -> dict[str, np.ndarray]:
    """Returns the histories without their column against duplicates."""
    num_levels = fixture.meta["num_hierarchies"]
    batch = len(fixture["sem_ids"])
    codes = fixture["sem_ids"].reshape(batch, -1, num_levels + 1)[..., :num_levels]
    mask = fixture["seq_mask"].reshape(batch, -1, num_levels + 1)[..., 0]
    return {
        "codes": codes.astype(np.int32),
        "mask": mask,
        "users": fixture["user_ids"][:, 0].astype(np.int32),
        "targets": fixture["sem_ids_fut"][:, :num_levels].astype(np.int32),
    }
