"""Stage `tokenizer_report`: how healthy a finished tokenizer is, whatever made it.

Reads the export of a tokenizer's run and the data set that it was trained on, and writes
`report.json`, all metrics and the largest groups of items with equal codes, beside the pictures
`usage.png`, `categories.png` and `tree.png`.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from genrec_jax import checkpoint, checks, files, pictures
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError
from genrec_jax.evaluators import semantic_ids as evaluator
from genrec_jax.tokenizers import codecs

_MINIMA = {"seed": 0, "num_items": 0, "num_neighbours": 1, "num_groups": 0}


class Tokenizer(NamedTuple):
    """A tokenizer's export."""

    directory: pathlib.Path
    params: Any
    semantic_ids: np.ndarray  # [I, Q], or [I, Q + 1] if an extra code tells colliding items apart
    meta: dict


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the report and its pictures, and returns its numbers."""
    started = time.monotonic()
    _check(config)
    tokenizer = _load(pathlib.Path(config.run))
    cache_dir = config.cache_dir or tokenizer.meta["config"]["cache_dir"]
    corpus, embeddings = _data(tokenizer, cache_dir or pathlib.Path(config.run) / "cache")
    if config.num_neighbours >= corpus.num_items:
        raise UserError(
            f"--config.num_neighbours={config.num_neighbours} must be below the number of items, "
            f"{corpus.num_items}"
        )

    codec = codecs.from_config(tokenizer.meta["config"], embeddings.shape[1])
    codewords = [np.asarray(level) for level in codec.codewords(tokenizer.params)]
    codes = tokenizer.semantic_ids[:, : len(codewords)]
    item_prefixes = evaluator.prefixes(codes)
    quantized = evaluator.partial_sums(codes, codewords)  # [Q, I, C]
    groups = evaluator.collision_groups(codes)

    metrics = {"data/num_items": corpus.num_items}
    metrics |= tokenizer.meta["health"]  # of the codes before collisions were resolved
    parts = {
        "collisions": evaluator.collision_report(codes, corpus.texts),
        "reconstruction": evaluator.reconstruction_report(
            embeddings,
            quantized,
            _on_device(codec.encode, tokenizer.params),
            _on_device(functools.partial(codecs.reconstruct, codec), tokenizer.params),
        ),
        "categories": evaluator.category_report(item_prefixes, corpus.categories, config.seed),
        "neighbours": _neighbours(config, item_prefixes, embeddings, quantized[-1]),
    }
    for part, values in parts.items():
        metrics |= {f"{part}/{name}": value for name, value in values.items()}

    listed = [_group(corpus, codes, items) for items in groups[: config.num_groups]]
    files.write_json(workdir / "report.json", metrics | {"collision_groups": listed})
    _draw(workdir, corpus, codes, codewords)
    return metrics | {"time/seconds": time.monotonic() - started}


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.at_least(config, _MINIMA)
    if not config.run:
        raise UserError(
            "no --config.run: give the folder of a finished tokenizer run, or of a retrieval run"
        )


def _load(directory: pathlib.Path) -> Tokenizer:
    """Returns the export of a tokenizer's run, or of the tokenizer that a retrieval run made."""
    if (directory / "tokenizer").is_dir():
        directory = directory / "tokenizer"
    arrays, meta = checkpoint.load_export(directory, ("state", "semantic_ids"))
    task = meta["config"]["task"]
    if task != "tokenizer":
        there = meta["config"].get("tokenizer") or "a run of configs/rqvae.py"
        raise UserError(
            f"{directory} is a run of {task} and holds no tokenizer: give the folder of its "
            f"tokenizer, {there}"
        )
    return Tokenizer(directory, arrays["state"]["params"], arrays["semantic_ids"], meta)


def _data(tokenizer: Tokenizer, cache_dir: str | pathlib.Path) -> tuple[Corpus, np.ndarray]:
    """Returns the data set that a tokenizer was trained on, and its embeddings [I, E]."""
    directory, config = tokenizer.directory, tokenizer.meta["config"]
    try:
        corpus = datasets.load(cache_dir, **config["data"])
        _check_same(tokenizer, corpus)
        embeddings = embedders.embed(corpus, cache_dir, **config["embedder"])
    except UserError as error:
        raise UserError(
            f"cannot describe the items of {directory} as when it was trained: {error}"
        ) from error
    return corpus, embeddings


def _check_same(tokenizer: Tokenizer, corpus: Corpus) -> None:
    if corpus_lib.fingerprint(corpus) != tokenizer.meta["corpus"]:
        raise UserError("its catalogue is another one now: restore it, or train a tokenizer again")
    training = tokenizer.meta.get("training", "")
    if training not in ("", corpus_lib.training_fingerprint(corpus)):
        raise UserError("its interactions are others now: restore them, or train a tokenizer again")


def _on_device(function: Callable, params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `function(params, x)` of x, compiled, in full precision."""

    @jax.jit
    def compiled(params, x):
        with jax.default_matmul_precision("highest"):
            return function(params, x)

    return lambda x: np.asarray(compiled(params, x))


def _neighbours(
    config, item_prefixes: np.ndarray, embeddings: np.ndarray, quantized: np.ndarray
) -> dict[str, float]:
    num_items = len(embeddings)
    rows = np.arange(num_items)
    if 0 < config.num_items < num_items:
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(num_items, config.num_items, replace=False))
    near, near_quantized = (
        evaluator.nearest_items(x, rows, config.num_neighbours) for x in (embeddings, quantized)
    )
    return evaluator.neighbour_report(item_prefixes, rows, near, near_quantized)


def _draw(
    workdir: pathlib.Path, corpus: Corpus, codes: np.ndarray, codewords: list[np.ndarray]
) -> None:
    """Writes the pictures; of categories only if there are any."""
    labels = evaluator.category_labels(corpus.categories)
    pictures.usage(workdir / "usage.png", codes, codewords)
    pictures.tree(
        workdir / "tree.png", codes, corpus.titles, labels, corpus_lib.training_counts(corpus)
    )
    place = workdir / "categories.png"
    place.unlink(missing_ok=True)  # that of another run
    if any(corpus.categories):
        pictures.categories(place, codes[:, 0], labels)


def _group(corpus: Corpus, codes: np.ndarray, items: np.ndarray) -> dict[str, Any]:
    """Returns what report.json says of items with equal codes."""
    return {
        "codes": codes[items[0]].tolist(),
        "num_items": len(items),
        "num_texts": len({corpus.texts[item] for item in items}),
        "item_ids": [corpus.item_ids[item] for item in items],
        "titles": [corpus.titles[item] for item in items],
    }
