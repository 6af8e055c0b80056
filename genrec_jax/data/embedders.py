"""Item embeddings, from texts, from interactions or from a file, and cached by content.

The cache is `<hash>.npy`, [I, E] float32, beside `<hash>.json`, which says what was hashed (the
embedder with its settings, the text template, the catalogue) and the checksum of the array.
"""

import functools
import hashlib
import io
import json
import logging
import os
import pathlib
import shutil

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.random_projection import SparseRandomProjection

from genrec_jax import distributed, files
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import embedding_files, sentence_encoders
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError

NAMES = ("lsa", "minilm", "sentence_t5", "collaborative", "precomputed", "categories")
_IN_PARTS = ("minilm", "sentence_t5")  # which take long, and go on where they were
_VERSION = 2  # raise it when an embedder changes what it returns
_PROJECTION_DENSITY = 1 / 8  # of lsa's remainder: how much of a word's direction is not zero
_log = logging.getLogger(__name__)


def embed(
    corpus: Corpus,
    directory: str,
    *,
    name: str,
    weights: tuple[float, ...],
    num_fitted: int | None = None,
    **settings,
) -> np.ndarray:
    """Returns [I, E] float32 item embeddings, from the cache in `directory` if they are there.

    Args:
        corpus: the catalogue, and for `collaborative` the histories.
        directory: the cache; any number of runs may share it.
        name: one of `NAMES`, or several with commas between, whose vectors stand side by side,
            those of `categories` last and as they are.
        weights: of several others, each one's share of the squared distances; empty for equal ones.
        num_fitted: how many of the items, the first ones, everything is fitted to; None for all.
            The others, which are added later, are described in the same space.
        **settings: the other arguments of `_embed`.
    """
    names = split_names(name)
    weighted = [word for word in names if word != "categories"]
    if weights and len(weighted) < 2:
        raise UserError(
            f"--config.embedder.weights={weights} is for several embedders, not for {name} alone: "
            "leave it out"
        )
    if len(weights) not in (0, len(weighted)) or any(weight <= 0 for weight in weights):
        raise UserError(
            f"--config.embedder.weights={weights} must be a number above 0 for each of "
            f"{', '.join(weighted)}, or () for equal ones"
        )
    if settings["path"] and "precomputed" not in names:
        raise UserError(
            f"--config.embedder.path={settings['path']} is for --config.embedder.name=precomputed, "
            f"not {name}: give that name, or leave out the path"
        )
    num_fitted = corpus.num_items if num_fitted is None else num_fitted
    parts = {
        name: distributed.first_before_others(
            functools.partial(
                _embed, corpus, directory, name=name, num_fitted=num_fitted, **settings
            )
        )
        for name in names
    }
    flags = [parts.pop("categories")] if "categories" in parts else []
    others = list(parts.values())
    if len(others) > 1:
        others = [_side_by_side(others, weights or (1.0,) * len(others), num_fitted)]
    return np.concatenate([*others, *flags], axis=1)


def split_names(name: str) -> list[str]:
    """Returns the embedders that --config.embedder.name asks for."""
    names = [word.strip() for word in name.split(",")]
    for word in names:
        if word not in NAMES:
            raise UserError(
                f"unknown embedder {word!r}: choose one or several of {', '.join(NAMES)}"
            )
    if len(set(names)) < len(names):
        raise UserError(f"--config.embedder.name={name} names an embedder twice")
    return names


def _embed(
    corpus: Corpus,
    directory: str,
    *,
    name: str,
    num_fitted: int,
    dim: int,
    remainder_dim: int,
    collaborative_dim: int,
    model: str,
    path: str,
    standardize: bool,
    seed: int,
) -> np.ndarray:
    """Returns [I, E] of one embedder.

    Args:
        corpus, directory, num_fitted: see `embed`.
        name: `lsa`, `collaborative` or `categories`, the functions below, `minilm` or
            `sentence_t5`, those of `sentence_encoders`, or `precomputed`.
        dim, remainder_dim: the widths of `lsa`, whose E is their sum.
        collaborative_dim: the width of `collaborative`.
        model: of `sentence_t5`.
        path: the file of `precomputed`, as `embedding_files` describes it.
        standardize: shift and scale each dimension to mean 0 and standard deviation 1, but not
            those of `categories`.
        seed: of `lsa` and `collaborative`.
    """
    hashed = {"embedder": name, "standardize": standardize, "version": _VERSION}
    hashed |= {"text_template": corpus.text_template, "catalogue": corpus_lib.fingerprint(corpus)}
    if num_fitted < corpus.num_items:
        hashed |= {"num_fitted": num_fitted}
    if name == "lsa":
        hashed |= {"dim": dim, "remainder_dim": remainder_dim, "seed": seed}
        compute = functools.partial(lsa, corpus.texts, dim, remainder_dim, seed, num_fitted)
    elif name == "minilm":
        hashed |= {"package": sentence_encoders.MINILM}
        compute = functools.partial(sentence_encoders.minilm, corpus.texts)
    elif name == "sentence_t5":
        if os.path.isdir(model):  # whose contents may change, as those of a name hardly do
            hashed |= {"model_sha256": files.sha256_of_folder(model)}
        else:
            hashed |= {"model": model}
        compute = functools.partial(sentence_encoders.sentence_t5, corpus.texts, model)
    elif name == "collaborative":
        hashed |= {"dim": collaborative_dim, "seed": seed}
        hashed |= {"training": corpus_lib.training_fingerprint(corpus)}
        compute = functools.partial(collaborative, corpus, collaborative_dim, seed)
    elif name == "categories":
        text = json.dumps(corpus.categories)  # which the catalogue's fingerprint does not see
        hashed |= {"categories_sha256": hashlib.sha256(text.encode()).hexdigest()}
        compute = functools.partial(categories, corpus.categories, num_fitted)
    else:
        hashed |= {"file_sha256": embedding_files.checksum(path)}
        compute = functools.partial(embedding_files.read, path, corpus.item_ids)
    key = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]
    array_path = pathlib.Path(directory) / f"{key}.npy"
    cached = _read_cache(array_path)
    if cached is not None:
        return cached

    parts = array_path.with_suffix(".parts")
    embeddings = compute(parts) if name in _IN_PARTS else compute()
    if standardize and name != "categories":
        embeddings = _standardize(embeddings, num_fitted)
    _write_cache(array_path, embeddings, hashed)
    shutil.rmtree(parts, ignore_errors=True)
    return embeddings


def lsa(
    texts: list[str], dim: int, remainder_dim: int, seed: int, num_fitted: int | None = None
) -> np.ndarray:
    """Returns latent semantic analysis of the texts: TF-IDF, then a truncated SVD.

    Words, their weights and directions are those of the first `num_fitted` texts, None for all.

    Words and pairs of words count (Deerwester et al., 1990, with scikit-learn's sublinear term
    frequency). The SVD keeps what many texts share and drops the rare words that tell similar
    items apart, so a random projection of what it drops stands beside it, in which distances are
    kept on average (Johnson and Lindenstrauss, 1984).

    Returns:
        [I, E] float32. E is `dim`, or fewer if the texts or their words are fewer, and
        `remainder_dim` more.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    try:
        weights = vectorizer.fit_transform(texts[:num_fitted])  # [I, words]
    except ValueError:  # there are no words
        weights = None
    if weights is None or weights.shape[1] < 2 or weights.getnnz(axis=0).max() < 2:
        raise UserError(
            f"embedder lsa: the {len(texts[:num_fitted])} texts have fewer than two words, or none "
            "that occurs in two of them: give the items longer texts or use "
            "--config.embedder.name=precomputed"
        )
    width = min(dim, *weights.shape)
    if width < dim:
        _log.warning("lsa: %d dimensions instead of %d: there are no more", width, dim)
    svd = TruncatedSVD(width, random_state=seed)
    embeddings = svd.fit_transform(weights)  # [I, width]
    if later := texts[len(embeddings) :]:
        later_weights = vectorizer.transform(later)
        weights = sparse.vstack([weights, later_weights]).tocsr()
        embeddings = np.concatenate([embeddings, svd.transform(later_weights)])
    remainder_dim = min(remainder_dim, weights.shape[1])
    if remainder_dim:
        directions = SparseRandomProjection(
            remainder_dim, density=_PROJECTION_DENSITY, random_state=seed
        )
        directions = directions.fit(weights).components_.T  # [words, remainder_dim]
        dropped = (weights @ directions).toarray() - embeddings @ (svd.components_ @ directions)
        embeddings = np.concatenate([embeddings, dropped], axis=1)
    return embeddings.astype(np.float32)


def collaborative(corpus: Corpus, dim: int, seed: int) -> np.ndarray:
    """Returns what the training parts of the histories say of the items: who had which.

    The matrix of items and users, 1 where the user had the item, each entry divided by the square
    roots of how many items the user and how many users the item had, then a truncated SVD. So two
    items are near if the same users had them: the products of the vectors are the best ones of
    their width for the normalised co-occurrence (as in spectral clustering, Ng et al., 2001).
    An item without training interactions is at zero. Validation and test are not looked at.

    Returns:
        [I, E] float32. E is `dim`, or fewer if the items or the users are fewer.
    """
    had = corpus_lib.training_sets(corpus).T  # [I, U]
    per_item, per_user = had.sum(axis=1), had.sum(axis=0)
    if min((per_item > 0).sum(), (per_user > 0).sum()) < 2:
        raise UserError(
            "embedder collaborative: fewer than two items or two users have training interactions: "
            "use --config.embedder.name=lsa"
        )
    per_item, per_user = (sparse.diags(1 / np.sqrt(np.maximum(n, 1))) for n in (per_item, per_user))
    width = min(dim, *had.shape)
    if width < dim:
        _log.warning("collaborative: %d dimensions instead of %d: there are no more", width, dim)
    svd = TruncatedSVD(width, random_state=seed)
    return svd.fit_transform((per_item @ had @ per_user).tocsr()).astype(np.float32)


def categories(paths: list[tuple[str, ...]], num_fitted: int) -> np.ndarray:
    """Returns which categories each item has: the genres of a movie, or the path of a product.

    Args:
        paths: I of them, of any number of names.
        num_fitted: how many of the items have the names that count.

    Returns:
        [I, E] float32 of 0 and 1, with a column for each name, in the order of the alphabet.
    """
    columns = {name: column for column, name in enumerate(sorted(set().union(*paths[:num_fitted])))}
    if not columns:
        raise UserError(
            "embedder categories: no item has any: choose another --config.embedder.name"
        )
    flags = np.zeros((len(paths), len(columns)), np.float32)
    for row, path in zip(flags, paths, strict=True):
        row[[columns[name] for name in path if name in columns]] = 1
    return flags


def _standardize(embeddings: np.ndarray, num_fitted: int) -> np.ndarray:
    fitted = embeddings[:num_fitted]
    mean, std = fitted.mean(axis=0), fitted.std(axis=0)
    is_constant = (fitted == fitted[0]).all(axis=0)  # rounding gives it a deviation too
    is_constant |= std == 0  # differences whose squares float32 cannot hold; minilm has them
    return np.where(is_constant, 0, (embeddings - mean) / np.where(is_constant, 1, std))


def _side_by_side(
    parts: list[np.ndarray], weights: tuple[float, ...], num_fitted: int
) -> np.ndarray:
    """Returns [I, sum of E] whose squared distances, on average, are shared as `weights` say.

    Its mean variance is 1.
    """
    width = sum(part.shape[1] for part in parts)
    variances = [part[:num_fitted].var(axis=0).sum() for part in parts]
    shares = np.array(weights) / sum(weights)
    scaled = [
        part * np.float32(np.sqrt(share * width / variance)) if variance else part
        for part, share, variance in zip(parts, shares, variances, strict=True)
    ]
    return np.concatenate(scaled, axis=1)


def _read_cache(array_path: pathlib.Path) -> np.ndarray | None:
    side_car = array_path.with_suffix(".json")
    if not side_car.exists() or not array_path.exists():  # the side-car is written last
        return None
    try:
        checksum = files.read_json(side_car)["array_sha256"]
    except (ValueError, KeyError, TypeError):  # not JSON, or not what `_write_cache` writes
        checksum = None
    data = array_path.read_bytes()
    if hashlib.sha256(data).hexdigest() != checksum:
        _log.warning("%s or its .json is damaged: computing the embeddings again", array_path)
        return None
    return np.load(io.BytesIO(data), allow_pickle=False)


def _write_cache(array_path: pathlib.Path, embeddings: np.ndarray, settings: dict) -> None:
    buffer = io.BytesIO()
    np.save(buffer, embeddings)
    data = buffer.getvalue()
    files.write_atomically(array_path, data)
    checksum = hashlib.sha256(data).hexdigest()
    shape = list(embeddings.shape)
    files.write_json(
        array_path.with_suffix(".json"), settings | {"shape": shape, "array_sha256": checksum}
    )
