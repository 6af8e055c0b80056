"""What the tokenizer is trained on."""

import numpy as np
import pytest

from configs import rqvae as config_lib
from genrec_jax import checkpoint
from genrec_jax.data import datasets
from genrec_jax.tasks import tokenizer
from tests.program_test import TOKENIZER


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Returns a function that tokenizes embeddings, and which of the items are cold."""
    folder = tmp_path_factory.mktemp("cold")
    config = config_lib.get_config("smoke")
    config.update_from_flattened_dict(TOKENIZER | {"model.hidden_dims": (32,), "num_steps": 20})
    config.update_from_flattened_dict(
        {
            "data.synthetic_shop.num_users": 100,
            "data.synthetic_shop.num_items": 100,
            "data.cold_share": 0.2,
            "cache_dir": str(folder / "cache"),
            "embedder.name": "precomputed",
            "embedder.path": str(folder / "embeddings.npy"),
            "embedder.standardize": False,  # whose means are of all items
        }
    )

    def tokenize(name, embeddings):
        np.save(folder / "embeddings.npy", embeddings)
        tokenizer.run(config, folder / name)
        return checkpoint.load_export(folder / name, ("codebooks", "semantic_ids"))

    return tokenize, datasets.load(folder / "cache", **config.data.to_dict()).is_cold


def test_cold_items_get_ids_and_teach_nothing(world):
    tokenize, is_cold = world
    embeddings = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    assert 10 < is_cold.sum() < 25
    (arrays, meta), (of_other_cold, _), (of_other_warm, _) = (
        tokenize(name, np.where(is_other[:, None], -embeddings, embeddings))
        for name, is_other in (
            ("all", np.zeros(100, bool)),
            ("cold", is_cold),
            ("warm", np.arange(100) == np.flatnonzero(~is_cold)[0]),
        )
    )
    np.testing.assert_array_equal(of_other_cold["codebooks"], arrays["codebooks"])
    codes, other_codes = arrays["semantic_ids"][:, :-1], of_other_cold["semantic_ids"][:, :-1]
    np.testing.assert_array_equal(other_codes[~is_cold], codes[~is_cold])
    assert (other_codes[is_cold] != codes[is_cold]).any()
    assert (of_other_warm["codebooks"] != arrays["codebooks"]).any()
    assert len(np.unique(arrays["semantic_ids"], axis=0)) == 100
    assert meta["training"]  # so that a run with other cold items notices
