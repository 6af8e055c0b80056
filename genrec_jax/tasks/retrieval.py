"""Stage `retrieve`: histories as semantic IDs to a model that generates the next item's ID.

Of a tokenizer's run it reads `codebooks` and `semantic_ids`, nothing else, and exports the latter
beside what `ranking` does.
"""

import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import checks, ranking, sharding, train_step
from genrec_jax import plan as plan_lib
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import batches, datasets, histories
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.corpus import Samples
from genrec_jax.evaluators import searchers
from genrec_jax.models import encoder_decoder, transformer
from genrec_jax.tasks import tokenizer as tokenizer_task

_MINIMA = {
    "model.dim": 1,
    "model.num_heads": 1,
    "model.head_dim": 1,
    "model.hidden_dim": 1,
    "model.embedding_dim": 1,
    "model.num_encoder_layers": 1,
    "model.num_decoder_layers": 1,
    "model.num_user_bins": 0,
}
_PACKED_NEEDS = {"samples": "prefixes", "model.positions": "relative", "model.num_user_bins": 0}
_MOST_SAMPLES = 12  # of a row: it leaves 2% of Beauty's places free, and more would leave 1%
_SAMPLES = {
    "prefixes": corpus_lib.training_samples,
    "subsequences": corpus_lib.whole_training_samples,
}


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Trains the encoder-decoder, exports it and returns the metrics."""
    started = time.monotonic()
    checks.choice(config, "samples", tuple(_SAMPLES))
    ranking.check(config, _MINIMA)
    checks.choice(config, "model.positions", transformer.POSITIONS)
    checks.fraction(config, "model.dropout")
    checks.needs(config, "packed", _PACKED_NEEDS, instead=False)
    if config.interactions_on == "host":
        checks.needs(config, "interactions_on", {"samples": "prefixes"}, instead="devices")
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    tokenizer = tokenizer_task.load_or_make(config, corpus, workdir, cache_dir)
    semantic_ids, level_sizes = tokenizer.semantic_ids, tokenizer.level_sizes
    model = encoder_decoder.from_config(config.to_dict(), level_sizes)
    mesh = sharding.make_mesh(**config.mesh.to_dict())
    samples = _SAMPLES[config.samples](corpus)
    packing = None
    if config.packed:
        num_shards = mesh.shape["data"] * config.accumulation
        packing = packing_of(samples, config.max_history, num_shards)
        gather = packed_gather_fn(config.max_history)
        loss = packed_loss_fn(model, config.batch_size // num_shards)
    elif config.samples == "subsequences":
        gather, loss = None, drawn_loss_fn(model, config.max_history)
    else:
        gather, loss = gather_fn(config.max_history), loss_fn(model)
    ranker = ranking.Ranker(
        searchers.of_generator(
            model,
            mesh,
            config.max_history,
            semantic_ids,
            corpus_lib.training_counts(corpus) == 0,
        ),
        samples,
        _init_fn(model, tokenizer.codebooks if config.tokens_from_codebooks else None),
        gather,
        loss,
        tokenizer.metrics,
        {"semantic_ids": semantic_ids},
        {"level_sizes": level_sizes},
        {},
        packing,
    )
    metrics = ranking.run(config, workdir, corpus, mesh, ranker)
    return metrics | {"time/seconds": time.monotonic() - started}


def plan(config, workdir: pathlib.Path) -> list[plan_lib.Line]:
    """Returns the arrays of training the encoder-decoder."""
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    sizes = tokenizer_task.planned_level_sizes(config)
    model = encoder_decoder.from_config(config.to_dict(), sizes)
    ids = jax.ShapeDtypeStruct((corpus.num_items, len(sizes)), jnp.int32)
    samples = _SAMPLES[config.samples](corpus)
    return ranking.plan(config, corpus, model, samples, {"semantic_ids": ids})


def packing_of(samples: Samples, max_history: int, num_shards: int) -> batches.Packing:
    """Returns how samples share rows that are as long as the longest history that is read."""
    lengths = np.minimum(samples.target - samples.start, max_history)
    return batches.Packing(lengths, max_history, min(_MOST_SAMPLES, max_history), num_shards)


def _init_fn(model, codebooks: list[np.ndarray] | None):
    def init(rng, data):
        params_rng, tokens_rng = jax.random.split(rng)
        params = model.init(params_rng)
        if codebooks is not None:
            params = encoder_decoder.with_codebook_tokens(params, codebooks, tokens_rng)
        return params

    return init


def packed_gather_fn(max_history: int) -> train_step.GatherFn:
    """Returns the gathering of samples [G, R, M] that share rows, see `batches.Packing`."""

    def gather(stored, rows):
        is_there = rows != batches.NOBODY
        samples = stored["samples"].take(rows * is_there)
        items, segments = histories.gather_rows(
            stored["items"], samples.start, samples.target, is_there, max_history
        )
        targets = stored["items"][samples.target]
        return {"items": items, "segments": segments, "targets": targets, "is_there": is_there}

    return gather


def packed_loss_fn(model, shard_size: int) -> train_step.LossFn:
    """Returns the loss of `loss_fn`, of histories that share rows: batches of `packed_gather_fn`.

    Each of the G shards has `shard_size` samples.
    """

    def batch_loss(params, data, batch, step, rng):
        slots = transformer.Slots.of_shards(batch["is_there"], shard_size)
        targets = batch["targets"].reshape(len(batch["targets"]), -1)
        targets = jnp.take_along_axis(targets, slots.of_samples, axis=1).reshape(-1)  # [B]
        items, segments = (
            batch[name].reshape(-1, batch[name].shape[-1]) for name in ("items", "segments")
        )
        losses = model.bind(params).packed_losses(
            data["semantic_ids"][items], segments, slots, data["semantic_ids"][targets], rng
        )
        return _summary(losses)

    return batch_loss


def gather_fn(max_history: int) -> train_step.GatherFn:
    """Returns the gathering of samples [B]."""

    def gather(stored, indices):
        samples = stored["samples"].take(indices)
        items, mask = histories.gather(stored["items"], samples.start, samples.target, max_history)
        targets = stored["items"][samples.target]
        return {"items": items, "mask": mask, "targets": targets, "users": samples.user}

    return gather


def loss_fn(model) -> train_step.LossFn:
    """Returns the loss of a batch of `gather_fn`: the sum of the levels' means over it."""

    def batch_loss(params, data, batch, step, rng):
        losses = model.bind(params).losses(
            data["semantic_ids"][batch["items"]],
            batch["mask"],
            data["semantic_ids"][batch["targets"]],
            batch["users"],
            rng,
        )
        return _summary(losses)

    return batch_loss


def drawn_loss_fn(model, max_history: int) -> train_step.LossFn:
    """Returns the loss of `loss_fn`, of a part of each history of `samples` [B] drawn anew."""
    gather, loss = gather_fn(max_history), loss_fn(model)

    def batch_loss(params, data, indices, step, rng):
        rng, draw_rng = jax.random.split(rng)
        samples = data["samples"].take(indices)
        start, target = histories.draw_subsequences(
            draw_rng, samples.start, samples.target, max_history
        )
        drawn = data | {"samples": Samples(samples.user, start, target)}
        return loss(params, data, gather(drawn, jnp.arange(len(indices))), step, rng)

    return batch_loss


def _summary(losses: jax.Array):
    """Returns what a `LossFn` does, of losses [B, Q]."""
    levels = losses.mean(axis=0)  # [Q]
    metrics = {f"level_{level}_loss": loss for level, loss in enumerate(levels)}
    return levels.sum(), (metrics, None)
