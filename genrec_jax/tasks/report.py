"""Stage `report`: a finished recommender's run as one page, report.html.

Of the run it reads config.json, metrics.json, metrics.jsonl, ranks.parquet and the export, the same
of its tokenizer, and the data set. It searches anew for the users that it shows one by one.
"""

import json
import pathlib
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import genrec_jax
from genrec_jax import checkpoint, checks, files, hub, pictures
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import inspection
from genrec_jax.data.corpus import Corpus, Samples
from genrec_jax.errors import UserError
from genrec_jax.evaluators import beams as beams_evaluator
from genrec_jax.evaluators import semantic_ids as ids_evaluator
from genrec_jax.quantizers import residual
from genrec_jax.recommender import Recommender
from genrec_jax.report import charts, explorer, page, quality, training
from genrec_jax.tasks import add_items, recommend, summary

_MINIMA = {"seed": 0, "num_users": 0, "num_items": 0, "num_neighbours": 1}
_NUM_RECOMMENDED = 10  # as of the metric that the page begins with


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the page and returns what it holds."""
    started = time.monotonic()
    checks.at_least(config, _MINIMA)
    if not config.run:
        raise UserError("no --config.run: give the folder of a finished run of a recommender")
    hub.check_folder(config.run)
    folder = pathlib.Path(config.run)
    trained = Recommender.load(folder)
    finished = summary.load(folder)
    remedy = "write the page where it is as it was"
    cache_dir = trained.config["cache_dir"] or folder / "cache"
    corpus, samples = recommend.own_samples(config.run, trained, "test", cache_dir, remedy)
    if [corpus.user_ids[user] for user in samples.user] != [user for user, _ in finished.users]:
        raise UserError(f"{folder / 'ranks.parquet'} is of other users than the run's: {remedy}")
    tokenizer = _tokenizer_folder(folder, finished.config)
    rng = np.random.default_rng(config.seed)

    shown = samples
    if 0 < config.num_users < len(samples):
        shown = samples.take(np.sort(rng.choice(len(samples), config.num_users, replace=False)))
    found = _search(trained, corpus, shown)
    semantic_ids = embeddings = None
    if tokenizer is not None:
        arrays, _ = checkpoint.load_export(folder, ("semantic_ids",))
        semantic_ids = arrays["semantic_ids"]
        _, meta = checkpoint.load_export(tokenizer, ())
        _, embeddings = add_items.embed_all(tokenizer, meta, cache_dir)
    data = _explorer(config, trained, corpus, shown, found, semantic_ids, embeddings)

    counts = corpus_lib.training_counts(corpus)
    content = page.render(
        version=genrec_jax.__version__,
        config=finished.config,
        metrics=finished.metrics,
        tables={
            title: quality.table(finished.ranks, protocol, rng)
            for protocol, title in quality.PROTOCOLS.items()
        },
        charts=quality.all_charts(
            finished.ranks,
            samples.target - samples.start,
            counts[corpus.items[samples.target]],
            rng,
        )
        | _data_charts(corpus),
        beams=_beams(corpus, shown, found, semantic_ids),
        stages=_stages(folder, tokenizer, finished.metrics),
        tokenizer=None if tokenizer is None else _health(tokenizer),
        settings={  # the page may go elsewhere
            key: json.dumps(value)
            for key, value in files.flatten(hub.without_places(finished.config)).items()
        },
        counts={"users": len(samples), "shown": len(shown)},
        data=data,
    ).encode()
    files.write_atomically(workdir / "report.html", content)
    return {
        "page/num_users": len(shown),
        "page/num_items": len(data["items"]["ids"]),
        "page/megabytes": len(content) / 1e6,
        "time/seconds": time.monotonic() - started,
    }


def _tokenizer_folder(folder: pathlib.Path, settings: Mapping[str, Any]) -> pathlib.Path | None:
    """Returns where the tokenizer of a run is, None if it has none."""
    if "tokenizer" not in settings:
        return None
    tokenizer = pathlib.Path(settings["tokenizer"] or folder / "tokenizer")
    if not (tokenizer / "metrics.json").is_file():
        raise UserError(
            f"no finished tokenizer run in {tokenizer}, from which {folder} has its IDs: "
            "metrics.json is missing; put it back"
        )
    return tokenizer


def _search(trained: Recommender, corpus: Corpus, samples: Samples) -> explorer.Found:
    """Returns what the model recommends where any item may come next, and how it finds it."""
    histories = [
        corpus.items[start:end] for start, end in zip(samples.start, samples.target, strict=True)
    ]
    best = [
        *trained.stream(
            histories,
            _NUM_RECOMMENDED,
            exclude_history=False,
            unseen_share=None,
            users=samples.user,
        )
    ]
    items = [trained.places(one.item_ids)[0] for one in best]
    # Those of a hybrid are none: means of two.
    is_probable = trained.config["task"] != "hybrid"
    scores = [one.scores for one in best] if is_probable else None
    trace = trained.trace(histories, _NUM_RECOMMENDED, exclude_history=False, users=samples.user)
    return explorer.Found(items, scores, *(trace or (None, None)))


def _explorer(
    config,
    trained: Recommender,
    corpus: Corpus,
    shown: Samples,
    found: explorer.Found,
    semantic_ids: np.ndarray | None,
    embeddings: np.ndarray | None,
) -> dict[str, Any]:
    """Returns what page.js shows, of the items that it needs and the most common others."""
    max_history = trained.config["max_history"]
    counts = corpus_lib.training_counts(corpus)
    read = [
        corpus.items[max(start, end - max_history) : end + 1]
        for start, end in zip(shown.start, shown.target, strict=True)
    ]
    beam_items = [] if found.beam_items is None else [found.beam_items[found.beam_items >= 0]]
    needed = np.concatenate([*read, *found.items, *beam_items])
    chosen = explorer.choose_items(counts, needed, config.num_items)
    neighbours = None
    if embeddings is not None:
        number = min(config.num_neighbours, len(chosen) - 1)
        rows = np.arange(len(chosen))
        neighbours = ids_evaluator.nearest_items(embeddings[chosen], rows, number)
    return {
        "items": explorer.items(corpus, counts, chosen, semantic_ids, neighbours),
        "users": explorer.users(corpus, shown, found, chosen, max_history),
    }


def _data_charts(corpus: Corpus) -> dict[str, str]:
    lengths = inspection.histogram(inspection.lengths(corpus))
    popularity = inspection.histogram(inspection.popularity(corpus))
    return {
        "lengths": charts.histogram(lengths, x="events of a user", y="users"),
        "popularity": charts.histogram(popularity, x="events of an item", y="items"),
    }


def _beams(
    corpus: Corpus, shown: Samples, found: explorer.Found, semantic_ids: np.ndarray | None
) -> dict[str, Any] | None:
    """Returns how the beam search did for the users that are shown, None if there is none."""
    if found.beams is None:
        return None
    rows = beams_evaluator.report(found.beams, semantic_ids[corpus.items[shown.target]])
    names = {"kept": "the true item's is kept", "first": "it is the likeliest"}
    series = {name: [row[key] for row in rows] for key, name in names.items()}
    levels = [f"after {level} code{'s' * (level > 1)}" for level in range(1, len(rows) + 1)]
    return {
        "rows": dict(zip(levels, rows, strict=True)),
        "chart": charts.shares(levels, series, x="beginnings of IDs that the search keeps"),
        "width": max(level.scores.shape[1] for level in found.beams),
    }


def _stages(
    folder: pathlib.Path, tokenizer: pathlib.Path | None, metrics: dict[str, float]
) -> list[training.Stage]:
    stages = [training.stage("The recommender", folder, metrics)]
    if tokenizer is not None:
        of_tokenizer = files.read_json(tokenizer / "metrics.json")
        stages.insert(0, training.stage("The tokenizer", tokenizer, of_tokenizer))
    return stages


def _health(tokenizer: pathlib.Path) -> dict[str, Any]:
    """Returns the health of a tokenizer, level by level and in all, and its picture."""
    arrays, meta = checkpoint.load_export(tokenizer, ("codes", "codebooks"))
    codes = arrays["codes"]
    codebooks = residual.unpad(arrays["codebooks"], meta["level_sizes"][: codes.shape[1]])
    with tempfile.TemporaryDirectory() as scratch:
        pictures.usage(pathlib.Path(scratch, "usage.png"), codes, codebooks)
        picture = pathlib.Path(scratch, "usage.png").read_bytes()
    names = ("usage", "dead_codes", "perplexity", "gini")
    health = meta["health"]
    return {
        "levels": [
            {"size": len(codebook)}
            | {name: health[f"tokenizer/level_{level}/{name}"] for name in names}
            for level, codebook in enumerate(codebooks)
        ],
        "unique_before": health["tokenizer/unique_before"],
        "largest_group": health["tokenizer/largest_group"],
        "picture": picture,
    }
