"""Stage `add_items`: IDs for new items by a finished tokenizer, all others keep theirs.

The export is that of a tokenizer, of the new catalogue in its order.
"""

import dataclasses
import os
import pathlib
import time

import numpy as np

from genrec_jax import checkpoint, sharding
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.quantizers import collisions, health
from genrec_jax.tokenizers import codecs


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Exports the tokenizer with the IDs of all items, and returns the metrics."""
    started = time.monotonic()
    if not config.run:
        raise UserError("no --config.run: give the folder of a finished tokenizer run")
    names = "state", "codebooks", "semantic_ids", "codes"
    arrays, meta = checkpoint.load_export(config.run, names)
    settings = meta["config"]
    if settings["task"] != "tokenizer":
        raise UserError(f"{config.run} is a run of {settings['task']}, not of a tokenizer")
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    is_added = _find_added(config.run, meta["item_ids"], corpus)
    fitted = fitted_corpus(config.run, meta, cache_dir)

    added = np.flatnonzero(is_added)
    embeddings = embed_later(fitted, corpus, added, cache_dir, settings["embedder"], config.path)
    # Equal shares are those of a whole catalogue, so later items get the nearest codes.
    codec = codecs.from_config(settings, embeddings.shape[1])._replace(balanced_levels=())
    mesh = sharding.make_mesh()
    rows = sharding.replicate(mesh, embeddings)
    evaluate = evaluator.Evaluator(codec, rows, np.zeros(len(added), bool), mesh)
    params = arrays["state"]["params"]
    assignment = evaluate.assign(params)
    popularity = corpus_lib.training_counts(corpus)[added]
    if settings["collisions"] == "reassign":
        added_ids = collisions.reassign(
            assignment.codes,
            popularity,
            assignment.latents,
            evaluate.codewords(params),
            distance=codec.distance,
            existing=arrays["semantic_ids"],
        )
    else:
        added_ids = collisions.append_extra_code(
            assignment.codes, popularity, meta["level_sizes"][-1], existing=arrays["semantic_ids"]
        )

    places = {item_id: place for place, item_id in enumerate(meta["item_ids"])}
    kept = [places[corpus.item_ids[item]] for item in np.flatnonzero(~is_added)]

    def extend(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        whole = np.empty((corpus.num_items, new.shape[1]), np.int32)
        whole[~is_added], whole[is_added] = old[kept], new
        return whole

    semantic_ids = extend(arrays["semantic_ids"], added_ids)
    codes = extend(arrays["codes"], assignment.codes)
    healthy = health.report(codes, evaluate.codewords(params))
    healthy["tokenizer/unique_after"] = health.unique_share(semantic_ids)
    checkpoint.export(
        workdir,
        arrays | {"semantic_ids": semantic_ids, "codes": codes},
        meta
        | {
            "corpus": corpus_lib.fingerprint(corpus),
            "fitted_corpus": corpus_lib.fingerprint(fitted),
            "added": {"data": config.data.to_dict(), "path": config.path},
            "health": healthy,
            "item_ids": corpus.item_ids,
            "titles": corpus.titles,
        },
    )
    metrics = {
        "data/num_items": corpus.num_items,
        "data/num_added_items": len(added),
        "added/reconstruction_loss": assignment.losses["tokenizer/reconstruction_loss"],
    }
    return metrics | healthy | {"time/seconds": time.monotonic() - started}


def _find_added(run: str, item_ids: list[str], corpus: Corpus) -> np.ndarray:
    """Returns [I] bool: which items of the corpus the tokenizer does not know."""
    is_added = ~np.isin(corpus.item_ids, item_ids)
    lacking = set(item_ids) - set(corpus.item_ids)
    if lacking:
        raise UserError(
            f"the data set lacks {len(lacking)} items of {run} ({min(lacking)!r} is one), whose "
            "IDs would be lost: keep them in its table of items"
        )
    if not is_added.any():
        raise UserError(f"the data set has no item that {run} does not know: nothing to add")
    return is_added


def fitted_corpus(run: str | os.PathLike, meta: dict, cache_dir: str | os.PathLike) -> Corpus:
    """Returns the data set that the tokenizer in a folder was trained on, by its export's `meta`.

    Raises:
        UserError: if it is not as it was then.
    """
    try:
        corpus = datasets.load_again(cache_dir, meta["config"]["data"])
        if corpus_lib.fingerprint(corpus) != meta.get("fitted_corpus", meta["corpus"]):
            raise UserError("its catalogue is another one now: restore it")
        if meta["training"] not in ("", corpus_lib.training_fingerprint(corpus)):
            raise UserError("its interactions are others now: restore them")
    except UserError as error:
        raise UserError(
            f"cannot describe the items of {run} as when it was trained: {error}"
        ) from error
    return corpus


def embed_all(
    run: str | os.PathLike, meta: dict, cache_dir: str | os.PathLike
) -> tuple[Corpus, np.ndarray]:
    """Returns all items that a tokenizer's export has IDs of, and their embeddings [I, E].

    Args:
        run: the tokenizer's folder.
        meta: of its export.
        cache_dir: of prepared data and embeddings.

    Raises:
        UserError: if a data set that they are from is not as it was then.
    """
    fitted, settings = fitted_corpus(run, meta, cache_dir), meta["config"]["embedder"]
    embeddings = embedders.embed(fitted, cache_dir, **settings)
    if "added" not in meta:
        return fitted, embeddings
    corpus = datasets.load_again(cache_dir, meta["added"]["data"])
    if corpus_lib.fingerprint(corpus) != meta["corpus"]:
        raise UserError(f"the data set whose items {run} added is another one now: restore it")
    places = {item_id: place for place, item_id in enumerate(fitted.item_ids)}
    own = np.array([places.get(item_id, -1) for item_id in corpus.item_ids])
    (later,) = np.nonzero(own < 0)
    whole = embeddings[own]
    whole[later] = embed_later(fitted, corpus, later, cache_dir, settings, meta["added"]["path"])
    return corpus, whole


def embed_later(
    fitted: Corpus, corpus: Corpus, items: np.ndarray, cache_dir, settings: dict, path: str
) -> np.ndarray:
    """Returns embeddings [A, E] of items [A] of a corpus in the space of those of `fitted`.

    `settings` are those of the embedder, and `path` that of precomputed embeddings of all items,
    empty for the one in the settings.
    """
    return embedders.embed(
        _append(fitted, corpus, items),
        cache_dir,
        num_fitted=fitted.num_items,
        **settings | ({"path": path} if path else {}),
    )[fitted.num_items :]


def _append(fitted: Corpus, corpus: Corpus, items: np.ndarray) -> Corpus:
    """Returns `fitted` with some items of another corpus at its end, which nobody had."""
    names = ("item_ids", "titles", "texts", "categories")
    longer = {
        name: getattr(fitted, name) + [getattr(corpus, name)[item] for item in items]
        for name in names
    }
    is_cold = np.append(fitted.is_cold, np.zeros(len(items), bool))
    return dataclasses.replace(fitted, is_cold=is_cold, **longer)
