"""All tokenizers side by side: health, time, and what one small retrieval recipe makes of them.

    python -m benchmarks.tokenizers [--smoke] [--output=FILE.json] [--datasets=beauty,toys,sports]
        [--tokenizers=rqvae,fsq,...] [--jobs=N] [--folder=DIR]

Each tokenizer is a run of its config, each retrieval model one of configs/retrieval.py with the
settings of `_RECIPE`; the figures are those of their metrics.json. `--jobs` of them run at once, so
that times are only comparable with `--jobs=1`. Finished runs in `--folder` are not repeated.
"""

import concurrent.futures
import functools
import pathlib
import tempfile

import rich.box
import rich.console
import rich.progress
import rich.table
from absl import flags

from benchmarks import common
from genrec_jax import files
from genrec_jax.errors import UserError

_DATASETS = flags.DEFINE_list("datasets", ["beauty", "toys", "sports"], "Data sets.")
_TOKENIZERS = flags.DEFINE_list("tokenizers", None, "Which of them. Default: all.")
_JOBS = flags.DEFINE_integer("jobs", 1, "How many runs at once.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the runs go. Default: removed at the end.")

_BALANCED = ["--config.model.balanced=True", "--config.model.batch_size=2048"]
_EXTRA = ["--config.collisions=extra_code"]
# The config and settings of each tokenizer. Modes are compared where collisions show: with an
# extra code, which says nothing of the item.
TOKENIZERS = {
    "rqvae": ("rqvae", []),
    "rqvae_extra": ("rqvae", _EXTRA),
    "rqvae_pass": ("rqvae", [*_EXTRA, "--config.model.residual_gradient=pass"]),
    "rqvae_rotation": ("rqvae", [*_EXTRA, "--config.model.estimator=rotation"]),
    "rqvae_gumbel": (
        "rqvae",
        [*_EXTRA, "--config.model.estimator=gumbel", "--config.model.temperature=1.0"],
    ),
    "rqvae_ema": ("rqvae", [*_EXTRA, "--config.model.codebook_ema=0.99"]),
    "rqvae_cosine": (
        "rqvae",
        [*_EXTRA, "--config.model.distance=cosine", "--config.model.normalize=True"],
    ),
    "rqvae_simvq": ("rqvae", [*_EXTRA, "--config.model.simvq=True", "--config.reset_every=0"]),
    "rqvae_balanced": ("rqvae", [*_EXTRA, "--config.model.assign_balance=all"]),
    "rqvae_4_levels": ("rqvae", [*_EXTRA, "--config.model.num_levels=4"]),
    "fsq": ("fsq", _EXTRA),
    "kmeans": ("residual_kmeans", []),
    "kmeans_extra": ("residual_kmeans", _EXTRA),
    "kmeans_balanced": ("residual_kmeans", [*_EXTRA, *_BALANCED]),
    "pq": ("product_quantization", [*_EXTRA, "--config.model.num_rotations=0"]),
    "opq": ("product_quantization", _EXTRA),
}
_RECIPE = [
    "--config.model.num_encoder_layers=2",
    "--config.model.num_decoder_layers=2",
    "--config.num_steps=3000",
    "--config.eval_every=3000",
    "--config.optimizer.warmup_steps=300",
    "--config.eval.max_users=10000",
    "--config.num_examples=0",
]
_COLUMNS = {
    "distinct": "tokenizer/unique_before",
    "largest": "tokenizer/largest_group",
    "seconds": "time/train_seconds",
    "valid R@10": "valid/recall@10",
    "valid N@10": "valid/ndcg@10",
}


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Makes all runs, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    names = _TOKENIZERS.value or list(TOKENIZERS)
    if unknown := [name for name in names if name not in TOKENIZERS]:
        raise UserError(f"--tokenizers: no {unknown[0]!r}: choose of {', '.join(TOKENIZERS)}")
    datasets = ["synthetic"] if smoke else _DATASETS.value
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(_FOLDER.value or scratch)
        # Prepared data and embeddings first, which the others then find in the cache.
        _at_once(functools.partial(_embed, folder, smoke), [(dataset,) for dataset in datasets])
        pairs = [(dataset, name) for dataset in datasets for name in names]
        rows = _at_once(functools.partial(_measure, folder, smoke), pairs)
    report = common.head("tokenizers", smoke, arguments) | {"rows": rows}
    _print(rows)
    if output is not None:
        files.write_json(output, report)


def _at_once(function, arguments: list[tuple]) -> list:
    """Returns what the function returns for each of the arguments, some at the same time.

    If one fails the others are still made, so that they are not made again in the same folder.
    """
    with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
        calls = [pool.submit(function, *each) for each in arguments]
        console = rich.console.Console(stderr=True)
        finished = concurrent.futures.as_completed(calls)
        list(rich.progress.track(finished, "runs", len(calls), console=console))
    return [call.result() for call in calls]


def _embed(folder: pathlib.Path, smoke: bool, dataset: str) -> None:
    workdir = folder / dataset / "embed"
    common.run_program("embed", dataset, smoke, workdir, folder / "cache", [])


def _measure(folder: pathlib.Path, smoke: bool, dataset: str, name: str) -> dict:
    """Returns the figures of one tokenizer on one data set."""
    config, settings = TOKENIZERS[name]
    place, cache = folder / dataset / name, folder / "cache"
    run_program = common.run_program
    tokenizer = run_program(config, dataset, smoke, place / "tokenizer", cache, settings)
    recipe = [f"--config.tokenizer={place / 'tokenizer'}", *([] if smoke else _RECIPE)]
    retrieval = run_program("retrieval", dataset, smoke, place / "retrieval", cache, recipe)
    return {"dataset": dataset, "name": name, "tokenizer": tokenizer, "retrieval": retrieval}


def _print(rows: list[dict]) -> None:
    console = rich.console.Console()
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        table = rich.table.Table(
            "tokenizer", "usage", *_COLUMNS, title=dataset, box=rich.box.SIMPLE
        )
        for row in rows:
            if row["dataset"] == dataset:
                values = row["retrieval"] | row["tokenizer"]
                usage = [value for key, value in values.items() if key.endswith("/usage")]
                cells = [f"{values[key]:.4g}" for key in _COLUMNS.values()]
                table.add_row(row["name"], " ".join(f"{share:.2f}" for share in usage), *cells)
        console.print(table)


if __name__ == "__main__":
    common.start(run)
