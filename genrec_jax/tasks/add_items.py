"""Stage `add_items`: IDs for new items by a finished tokenizer, all others keep theirs.

The export is that of a tokenizer, of the new catalogue in its order.
"""

import dataclasses
import pathlib
import time

import numpy as np

from genrec_jax import checkpoint, sharding
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
    arrays, meta = checkpoint.load_export(config.run, ("state", "codebooks", "semantic_ids"))
    settings = meta["config"]
    if settings["task"] != "tokenizer":
        raise UserError(f"{config.run} is a run of {settings['task']}, not of a tokenizer")
    cache_dir = pathlib.Path(config.cache_dir or workdir / "cache")
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    is_added = _find_added(config.run, meta["item_ids"], corpus)
    fitted = _fitted_corpus(config.run, meta, cache_dir)

    added = np.flatnonzero(is_added)
    embeddings = embedders.embed(
        _append(fitted, corpus, added),
        cache_dir,
        num_fitted=fitted.num_items,
        **settings["embedder"] | ({"path": config.path} if config.path else {}),
    )[fitted.num_items :]
    # Equal shares are those of a whole catalogue, so later items get the nearest codes.
    codec = codecs.from_config(settings, embeddings.shape[1])._replace(balanced_levels=())
    rows = sharding.replicate(sharding.make_mesh(), embeddings)
    evaluate = evaluator.Evaluator(codec, rows, np.zeros(len(added), bool))
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
    semantic_ids = np.empty((corpus.num_items, added_ids.shape[1]), np.int32)
    semantic_ids[~is_added] = arrays["semantic_ids"][kept]
    semantic_ids[is_added] = added_ids
    checkpoint.export(
        workdir,
        arrays | {"semantic_ids": semantic_ids},
        meta
        | {
            "corpus": corpus_lib.fingerprint(corpus),
            "fitted_corpus": corpus_lib.fingerprint(fitted),
            "item_ids": corpus.item_ids,
            "titles": corpus.titles,
        },
    )
    metrics = {
        "data/num_items": corpus.num_items,
        "data/num_added_items": len(added),
        "added/reconstruction_loss": assignment.losses["tokenizer/reconstruction_loss"],
        "added/unique_before": health.unique_share(assignment.codes),
        "tokenizer/unique_after": health.unique_share(semantic_ids),
    }
    return metrics | {"time/seconds": time.monotonic() - started}


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


def _fitted_corpus(run: str, meta: dict, cache_dir: pathlib.Path) -> Corpus:
    """Returns the data set that the tokenizer was trained on."""
    corpus = datasets.load(cache_dir, **meta["config"]["data"])
    is_same = corpus_lib.fingerprint(corpus) == meta.get("fitted_corpus", meta["corpus"])
    if meta["training"] not in ("", corpus_lib.training_fingerprint(corpus)) or not is_same:
        raise UserError(
            f"the data set that {run} was trained on is another one now, and new items are to be "
            "described as its own were: restore it, and put the new items into another folder"
        )
    return corpus


def _append(fitted: Corpus, corpus: Corpus, items: np.ndarray) -> Corpus:
    """Returns `fitted` with some items of another corpus at its end, which nobody had."""
    names = ("item_ids", "titles", "texts", "categories")
    longer = {
        name: getattr(fitted, name) + [getattr(corpus, name)[item] for item in items]
        for name in names
    }
    is_cold = np.append(fitted.is_cold, np.zeros(len(items), bool))
    return dataclasses.replace(fitted, is_cold=is_cold, **longer)
