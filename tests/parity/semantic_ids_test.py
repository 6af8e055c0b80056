"""Semantic IDs of a whole catalogue, collisions included, against the recording."""

import numpy as np

from genrec_jax import sharding
from genrec_jax.evaluators import tokenizer
from genrec_jax.interop import pytorch
from genrec_jax.quantizers import collisions
from genrec_jax.tokenizers import codecs
from tests.parity import fixtures
from tests.parity.fixtures import Fixture


def semantic_ids(fixture) -> np.ndarray:
    """Returns our IDs. The original counts earlier items: all are equally popular."""
    meta = fixture.meta
    sizes = (meta["codebook_size"],) * meta["n_layers"]
    codec = codecs.of_model(fixtures.rqvae_model(meta), sizes)
    params = pytorch.rqvae_params(fixture.below("param/"))
    embeddings = fixture["x"]
    nobody, mesh = np.zeros(len(embeddings), bool), sharding.one_device()
    evaluator = tokenizer.Evaluator(codec, embeddings, nobody, mesh)
    codes = evaluator.assign(params).codes
    return collisions.append_extra_code(codes, np.zeros(len(codes)), size=0)


def test_ids_of_the_catalogue():
    fixture = Fixture("semids")
    np.testing.assert_array_equal(semantic_ids(fixture), fixture["cached_ids"])


def test_ids_of_histories():
    fixture = Fixture("semids")
    ids = semantic_ids(fixture)
    mask = fixture["seq_mask_items"]
    history = np.where(mask[..., None], ids[fixture["item_ids"]], -1)
    np.testing.assert_array_equal(history.reshape(len(mask), -1), fixture["tok_sem_ids"])
    np.testing.assert_array_equal(np.repeat(mask, ids.shape[1], axis=1), fixture["tok_seq_mask"])
    future = ids[fixture["item_ids_fut"]]
    np.testing.assert_array_equal(future.reshape(len(mask), -1), fixture["tok_sem_ids_fut"])
