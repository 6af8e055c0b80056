"""Seconds and memory against size: items, users, batch; a slope of 1 is linear.

    python -m benchmarks.scaling [--smoke] [--output=FILE.json] [--picture=FILE.png]
        [--largest=10000000] [--works=quantise,...]

Each kind of work has a process of its own, which goes through the sizes, 10 k to `--largest`, the
smallest first, so that its peak of memory is that of the size just done. A tenth of the smallest is
done before: its peak is that of the program itself, and memory is what comes on top, the making of
the data included. On accelerators it is the device's for work that the device does, else the
process's.

Slopes are those of the logarithms, by least squares over the sizes from a hundredth of the largest
on; smaller ones are mostly overhead. A slope of at most 1.05 is called linear. The kinds of work:

* of items: `quantise`, the tokenizer's evaluation of random embeddings of configs/rqvae.py:beauty;
  `extra code` and `re-assign`, one ID an item, see benchmarks/collisions.py; `prefix index`, the
  building of the catalogue's tree; `beam search`, in it, for 64 users of configs/retrieval.py;
* of users: `samples`, the numbers of all prefixes; `packing` of histories into rows; `evaluation`,
  in batches of 512, of a recommender that costs nothing;
* of the samples of a batch: `training`, a step of the tokenizer, in parts of 100,000 at most.
"""

import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib import figure

from benchmarks import (
    beam_search,
    collisions,
    common,
    quantization,
    retrieval_training,
    tokenizer_training,
)
from configs import retrieval as retrieval_config
from genrec_jax import files, optimizer, sharding, telemetry, train_step
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import packing, splits
from genrec_jax.data.corpus import Corpus
from genrec_jax.decoding import prefix_index
from genrec_jax.errors import UserError
from genrec_jax.evaluators import retrieval as evaluator
from genrec_jax.evaluators import searchers
from genrec_jax.evaluators import tokenizer as tokenizer_evaluator
from genrec_jax.quantizers import collisions as collisions_lib
from genrec_jax.tokenizers import codecs, neural

_PICTURE = flags.DEFINE_string("picture", None, "Where the plot goes as PNG. Default: nowhere.")
_LARGEST = flags.DEFINE_integer("largest", 10**7, "The largest size.", lower_bound=10**4)
_WORKS = flags.DEFINE_list("works", None, "Which kinds of work. Default: all.")
_ONE = flags.DEFINE_string("one", None, "What the process of one kind of work is asked to do.")

LINEAR = 1.05  # the largest slope
_REPEATS = 3
_LEAST_BYTES = 2**20  # less is not told apart
_PART = 100_000  # samples of a batch that are computed at once
_ROW_LENGTH = 64
_CODEBOOK_SIZE = 256
_DPI = 150
_COLOURS = ("#2c5f8a", "#c4532d", "#4c8c4a", "#8a5aa8", "#b8902f")


class Work(NamedTuple):
    """A kind of work."""

    of: str  # what its size counts
    on_device: bool  # whether its memory is the device's, where there is an accelerator
    prepare: Callable[[int, bool], Callable[[], Any]]  # (size, smoke) -> the call to measure


def _quantise(num_items: int, smoke: bool):
    config = quantization.tokenizer_config(smoke)
    widths = config.embedder
    width = widths.dim + widths.remainder_dim + widths.collaborative_dim
    model, codec = codecs.NEURAL["rqvae"](config.model.to_dict(), width)
    params = jax.jit(model.init)(jax.random.key(0))
    embeddings = jax.random.normal(jax.random.key(1), (num_items, width))
    nobody, mesh = np.zeros(num_items, bool), sharding.one_device()
    evaluate = tokenizer_evaluator.Evaluator(codec, embeddings, nobody, mesh)
    return functools.partial(evaluate.assign, params)


def _extra_code(num_items: int, smoke: bool):
    rng = np.random.default_rng(0)
    codes = collisions.draw_codes(rng, num_items, _CODEBOOK_SIZE)
    popularity = collisions.draw_popularity(rng, num_items)
    return lambda: collisions_lib.append_extra_code(codes, popularity, size=0)


def _reassign(num_items: int, smoke: bool):
    rng, size = np.random.default_rng(0), 4 * _CODEBOOK_SIZE
    codes = collisions.draw_codes(rng, num_items, size)
    popularity = collisions.draw_popularity(rng, num_items)
    codebooks = collisions.draw_codebooks(rng, size)
    latents = collisions.draw_latents(rng, codes, codebooks)
    return lambda: collisions_lib.reassign(codes, popularity, latents, codebooks)


def _prefix_index(num_items: int, smoke: bool):
    return functools.partial(prefix_index.build, beam_search.distinct_ids(num_items))


def _beam_search(num_items: int, smoke: bool):
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    case = beam_search.generator_case(config, num_items, num_beams=10, batch_size=64)
    return case.call


def _samples(num_users: int, smoke: bool):
    return functools.partial(corpus_lib.training_samples, random_corpus(num_users))


def _packing(num_users: int, smoke: bool):
    corpus = random_corpus(num_users)
    return lambda: packing.pack(corpus.offsets[:-1], corpus.splits.train_ends, _ROW_LENGTH)


def _evaluation(num_users: int, smoke: bool):
    corpus, mesh = random_corpus(num_users), sharding.one_device()
    samples = corpus_lib.held_out_samples(corpus, "test")

    @functools.partial(jax.jit, static_argnames=("num_beams", "num_excluded", "renormalize"))
    def search(params, data, index, samples, *, num_beams, num_excluded, renormalize):
        last = data["items"][samples.target - 1]  # its neighbours are what is recommended
        items = (last[:, None] + jnp.arange(num_beams)) % index
        return items, jnp.zeros(items.shape)

    searcher = searchers.Searcher(search, None, {}, corpus.num_items, None, np.zeros(1, bool))
    evaluate = evaluator.Evaluator(
        searcher,
        mesh,
        corpus.items,
        unseen_share=0.0,
        longest_history=int((samples.target - samples.start).max()),
        num_beams=20,
        batch_size=512,
    )

    def call():
        items, _ = evaluate.recommend(None, samples, exclude_history=False)
        return evaluator.score(items, corpus.items[samples.target], "test")

    return call


def _training(batch_size: int, smoke: bool):
    config = quantization.tokenizer_config(smoke)
    embeddings = tokenizer_training.random_embeddings(12_101, 224)
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), embeddings.shape[1])
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    mesh = sharding.one_device()
    train_superbatch = train_step.make_train_superbatch(
        neural.loss_fn(model),
        tx,
        mesh,
        accumulation=-(-batch_size // _PART),
        ema_decay=0.0,
        rules=None,
    )
    data = sharding.replicate(mesh, embeddings)
    rng = jax.device_put(jax.random.key(1), sharding.replicated(mesh))
    state = train_step.new_state(mesh, lambda rng, _: model.init(rng), tx, None, 0.0, rng, data)
    batch = np.random.default_rng(0).integers(len(embeddings), size=(1, batch_size), dtype=np.int32)

    def call():
        nonlocal state
        indices = sharding.shard_rows(mesh, batch, row_axis=1)
        state, metrics = train_superbatch(state, data, indices, rng)
        return metrics

    return call


WORKS = {
    "quantise": Work("items", True, _quantise),
    "extra code": Work("items", False, _extra_code),
    "re-assign": Work("items", False, _reassign),
    "prefix index": Work("items", False, _prefix_index),
    "beam search": Work("items", True, _beam_search),
    "samples": Work("users", False, _samples),
    "packing": Work("users", False, _packing),
    "evaluation": Work("users", False, _evaluation),
    "training": Work("samples", True, _training),
}


def random_corpus(num_users: int) -> Corpus:
    """Returns histories as long as those of benchmarks/retrieval_training.py, without texts."""
    rng, num_items = np.random.default_rng(0), 12_101
    offsets = np.append(0, np.cumsum(2 + retrieval_training.draw_lengths(rng, num_users)))
    return Corpus(
        item_ids=range(num_items),
        titles=(),
        texts=(),
        categories=(),
        text_template="",
        user_ids=range(num_users),
        items=rng.integers(num_items, size=offsets[-1], dtype=np.int32),
        offsets=offsets,
        times=None,
        splits=splits.leave_one_out(offsets),
        is_cold=np.zeros(num_items, bool),
        facts={},
    )


def sizes(smoke: bool, largest: int) -> list[int]:
    """Returns powers of 10 from 10 k on, and the largest."""
    if smoke:
        return [1_000, 3_000]
    powers = [10**power for power in range(4, 10) if 10**power < largest]
    return [*powers, largest]


def measure(work: Work, all_sizes: Sequence[int], smoke: bool) -> list[dict[str, Any]]:
    """Returns the size, the seconds of each repeat, and the bytes of each size."""

    def points(size, repeats):
        call = work.prepare(size, smoke)
        for _ in range(repeats):
            started = time.perf_counter()
            jax.block_until_ready(call())
            yield time.perf_counter() - started

    list(points(all_sizes[0] // 10, 1))  # the program itself
    base = peak_bytes(work.on_device)
    found = []
    for size in all_sizes:
        _, *seconds = points(size, 1 + _REPEATS)  # the first one compiles
        num_bytes = peak_bytes(work.on_device) - base
        found.append({"size": size, "seconds": seconds, "bytes": num_bytes})
    return found


def peak_bytes(on_device: bool) -> int:
    """Returns the most memory so far, of an accelerator if there is one, or of the process."""
    stats = jax.local_devices()[0].memory_stats() if on_device else None
    return stats["peak_bytes_in_use"] if stats else telemetry.peak_host_bytes()


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Returns that of log(y) over log(x) by least squares, from a hundredth of the largest x on."""
    x, y = np.array(list(points)).T
    counts = x >= x.max() / 100
    return float(np.polyfit(np.log(x[counts]), np.log(y[counts]), 1)[0])


def case_of(name: str, work: Work, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the case as the JSON has it; its rate is that of the largest size."""
    largest = points[-1]
    seconds = [(point["size"], statistics.median(point["seconds"])) for point in points]
    held = [(point["size"], max(point["bytes"], _LEAST_BYTES)) for point in points]
    facts = {"time_slope": slope(seconds), "memory_slope": slope(held), "of": work.of}
    case = common.result(name, largest["seconds"], largest["size"], work.of, facts)
    return case | {"points": points}


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all kinds of work, prints a table, and writes JSON and a picture if asked to."""
    if _ONE.value:
        _run_one(_ONE.value, smoke, output)
        return
    for path in filter(None, (output, _PICTURE.value)):
        common.check_writable(path)
    names = _WORKS.value or list(WORKS)
    if unknown := [name for name in names if name not in WORKS]:
        raise UserError(f"--works: no {unknown[0]!r}: choose of {', '.join(WORKS)}")
    cases = (case_of(name, WORKS[name], _in_a_process(name, smoke)) for name in names)
    columns = {
        "of": lambda case: case["facts"]["of"],
        "largest": lambda case: common.short(case["count"]),
        "s": lambda case: f"{case['median_seconds']:.3g}",
        "GB": lambda case: f"{case['points'][-1]['bytes'] / 1e9:.3g}",
        "slope of s": lambda case: _slope_cell(case["facts"]["time_slope"]),
        "of GB": lambda case: _slope_cell(case["facts"]["memory_slope"]),
    }
    results = common.write_report("scaling", smoke, arguments, cases, columns, output)
    if _PICTURE.value:
        draw(_PICTURE.value, results)


def _slope_cell(value: float) -> str:
    return f"{value:.2f}{'' if value <= LINEAR else ' !'}"


def _in_a_process(name: str, smoke: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "points.json"
        arguments = [f"--one={name}", f"--output={path}", f"--largest={_LARGEST.value}"]
        common.run_module("benchmarks.scaling", arguments + ["--smoke"] * smoke)
        return files.read_json(path)


def _run_one(name: str, smoke: bool, output: str) -> None:
    files.write_json(output, measure(WORKS[name], sizes(smoke, _LARGEST.value), smoke))


def draw(path: str, cases: list[dict[str, Any]]) -> None:
    """Writes a picture: seconds above, memory below, a column for what sizes count."""
    kinds = list(dict.fromkeys(case["facts"]["of"] for case in cases))
    drawing = figure.Figure((1 + 4 * len(kinds), 8.5), layout="constrained")
    axes = drawing.subplots(2, len(kinds), squeeze=False, sharex="col")
    for column, kind in enumerate(kinds):
        shown = [case for case in cases if case["facts"]["of"] == kind]
        _draw_panel(axes[0, column], shown, _seconds_of, "time_slope")
        _draw_panel(axes[1, column], shown, _gigabytes_of, "memory_slope")
        axes[1, column].set_xlabel(kind)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("GB")
    with files.replacing(path) as partial:
        drawing.savefig(partial, format="png", dpi=_DPI)


def _seconds_of(point: dict[str, Any]) -> float:
    return statistics.median(point["seconds"])


def _gigabytes_of(point: dict[str, Any]) -> float:
    return max(point["bytes"], _LEAST_BYTES) / 1e9


def _draw_panel(axis, cases: list[dict[str, Any]], value_of, slope_name: str) -> None:
    """Draws a line a case, with its slope in the legend, and a dotted one of slope 1."""
    for case, colour in zip(cases, _COLOURS, strict=False):
        x = [point["size"] for point in case["points"]]
        label = f"{case['case']}: {case['facts'][slope_name]:.2f}"
        y = [value_of(point) for point in case["points"]]
        axis.plot(x, y, color=colour, marker="o", markersize=4, linewidth=1.2, label=label)
    steepest = max(value_of(case["points"][-1]) for case in cases)
    linear = [steepest * size / x[-1] for size in x]
    axis.plot(x, linear, color="#999999", linestyle=":", linewidth=1.2, label="slope 1")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(bottom=min(value_of(p) for case in cases for p in case["points"]) / 2)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2)


if __name__ == "__main__":
    common.start(run)
