"""Stage `tokenizer_report`: how healthy a finished tokenizer is, whatever made it.

Reads the export of a tokenizer's run and the data sets that its items are from, and writes
`report.json`, all metrics and the largest groups of items with equal codes, beside the pictures
`usage.png`, `categories.png` and `tree.png`. All are of the codes nearest to each item, before
collisions were resolved.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from genrec_jax import checkpoint, checks, files, hub, pictures
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError
from genrec_jax.evaluators import semantic_ids as evaluator
from genrec_jax.tasks import add_items
from genrec_jax.tokenizers import codecs

_MINIMA = {"seed": 0, "num_items": 0, "num_neighbours": 1, "num_groups": 0}


class Tokenizer(NamedTuple):
    """A tokenizer's export."""

    directory: pathlib.Path
    params: Any
    codes: np.ndarray  # [I, Q] before collisions were resolved
    meta: dict


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the report and its pictures, and returns its numbers."""
    started = time.monotonic()
    _check(config)
    tokenizer = _load(pathlib.Path(config.run))
    cache_dir = config.cache_dir or tokenizer.meta["config"]["cache_dir"]
    corpus, embeddings = add_items.embed_all(
        tokenizer.directory, tokenizer.meta, cache_dir or pathlib.Path(config.run) / "cache"
    )
    if config.num_neighbours >= corpus.num_items:
        raise UserError(
            f"--config.num_neighbours={config.num_neighbours} must be below the number of items, "
            f"{corpus.num_items}"
        )

    codec = codecs.from_config(tokenizer.meta["config"], embeddings.shape[1])
    codewords = [np.asarray(level) for level in codec.codewords(tokenizer.params)]
    codes = tokenizer.codes
    item_prefixes = evaluator.prefixes(codes)
    quantized = evaluator.partial_sums(codes, codewords)  # [Q, I, C]
    groups = evaluator.collision_groups(codes)

    metrics = {"data/num_items": corpus.num_items}
    metrics |= tokenizer.meta["health"]
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
    hub.check_folder(config.run)


def _load(directory: pathlib.Path) -> Tokenizer:
    """Returns the export of a tokenizer's run, or of the tokenizer that a retrieval run made."""
    if (directory / "tokenizer").is_dir():
        directory = directory / "tokenizer"
    _, meta = checkpoint.load_export(directory, ())
    task = meta["config"]["task"]
    if task != "tokenizer":
        there = meta["config"].get("tokenizer") or "a run of configs/rqvae.py"
        raise UserError(
            f"{directory} is a run of {task} and holds no tokenizer: give the folder of its "
            f"tokenizer, {there}"
        )
    arrays, _ = checkpoint.load_export(directory, ("state", "codes"))
    return Tokenizer(directory, arrays["state"]["params"], arrays["codes"], meta)


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
