"""Every tokenizer by its config, as a stage."""

import numpy as np
import pytest

from configs import fsq, product_quantization, retrieval, rqvae
from genrec_jax import checkpoint
from genrec_jax.data import cold_start
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.errors import UserError
from genrec_jax.quantizers import residual
from genrec_jax.tasks import tokenizer
from tests.data.corpus_test import make

SETTINGS = {
    rqvae: {
        "hidden_dims": (16,),
        "code_dim": 4,
        "level_sizes": (16, 8),
        "codebook_ema": 0.9,
        "train_balance": "last",
        "assign_balance": "all",
    },
    fsq: {"hidden_dims": (16,), "level_shapes": ((4, 4), (2, 4))},
    product_quantization: {"level_sizes": (16, 8)},
}


@pytest.mark.parametrize("module", SETTINGS, ids=lambda module: module.__name__)
def test_the_export_holds_what_the_others_read(module, tmp_path):
    config = module.get_config("smoke")
    config.data.synthetic_shop.update(num_users=300, num_items=200)
    config.embedder.update(dim=16, remainder_dim=4, collaborative_dim=4)
    config.model.update(SETTINGS[module])
    config.collisions = "extra_code"
    if "num_steps" in config:
        config.update(num_steps=40, eval_every=40, steps_per_call=20, batch_size=64)
    metrics = tokenizer.run(config, tmp_path)
    arrays, meta = checkpoint.load_export(tmp_path, ("state", "codebooks", "semantic_ids", "codes"))
    np.testing.assert_array_equal(arrays["semantic_ids"][:, :2], arrays["codes"])
    assert arrays["codebooks"].shape[:2] == (2, 16)
    np.testing.assert_array_equal(arrays["codebooks"][1, 8:], 0)
    assert meta["level_sizes"][:2] == [16, 8]
    assert meta["level_sizes"][2] == arrays["semantic_ids"][:, 2].max() + 1
    assert (arrays["semantic_ids"] < meta["level_sizes"]).all()
    assert metrics["tokenizer/unique_after"] == 1
    assert metrics["tokenizer/unique_before"] == meta["health"]["tokenizer/unique_before"]
    distinct = len(np.unique(arrays["semantic_ids"][:, :2], axis=0))
    assert metrics["tokenizer/unique_before"] == pytest.approx(distinct / 200)
    if module is rqvae:  # balanced
        counts = np.bincount(arrays["semantic_ids"][:, 0], minlength=16)
        assert set(counts) == {12, 13}
        trained = residual.unpad(arrays["state"]["params"]["codebooks"], (16, 8))
        for ours, exported in zip(
            trained, residual.unpad(arrays["codebooks"], (16, 8)), strict=True
        ):
            np.testing.assert_array_equal(ours, exported)


@pytest.mark.parametrize(
    "module", [rqvae, product_quantization], ids=lambda module: module.__name__
)
def test_more_items_than_ids_are_refused_before_training(module, tmp_path):
    config = module.get_config("smoke")
    config.data.synthetic_shop.update(num_users=300, num_items=200)
    config.embedder.update(dim=16, remainder_dim=4, collaborative_dim=4)
    config.model.level_sizes = (16, 8)
    with pytest.raises(UserError, match=r"200 items are more than the 128 IDs of 16 x 8 codes"):
        tokenizer.run(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


CORPUS = make([[0, 1, 2, 3], [0, 2, 1, 4], [3, 4, 0, 3]])
COLD = cold_start.hold_out_items(CORPUS, share=0.5, seed=0)  # 3 or 4


@pytest.mark.parametrize(
    "corpus, saw, is_taken",
    [
        (CORPUS, "", True),
        (CORPUS, None, True),  # a tokenizer of before
        (CORPUS, corpus_lib.training_fingerprint(CORPUS), True),
        (CORPUS, corpus_lib.training_fingerprint(COLD), False),
        (COLD, corpus_lib.training_fingerprint(COLD), True),
        (COLD, corpus_lib.training_fingerprint(CORPUS), False),
        (COLD, "", False),  # it was trained on all items
        (COLD, None, False),
    ],
)
def test_a_tokenizer_must_have_left_out_the_same_items(tmp_path, corpus, saw, is_taken):
    ids = np.stack(np.unravel_index(np.arange(10), (2, 3, 2)), -1).astype(np.int32)
    meta = {"corpus": corpus_lib.fingerprint(corpus), "level_sizes": [2, 3, 2]}
    meta |= {} if saw is None else {"training": saw}
    codebooks = np.ones((2, 3, 4), np.float32)
    checkpoint.export(tmp_path, {"codebooks": codebooks, "semantic_ids": ids}, meta)
    config = retrieval.get_config()
    config.tokenizer = str(tmp_path)
    if is_taken:
        taken = tokenizer.load_or_make(config, corpus, tmp_path, tmp_path)
        np.testing.assert_array_equal(taken.semantic_ids, ids)
    else:
        with pytest.raises(UserError, match=r"or other cold items: train one on this data set and"):
            tokenizer.load_or_make(config, corpus, tmp_path, tmp_path)
