"""Stage `recommend`: what a trained run recommends, written for each of many users.

The output has a line (`.jsonl`) or row (`.parquet`) a user, with the lists `item_ids`, `scores`
(log-probabilities) and `titles`, best first, but for the places that are reserved for unseen items.
Of several processes, over which a large model may be split, the first writes it.
"""

import contextlib
import itertools
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet

from genrec_jax import checks, distributed, files, hub, recommender, sharding
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, history_files
from genrec_jax.data.corpus import Corpus, Samples
from genrec_jax.errors import UserError
from genrec_jax.evaluators import baselines
from genrec_jax.recommender import Recommendations, Recommender

_log = logging.getLogger(__name__)

_SPLITS = ("all", "valid", "test")
_MINIMA = {"k": 1, "batch_size": 0, "num_examples": 0}
_ROWS = 1024  # written at once
_SCHEMA = pyarrow.schema(
    {
        "user_id": pyarrow.string(),
        "item_ids": pyarrow.list_(pyarrow.string()),
        "scores": pyarrow.list_(pyarrow.float32()),
        "titles": pyarrow.list_(pyarrow.string()),
    }
)

Write = Callable[[list[dict]], None]


class Users(NamedTuple):
    """Whom to recommend for."""

    user_ids: list[str]
    histories: list[np.ndarray]  # places in the catalogue, oldest first
    numbers: np.ndarray | None  # in the run's data set
    num_skipped: int  # items of histories that the catalogue lacks


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the recommendations, and a few of them to examples.json, and returns counts."""
    started = time.monotonic()
    output = pathlib.Path(config.output or workdir / "recommendations.jsonl")
    _check(config, output)
    trained = Recommender.load(
        config.run,
        config.batch_size or None,
        tokenizer=config.tokenizer or None,
        mesh=sharding.make_mesh(**config.mesh.to_dict()),
    )
    if config.histories:
        users = _given_users(config, trained)
    else:
        cache_dir = trained.config["cache_dir"] or pathlib.Path(config.run) / "cache"
        if hub.is_name(config.run):
            cache_dir = workdir / "cache"  # nothing is written where another's config says
        corpus, samples = own_samples(
            config.run,
            trained,
            config.split,
            cache_dir,
            "give histories by --config.histories",
        )
        users = _own_users(corpus, samples)
    flat = np.concatenate([np.zeros(0, np.int32), *users.histories])
    digest = files.digest(flat, np.array(list(map(len, users.histories))))
    distributed.check_same("other histories", digest, "let all read the same files")
    if config.scorer == "model":
        results = trained.stream(
            users.histories,
            config.k,
            exclude_history=config.exclude_history,
            unseen_share=config.unseen_share,
            users=users.numbers,
        )
    else:
        results = _baseline(config, corpus, samples)
    examples = []
    with _writing(output) as write:
        rows = (
            {"user_id": user_id, **best._asdict()}
            for user_id, best in zip(users.user_ids, results, strict=True)
        )
        while chunk := list(itertools.islice(rows, _ROWS)):
            write(chunk)
            examples += chunk[: config.num_examples - len(examples)]
    if config.output:
        _log.info("the recommendations are in %s", output)
    if distributed.is_first():
        _write_examples(workdir, trained, users, examples)
    return {
        "num_users": len(users.user_ids),
        "num_skipped_items": users.num_skipped,
        "time/seconds": time.monotonic() - started,
    }


def _check(config, output: pathlib.Path) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.choice(config, "split", _SPLITS)
    checks.choice(config, "scorer", ("model", *baselines.NAMES))
    checks.choice(config, "unknown", recommender.UNKNOWN)
    checks.at_least(config, _MINIMA)
    if config.unseen_share is not None:
        checks.fraction(config, "unseen_share")
    if config.unseen_share and config.scorer != "model":
        raise UserError(
            f"--config.unseen_share={config.unseen_share} is for the model, not for "
            f"--config.scorer={config.scorer}: leave one of them out"
        )
    if not config.run:
        raise UserError("no --config.run: give the folder of a finished retrieval run")
    if config.tokenizer and not config.histories:
        raise UserError(
            f"--config.tokenizer={config.tokenizer} is for other users than the run's, whose data "
            "set lacks the items that were added: give --config.histories too"
        )
    for key, default in (("split", "all"), ("scorer", "model")):
        if config.histories and config[key] != default:
            raise UserError(
                f"--config.{key}={config[key]} is for the run's own users: leave it out, or leave "
                "out --config.histories"
            )
    if output.suffix not in _WRITERS:
        raise UserError(f"--config.output={output} must end in {' or '.join(_WRITERS)}")
    if output.is_dir():
        raise UserError(f"--config.output={output} is a folder: give the name of a file")


def _given_users(config, trained: Recommender) -> Users:
    """Returns the users of the file of histories."""
    user_ids, histories, num_skipped = [], [], 0
    for where, user_id, item_ids in history_files.read(config.histories):
        places, lacking = trained.places(item_ids)
        if lacking and config.unknown == "error":
            raise UserError(
                f"{where}: {recommender.name_unknown(lacking)}: correct the history, or give "
                "--config.unknown=skip"
            )
        user_ids.append(user_id)
        histories.append(places)
        num_skipped += len(lacking)
    return Users(user_ids, histories, None, num_skipped)


def own_samples(
    run_dir: str, trained: Recommender, split: str, cache_dir: str | os.PathLike, remedy: str
) -> tuple[Corpus, Samples]:
    """Returns a run's data set, and the histories that a split lets its users have.

    Args:
        run_dir: the run's folder.
        trained: what it has trained.
        split: one of `all`, `valid` and `test`.
        cache_dir: of prepared data.
        remedy: what to do where the data set is not what it was, for the message of the error.
    """
    try:
        corpus = datasets.load_again(cache_dir, trained.config["data"])
    except UserError as error:
        raise UserError(f"cannot read the data set of {run_dir} ({error}): {remedy}") from error
    if corpus_lib.fingerprint(corpus) != trained.corpus:
        raise UserError(f"the data set of {run_dir} has changed since it was trained: {remedy}")
    if split == "all":
        numbers = np.arange(corpus.num_users)
        return corpus, Samples(numbers, corpus.offsets[:-1], corpus.offsets[1:])
    if corpus_lib.interactions_fingerprint(corpus) != trained.interactions:
        raise UserError(
            f"the histories of {run_dir} have changed since it was evaluated on their {split}: "
            f"{remedy}"
        )
    samples = corpus_lib.held_out_samples(corpus, split)
    return corpus, corpus_lib.choose_samples(samples, trained.config["eval"]["max_users"])


def _own_users(corpus: Corpus, samples: Samples) -> Users:
    histories = [
        corpus.items[start:end] for start, end in zip(samples.start, samples.target, strict=True)
    ]
    user_ids = [corpus.user_ids[user] for user in samples.user]
    return Users(user_ids, histories, samples.user, 0)


def _baseline(config, corpus: Corpus, samples: Samples) -> Iterator[Recommendations]:
    """Yields what a baseline recommends; its scores are its own."""
    scorer = baselines.scorer(config.scorer, corpus)
    if scorer is None:
        raise UserError(f"--config.scorer={config.scorer} takes too much memory for this data set")
    items, scores = baselines.recommend(
        scorer, corpus, samples, config.k, exclude_history=config.exclude_history
    )
    for best, best_scores in zip(items, scores, strict=True):
        best = best[best >= 0]
        yield Recommendations(
            [corpus.item_ids[item] for item in best],
            best_scores[: len(best)].tolist(),
            [corpus.titles[item] for item in best],
        )


@contextlib.contextmanager
def _writing(output: pathlib.Path) -> Iterator[Write]:
    """Gives a function that appends rows to `output`, which is there once all are written."""
    if not distributed.is_first():
        yield lambda rows: None
        return
    try:
        with files.replacing(output) as partial, _WRITERS[output.suffix](partial) as write:
            yield write
    except OSError as error:
        raise UserError(
            f"cannot write {output} ({error}): make room, or choose another --config.output"
        ) from error


@contextlib.contextmanager
def _json_lines(path: pathlib.Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(json.dumps(row) + "\n" for row in rows)


@contextlib.contextmanager
def _parquet(path: pathlib.Path) -> Iterator[Write]:
    with parquet.ParquetWriter(path, _SCHEMA) as writer:
        yield lambda rows: writer.write_table(pyarrow.Table.from_pylist(rows, _SCHEMA))


_WRITERS = {".jsonl": _json_lines, ".parquet": _parquet}


def _write_examples(workdir, trained: Recommender, users: Users, rows: list[dict]) -> None:
    """Writes examples.json: what the model reads of the first users, and recommends, by title."""

    def titles(places):
        return [trained.titles[place] or trained.item_ids[place] for place in places]

    examples = []
    for row, history in zip(rows, users.histories, strict=False):
        recommended, _ = trained.places(row["item_ids"])
        examples.append(
            {
                "user_id": row["user_id"],
                "history": titles(history[-trained.config["max_history"] :]),
                "recommended": titles(recommended[:10]),
            }
        )
    files.write_json(pathlib.Path(workdir) / "examples.json", examples)
