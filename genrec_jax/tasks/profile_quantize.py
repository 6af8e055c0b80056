"""Stage `profile_quantize`: where the time of quantising goes, for many shapes.

Of each case, in a folder of its own: the optimised HLO (`hlo.txt`), a trace, and a picture of a
call in it (`timeline.png`). Of all together: `report.json`, the same in words as `report.md`, and
the pictures `roofline.png` and `time.png`.

E embedding width   C code width   Q levels   K codebook size
"""

import itertools
import logging
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax import (
    checks,
    files,
    hlo,
    optimizer,
    pictures,
    profiling,
    roofline,
    sharding,
    tables,
    train_step,
)
from genrec_jax.errors import UserError
from genrec_jax.quantizers import residual, vector
from genrec_jax.tokenizers import codecs, neural

_log = logging.getLogger(__name__)
_MINIMA = {
    "seed": 0,
    "embedding_dim": 1,
    "model.code_dim": 1,
    "num_traced_calls": 1,
    "repeats": 1,
    "min_seconds": 0,
} | {f"optimizer.{name}": minimum for name, minimum in optimizer.MINIMA.items()}
_LISTS = ("batch_sizes", "codebook_sizes", "num_levels")
_EXAMPLES = {"modes": "assign,train", "implementations": "auto,xla", "num_levels": "3,4"}


class Case(NamedTuple):
    """What is profiled."""

    mode: str
    implementation: str
    batch_size: int
    codebook_size: int
    num_levels: int

    @property
    def name(self) -> str:
        sizes = f"b{self.batch_size}-k{self.codebook_size}-q{self.num_levels}"
        return f"{self.mode}-{sizes}-{self.implementation}"


class Call(NamedTuple):
    """A compiled program, and the function that calls it."""

    compiled: jax.stages.Compiled
    run: Callable[[], Any]


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Profiles all cases, writes the report and returns the time of each."""
    started = time.monotonic()
    _check(config)
    lists = (config.implementations, *(config[name] for name in _LISTS))
    cases = [Case(mode, *values) for mode in config.modes for values in itertools.product(*lists)]
    ceilings = roofline.ceilings(config.small_ceilings, config.repeats, config.min_seconds)
    report = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "ceilings": ceilings,
        "cases": [_profile(config, case, workdir / case.name, ceilings) for case in cases],
    }
    files.write_json(workdir / "report.json", report)
    files.write_atomically(workdir / "report.md", tables.profile(report).encode())
    pictures.roofline(workdir / "roofline.png", report)
    pictures.time_by_scope(workdir / "time.png", report)
    metrics = {f"ceilings/{name}": rate for name, rate in ceilings.items()}
    for case in report["cases"]:
        metrics[f"{case['case']}/seconds"] = case["seconds"]
    return metrics | {"time/seconds": time.monotonic() - started}


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.at_least(config, _MINIMA)
    checks.choice(config, "model.distance", tuple(vector.DISTANCES))
    known = {"modes": _MODES, "implementations": residual.IMPLEMENTATIONS}
    for key in (*known, *_LISTS):
        values, example = config[key], _EXAMPLES.get(key, "256,512")
        if key in known:
            is_right = all(value in known[key] for value in values)
            wanted = f"one or more of {', '.join(known[key])}"
        else:
            is_right = all(isinstance(value, int) and value > 0 for value in values)
            wanted = "one or more whole numbers from 1 on"
        if not values or not is_right:
            raise UserError(
                f"--config.{key}={values} must be {wanted}, such as --config.{key}={example}"
            )


def _profile(
    config, case: Case, directory: pathlib.Path, ceilings: dict[str, float]
) -> dict[str, Any]:
    """Returns what report.json says of a case; writes its HLO and its trace."""
    call = _MODES[case.mode](config, case)
    seconds = roofline.measure(call.run, config.repeats, config.min_seconds)
    # The calls wait for nothing between them, as those that are measured.
    _, traced_seconds = profiling.trace(
        lambda: [call.run() for _ in range(config.num_traced_calls)], directory
    )
    text = call.compiled.as_text()
    files.write_atomically(directory / "hlo.txt", text.encode())
    program = hlo.parse(text)
    products = case.batch_size * case.num_levels * case.codebook_size * config.model.code_dim
    work = hlo.work(program, kernel_flops={"float32_highest": 2 * products})
    rows = profiling.by_scope(program, work, directory, config.num_traced_calls)
    spans = profiling.spans(program, work, directory, config.num_traced_calls)
    pictures.timeline(directory / "timeline.png", spans)
    memory = _memory(call.compiled)
    milliseconds = tables.three_digits(statistics.median(seconds) * 1e3)
    _log.info("%s: %s ms, in %s", case.name, milliseconds, directory)
    # The whole call needs no more traffic than its arguments and its results.
    whole = profiling.Row(
        "all",
        statistics.median(seconds),
        roofline.add_flops(*(row.flops for row in rows)),
        memory["argument_size_in_bytes"] + memory["output_size_in_bytes"],
        sum(row.num_kernels for row in rows),
    )
    return (
        {"case": case.name}
        | case._asdict()
        | _measured(whole, ceilings)
        | {
            "all_seconds": seconds,
            "traced_seconds": traced_seconds / config.num_traced_calls,
            "scopes": [{"scope": row.scope} | _measured(row, ceilings) for row in rows],
            "fusions": hlo.fusions(program),
            "cost_analysis": _cost(call.compiled),
            "memory_analysis": memory,
        }
    )


def _measured(row: profiling.Row, ceilings: dict[str, float]) -> dict[str, Any]:
    floor = roofline.floor_seconds(row.flops, row.bytes, ceilings)
    return {
        "seconds": row.seconds,
        "flops": row.flops,
        "bytes": row.bytes,
        "num_kernels": row.num_kernels,
        "floor_seconds": floor,
        "share_of_floor": floor / row.seconds if row.seconds else 0.0,
    }


def _cost(compiled: jax.stages.Compiled) -> dict[str, float]:
    """Returns XLA's own estimate, without that of each operand."""
    cost = compiled.cost_analysis() or {}
    return {key: cost[key] for key in ("flops", "transcendentals", "bytes accessed") if key in cost}


def _memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Returns the bytes of arguments, results, and what lies between them."""
    memory = compiled.memory_analysis()
    names = ("argument", "output", "alias", "temp", "generated_code")
    return {f"{name}_size_in_bytes": getattr(memory, f"{name}_size_in_bytes") for name in names}


def _assign(config, case: Case) -> Call:
    """Latents to codes."""
    latents_rng, codebooks_rng = jax.random.split(jax.random.key(config.seed))
    width = config.model.code_dim
    latents = jax.random.normal(latents_rng, (case.batch_size, width))
    shape = (case.num_levels, case.codebook_size, width)
    codebooks = jax.random.normal(codebooks_rng, shape)

    def assign(latents, codebooks):
        return residual.residual_quantize(
            latents,
            list(codebooks),
            distance=config.model.distance,
            implementation=case.implementation,
        ).ids

    return _compiled(assign, latents, codebooks)


def _encode(config, case: Case) -> Call:
    """Embeddings to codes at full precision, by XLA's operations as the IDs that are written."""
    params_rng, embeddings_rng = jax.random.split(jax.random.key(config.seed))
    model, _ = codecs.NEURAL["rqvae"](_settings(config, case), config.embedding_dim)
    params = jax.jit(model.init)(params_rng)
    embeddings = jax.random.normal(embeddings_rng, (case.batch_size, config.embedding_dim))

    def encode(params, embeddings):
        with jax.default_matmul_precision("highest"):
            module = model.bind(params)
            return residual.residual_quantize(
                module.encode(embeddings),
                module.codewords(),
                distance=config.model.distance,
                implementation=case.implementation,
            ).ids

    return _compiled(encode, params, embeddings)


def _train(config, case: Case) -> Call:
    """A step of training as `train.fit` dispatches them, on data that is the batch alone."""
    mesh = sharding.one_device()
    replicated = sharding.replicated(mesh)
    model, _ = codecs.NEURAL["rqvae"](
        _settings(config, case), config.embedding_dim, case.implementation
    )
    tx, _ = optimizer.make(num_steps=1_000, **config.optimizer.to_dict())
    train_superbatch = train_step.make_train_superbatch(
        neural.loss_fn(model), tx, mesh, accumulation=1, ema_decay=0.0, rules=None
    )
    params_rng, data_rng, rng = jax.random.split(jax.random.key(config.seed), 3)

    def make_state(rng):
        params = model.init(rng)
        return {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}

    state = jax.jit(make_state, out_shardings=replicated)(params_rng)
    embeddings = jax.random.normal(data_rng, (case.batch_size, config.embedding_dim))
    data, rng = jax.device_put((embeddings, rng), replicated)
    superbatch = jnp.arange(case.batch_size, dtype=jnp.int32)[None]
    superbatch = jax.device_put(superbatch, sharding.over_rows(mesh, row_axis=1))
    compiled = train_superbatch.lower(state, data, superbatch, rng).compile()

    def step():
        nonlocal state
        state, metrics = compiled(state, data, superbatch, rng)
        return metrics

    return Call(compiled, step)


# What is profiled: (config, case) -> Call.
_MODES = {"assign": _assign, "encode": _encode, "train": _train}


def _settings(config, case: Case) -> dict[str, Any]:
    """Returns the model's settings with the case's sizes."""
    sizes = {
        "num_levels": case.num_levels,
        "codebook_size": case.codebook_size,
        "level_sizes": (),
    }
    return config.model.to_dict() | sizes


def _compiled(function: Callable, *args: Any) -> Call:
    compiled = jax.jit(function).lower(*args).compile()
    return Call(compiled, lambda: compiled(*args))
