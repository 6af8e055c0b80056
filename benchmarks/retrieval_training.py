"""Speed of training the retrieval model.

    python -m benchmarks.retrieval_training [--smoke] [--output=FILE.json]

The models are that of configs/retrieval.py:beauty, also as wide as RQ-VAE-Recommender's, and a
large one. Histories and semantic IDs are random: as many users and items as Amazon Beauty has, and
lengths like theirs, so that of the 20 places of a history 6 hold an item on average. `padded` cases
compute the others all the same, and count them; `filled` in the JSON is the share of those that do
hold one. `packed` cases, as the config has it, put several histories into a row, and count
what the histories need, nothing else. `loop` cases are `train.fit` itself with its pipeline and its
log, by its own clock, a repeat a dispatch, evaluations left out; the others are superbatches as it
dispatches them. What stands in benchmarks/common.py about counting holds for all benchmarks.

B batch   P past items   Q levels   D model width
"""

import functools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import common
from configs import retrieval as retrieval_config
from genrec_jax import checkpoint, optimizer, profiling, roofline, sharding, train, train_step
from genrec_jax.data import batches
from genrec_jax.data.corpus import Samples
from genrec_jax.models import encoder_decoder, layers
from genrec_jax.tasks import retrieval

LEVEL_SIZES = (256,) * 4
_WIDE = 384  # the model width of RQ-VAE-Recommender
_EMA_DECAY = 0.999


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    model = config.model
    if smoke:  # most of the time is compilation
        config.batch_size, config.steps_per_call = 16, 2
        model.num_encoder_layers = model.num_decoder_layers = 1
    data = synthetic_data(*((300, 200) if smoke else (22_363, 12_101)))
    if smoke:
        model.dropout, config.ema_decay = 0.2, _EMA_DECAY
        yield step_case(config, data, packed=False)
        config.ema_decay = 0.0
        yield loop_case(config, data, packed=True)
        return
    yield step_case(config, data, packed=False)
    yield step_case(config, data, packed=True)
    model.dim, model.dropout = _WIDE, 0.0
    for case in (step_case, loop_case):
        for packed in (False, True):
            yield case(config, data, packed=packed)
    model.update(dim=1_024, embedding_dim=1_024, num_heads=16, hidden_dim=4_096)
    model.num_encoder_layers = model.num_decoder_layers = 12
    config.batch_size, config.steps_per_call = 1_024, 10
    yield step_case(config, data, packed=True)


def synthetic_data(num_users: int, num_items: int) -> dict[str, Any]:
    """Returns random histories with every prefix as a sample, and random IDs."""
    rng = np.random.default_rng(0)
    lengths = draw_lengths(rng, num_users)
    starts = np.cumsum(lengths) - lengths
    counts = lengths - 1  # every item but the first is a target
    user = np.repeat(np.arange(num_users), counts)
    number = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = starts[user]
    fields = (user, start, start + 1 + number)
    return {
        "items": rng.integers(num_items, size=lengths.sum(), dtype=np.int32),
        "semantic_ids": np.stack(
            [rng.integers(size, size=num_items, dtype=np.int32) for size in LEVEL_SIZES], axis=1
        ),
        "samples": Samples(*(field.astype(np.int32) for field in fields)),
    }


def draw_lengths(rng: np.random.Generator, num_users: int) -> np.ndarray:
    """Returns [U] int32 lengths of histories.

    As in Amazon Beauty, users have 3 items to train on, or more, and a few have very many.
    """
    return 3 + rng.lognormal(0.7, 1.2, num_users).astype(np.int32)


def step_case(
    config, data: dict[str, Any], packed: bool, mesh: jax.sharding.Mesh | None = None
) -> common.Case:
    """A superbatch of training, on the first device or on those of a mesh."""
    num_shards = mesh.shape["data"] if mesh else 1
    model = encoder_decoder.from_config(config.to_dict(), LEVEL_SIZES)
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    past, packing = _packing(config, data["samples"], num_shards)
    slots = next(_stream(config, packing)) if packed else None
    return common.training_case(
        _name(config, packed),
        loss_fn=train_step.gathering(*gather_and_loss(config, model, packed, num_shards)),
        init=model.init,
        tx=tx,
        data=data,
        num_samples=len(past),
        batch_size=config.batch_size,
        num_steps=config.steps_per_call,
        ema_decay=config.ema_decay,
        flops=training_flops(
            config.model,
            LEVEL_SIZES,
            config.batch_size,
            past if packed else np.array([config.max_history]),
            layers.dtype(config.dtype),
        ),
        bytes_read=4 * config.batch_size * (config.max_history + 1) * (1 + len(LEVEL_SIZES)),
        facts={
            "num_layers": config.model.num_encoder_layers + config.model.num_decoder_layers,
            "max_history": config.max_history,
            "filled": _filled(config, past, slots),
        },
        superbatch=slots,
        mesh=mesh,
    )


def loop_case(config, data: dict[str, Any], packed: bool, on_host: bool = False) -> common.Case:
    """A run of `train.fit`: two dispatches, in which all is compiled, then one a repeat.

    Histories lie on the device, or on the host, which gathers the batches.
    """
    model = encoder_decoder.from_config(config.to_dict(), LEVEL_SIZES)
    past, packing = _packing(config, data["samples"])
    gather, loss = gather_and_loss(config, model, packed)
    mesh, steps = sharding.one_device(), config.steps_per_call
    stored = {name: data[name] for name in ("items", "samples")}
    read = {"semantic_ids": data["semantic_ids"]}

    def seconds(repeats):
        num_steps = steps * (2 + repeats)
        tx, schedule = optimizer.make(num_steps=num_steps, **config.optimizer.to_dict())
        with tempfile.TemporaryDirectory() as directory:
            workdir = pathlib.Path(directory)
            train.fit(
                name="retrieval",
                workdir=workdir,
                mesh=mesh,
                init=lambda rng, _: model.init(rng),
                loss_fn=loss if on_host else train_step.gathering(gather, loss),
                tx=tx,
                schedule=schedule,
                data=sharding.replicate(mesh, read if on_host else read | stored),
                data_fingerprint="random",
                num_samples=len(past),
                batch_size=config.batch_size,
                packing=packing if packed else None,
                gather=functools.partial(gather, stored) if on_host else None,
                accumulation=1,
                ema_decay=config.ema_decay,
                rules=None,
                num_steps=num_steps,
                steps_per_call=steps,
                eval_every=num_steps,
                skip_nonfinite=config.skip_nonfinite,
                checkpointing=checkpoint.Policy(**config.checkpoint.to_dict()),
                evaluate=lambda _: {},
                headline=(),
                select=None,
                patience=0,
                seed=0,
                profile=profiling.interval(config, workdir),
                trackers=config.trackers,
            )
            return common.logged_seconds(workdir, steps)[2:]

    step = step_case(config, data, packed)
    return step._replace(name=f"{step.name}, loop", call=None, seconds=seconds)


def _name(config, packed: bool) -> str:
    model = config.model
    dropout = f", dropout {model.dropout}" if model.dropout else ""
    average = ", EMA" if config.ema_decay else ""
    return f"d{model.dim}{dropout}{average}, {'packed' if packed else 'padded'}"


def gather_and_loss(
    config, model, packed: bool, num_shards: int = 1
) -> tuple[train_step.GatherFn, train_step.LossFn]:
    """Returns how a batch is gathered, and the loss of it."""
    if packed:
        loss = retrieval.packed_loss_fn(model, config.batch_size // num_shards)
        return retrieval.packed_gather_fn(config.max_history), loss
    return retrieval.gather_fn(config.max_history), retrieval.loss_fn(model)


def _packing(config, samples: Samples, num_shards: int = 1) -> tuple[np.ndarray, batches.Packing]:
    """Returns how many items each sample reads [S], and how they share rows."""
    packing = retrieval.packing_of(samples, config.max_history, num_shards)
    return packing.lengths, packing


def _stream(config, packing: batches.Packing):
    return batches.superbatches(
        num_samples=len(packing.lengths),
        batch_size=config.batch_size,
        boundaries=[0, config.steps_per_call],
        seed=0,
        process_index=0,
        process_count=1,
        packing=packing,
    )


def _filled(config, past: np.ndarray, slots: np.ndarray | None) -> float:
    """Returns the share of the places of a batch that hold an item."""
    if slots is None:
        return float(past.mean()) / config.max_history
    held = past[slots[slots != batches.NOBODY]].sum()
    return float(held) / (slots[..., 0].size * config.max_history)


def training_flops(
    model: Mapping[str, Any],
    level_sizes: tuple[int, ...],
    batch_size: int,
    past: np.ndarray,
    dtype: str,
) -> dict[str, int]:
    """Returns those of a step on histories of so many items, `past` [S], and targets, on average.

    A product's two gradients take as many operations each as itself; for the other arguments see
    `forward_flops`.
    """
    lengths, counts = np.unique(past, return_counts=True)
    places = [1] * len(level_sizes)
    forward = roofline.add_flops(
        *(
            forward_flops(model, level_sizes, int(count), int(length), places, dtype)
            for length, count in zip(lengths, counts, strict=True)
        )
    )
    return {name: 3 * batch_size * count // len(past) for name, count in forward.items()}


def forward_flops(
    model: Mapping[str, Any],
    level_sizes: tuple[int, ...],
    batch_size: int,
    past: int,
    places: list[int],
    dtype: str,
) -> dict[str, int]:
    """Returns those of reading [B, P, Q] codes of histories and decoding codes after them.

    Args:
        model: the settings of a retrieval config, without separators and user tokens.
        level_sizes: how many codes each of the Q levels has.
        batch_size, past: B and P.
        places: how many the decoder computes of each level, for one history.
        dtype: of the computation; the heads are float32.
    """
    dim, hidden = model["dim"], model["hidden_dim"]
    inner = model["num_heads"] * model["head_dim"]
    source = past * len(level_sizes)  # places the encoder reads
    encoder = source * (4 * dim * inner + 2 * dim * hidden) + 2 * source * source * inner
    memory = 2 * source * dim * inner  # its keys and values, once for all places
    decoder = decoder_pairs(dim, inner, hidden, source, places) + memory
    body = model["num_encoder_layers"] * encoder + model["num_decoder_layers"] * decoder
    if model["embedding_dim"] != dim:
        body += (source + sum(places)) * model["embedding_dim"] * dim
    return with_heads(batch_size, dtype, body, dim, places, level_sizes)


def decoder_pairs(dim: int, inner: int, hidden: int, source: int, places: list[int]) -> int:
    """Returns the products of a decoder's layer, of so many places at each level.

    Left out are the keys and values of the `source` places that it looks at.
    """
    own = sum(number * 2 * (level + 1) * inner for level, number in enumerate(places))
    each = 6 * dim * inner + 2 * source * inner + 2 * dim * hidden
    return own + sum(places) * each


def with_heads(
    batch_size: int,
    dtype: str,
    body: int,
    dim: int,
    places: list[int],
    level_sizes: tuple[int, ...],
) -> dict[str, int]:
    """Returns the operations of `body` products a history, and of the heads that follow."""
    heads = dim * sum(number * size for number, size in zip(places, level_sizes, strict=True))
    return roofline.add_flops({dtype: 2 * batch_size * body}, {"float32": 2 * batch_size * heads})


if __name__ == "__main__":
    common.main("retrieval_training", cases)
