"""Which tokenizers a retrieval run takes."""

import numpy as np
import pytest

from configs import retrieval as config_lib
from genrec_jax import checkpoint
from genrec_jax.data import cold_start
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.errors import UserError
from genrec_jax.tasks import retrieval
from tests.data.corpus_test import make

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
    config = config_lib.get_config()
    config.tokenizer = str(tmp_path)
    if is_taken:
        taken = retrieval._tokenizer(config, corpus, tmp_path, tmp_path)
        np.testing.assert_array_equal(taken["semantic_ids"], ids)
    else:
        with pytest.raises(UserError, match=r"or other cold items: train one on this data set and"):
            retrieval._tokenizer(config, corpus, tmp_path, tmp_path)
