"""Speed of training the retrieval model.

    python -m benchmarks.retrieval_training [--smoke] [--output=FILE.json]

The model and its training are those of configs/retrieval.py:beauty. Histories and semantic IDs are
random: as many users and items as Amazon Beauty has, and lengths like theirs, so that of the 20
places of a batch's row 6 hold an item on average. The places that hold none are computed all the
same, and counted; `filled` in the JSON is the share of the others. What stands in
benchmarks/common.py about counting holds for all benchmarks.

B batch   P past items   Q levels   D model width
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks import common
from configs import retrieval as retrieval_config
from genrec_jax import optimizer
from genrec_jax.data.corpus import Samples
from genrec_jax.models import encoder_decoder, layers
from genrec_jax.tasks import retrieval

LEVEL_SIZES = (256,) * 4
_WIDE = 384  # the model width of RQ-VAE-Recommender
_EMA_DECAY = 0.999


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    dropout = retrieval_config.get_config("beauty").model.dropout
    dim, wide = config.model.dim, _WIDE
    variants = [(dim, dropout, 0.0), (dim, dropout, _EMA_DECAY), (dim, 0.0, 0.0), (wide, 0.0, 0.0)]
    if smoke:  # most of the time is compilation
        config.batch_size, config.steps_per_call = 16, 2
        config.model.num_encoder_layers = config.model.num_decoder_layers = 1
        variants = [(dim, dropout, _EMA_DECAY), (wide, 0.0, 0.0)]
    data = synthetic_data(*((300, 200) if smoke else (22_363, 12_101)))
    for dim, dropout, ema_decay in variants:
        config.model.dim, config.model.dropout, config.ema_decay = dim, dropout, ema_decay
        yield _case(config, data)


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


def _case(config, data: dict[str, Any]) -> common.Case:
    dropout = f"dropout {config.model.dropout}" if config.model.dropout else "no dropout"
    name = f"d{config.model.dim}, {dropout}" + (", EMA" if config.ema_decay else "")
    model = encoder_decoder.from_config(config.to_dict(), LEVEL_SIZES)
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    samples = data["samples"]
    past = np.minimum(samples.target - samples.start, config.max_history)
    return common.training_case(
        name,
        loss_fn=retrieval.loss_fn(model, config.max_history, config.samples == "subsequences"),
        init=model.init,
        tx=tx,
        data=data,
        num_samples=len(samples),
        batch_size=config.batch_size,
        num_steps=config.steps_per_call,
        ema_decay=config.ema_decay,
        flops=training_flops(
            config.model,
            LEVEL_SIZES,
            config.batch_size,
            config.max_history,
            layers.dtype(config.dtype),
        ),
        bytes_read=4 * config.batch_size * (config.max_history + 1) * (1 + len(LEVEL_SIZES)),
        facts={
            "num_layers": config.model.num_encoder_layers + config.model.num_decoder_layers,
            "max_history": config.max_history,
            "filled": float(past.mean()) / config.max_history,
        },
    )


def training_flops(
    model: Mapping[str, Any], level_sizes: tuple[int, ...], batch_size: int, past: int, dtype: str
) -> dict[str, int]:
    """Returns those of a step on [B, P, Q] codes of histories and [B, Q] of targets.

    A product's two gradients take as many operations each as itself; for the arguments see
    `forward_flops`.
    """
    forward = forward_flops(model, level_sizes, batch_size, past, [1] * len(level_sizes), dtype)
    return {name: 3 * count for name, count in forward.items()}


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
    return common.add_flops({dtype: 2 * batch_size * body}, {"float32": 2 * batch_size * heads})


if __name__ == "__main__":
    common.main("retrieval_training", cases)
