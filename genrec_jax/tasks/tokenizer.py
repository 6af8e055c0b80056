"""Stage `tokenize`: embeddings to codebooks and one semantic ID for each item.

The export holds `codebooks` [Q, K, C] and `semantic_ids` [I, Q + 1], which are all that the next
stage reads, and `state`, the parameters, for who wants to encode more items.
"""

import pathlib
import time

import jax
import numpy as np

from genrec_jax import checkpoint, checks, files, optimizer, sharding, train
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.errors import UserError
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.models import rqvae
from genrec_jax.quantizers import collisions, health, kmeans, residual, vector

_RESET_ITEMS = 65_536  # how many random items decide which codes are dead
_MINIMA = {
    "seed": 0,
    "reset_every": 0,
    "extra_code_size": 0,
    "kmeans_items": 0,
    "kmeans_iterations": 1,
    "model.code_dim": 1,
    "model.num_levels": 1,
    "model.codebook_size": 1,
    "model.commitment_weight": 0,
} | train.MINIMA


def run(config, workdir: pathlib.Path, cache_dir: pathlib.Path | None = None) -> dict[str, float]:
    """Trains an RQ-VAE, exports its semantic IDs and returns the metrics."""
    started = time.monotonic()
    _check(config)
    cache_dir = pathlib.Path(cache_dir or config.cache_dir or workdir / "cache")
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    is_held_out = _hold_out(corpus.num_items, config.held_out_share, config.seed) | corpus.is_cold
    num_trained = int((~is_held_out).sum())
    if num_trained < config.model.codebook_size:
        raise UserError(
            f"{num_trained} items to train on are fewer than the {config.model.codebook_size} "
            "codes of a level: lower --config.model.codebook_size"
        )
    embeddings = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    sees_interactions = "collaborative" in embedders.split_names(config.embedder.name)
    sees_interactions |= corpus.is_cold.any()  # by the items that it leaves out

    mesh = sharding.make_mesh()
    data = sharding.replicate(mesh, embeddings[~is_held_out])
    model = rqvae.model(embedding_dim=embeddings.shape[1], **config.model.to_dict())
    tx, schedule = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    evaluate = evaluator.Evaluator(model, sharding.replicate(mesh, embeddings), is_held_out)
    result = train.fit(
        name="tokenizer",
        workdir=workdir,
        mesh=mesh,
        init=_init_fn(model, config),
        loss_fn=loss_fn(model),
        tx=tx,
        schedule=schedule,
        data=data,
        data_fingerprint=files.digest(embeddings),
        num_samples=len(data),
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        ema_decay=0.0,
        adjust=_reset_fn(model, config) if config.reset_every else None,
        num_steps=config.num_steps,
        steps_per_call=config.steps_per_call,
        eval_every=config.eval_every,
        evaluate=evaluate.run,
        headline=("tokenizer/reconstruction_loss", "tokenizer/unique_before"),
        select=None,  # reconstruction on the training items only gets better: keep the last
        patience=0,
        seed=config.seed,
    )

    codes, losses = evaluate.assign(result.params)
    codebooks = np.asarray(jax.jit(lambda params: model.bind(params).codewords())(result.params))
    popularity = corpus_lib.training_counts(corpus)
    semantic_ids = collisions.append_extra_code(codes, popularity, config.extra_code_size)
    extra_code_size = config.extra_code_size or int(semantic_ids[:, -1].max()) + 1
    metrics = corpus_lib.summary(corpus) | result.metrics | losses
    metrics |= health.report(codes, codebooks)
    metrics["tokenizer/unique_after"] = health.unique_share(semantic_ids)
    checkpoint.export(
        workdir,
        {
            "state": {"params": result.params, "step": np.int32(result.step)},
            "codebooks": codebooks,
            "semantic_ids": semantic_ids,
        },
        {
            "config": config.to_dict(),
            "corpus": corpus_lib.fingerprint(corpus),
            "training": corpus_lib.training_fingerprint(corpus) if sees_interactions else "",
            "item_ids": corpus.item_ids,
            "level_sizes": [len(codebook) for codebook in codebooks] + [extra_code_size],
        },
    )
    return metrics | {"time/seconds": time.monotonic() - started}


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.choice(config, "model.residual_gradient", residual.RESIDUAL_GRADIENTS)
    checks.choice(config, "model.estimator", vector.ESTIMATORS)
    checks.choice(config, "model.distance", tuple(vector.DISTANCES))
    if config.model.temperature <= 0:
        raise UserError(f"--config.model.temperature={config.model.temperature} must be above 0")
    if config.model.simvq and config.reset_every:
        raise UserError(
            "--config.model.simvq=True moves all codewords of a level together, so none can start "
            "anew: give --config.reset_every=0"
        )
    checks.at_least(config, _MINIMA)
    checks.fraction(config, "held_out_share")
    if 0 < config.kmeans_items < config.model.codebook_size:
        raise UserError(
            f"--config.kmeans_items={config.kmeans_items} are fewer than the "
            f"{config.model.codebook_size} codes of a level: give more, or 0 for a random start"
        )
    sharding.check_batch_size("--config.batch_size", config.batch_size, config.accumulation)


def _init_fn(model, config):
    """Returns `init(rng, embeddings)`: random layers, codebooks by k-means of their latents."""

    def init(rng, embeddings):
        params_rng, sample_rng, kmeans_rng = jax.random.split(rng, 3)
        params = model.init(params_rng)
        if config.kmeans_items == 0:
            return params
        num_items = min(config.kmeans_items, len(embeddings))
        sample = jax.random.choice(sample_rng, embeddings, (num_items,), replace=False)
        with jax.default_matmul_precision("highest"):
            latents = model.bind(params).encode(sample)
        codebooks = kmeans.residual_kmeans(
            kmeans_rng,
            latents,
            num_levels=config.model.num_levels,
            num_clusters=config.model.codebook_size,
            max_iterations=config.kmeans_iterations,
        )
        return params | {"codebooks": codebooks}

    return init


def _hold_out(num_items: int, share: float, seed: int) -> np.ndarray:
    """Returns [I] bool: a seeded choice of a share of the items."""
    order = np.random.default_rng(seed).permutation(num_items)
    return order < round(share * num_items)


def _reset_fn(model, config) -> train.AdjustFn:
    """Returns what gives dead codes a new start every so many steps."""

    def reset(params, embeddings, rng):
        sample_rng, reset_rng = jax.random.split(rng)
        num_items = min(_RESET_ITEMS, len(embeddings))
        sample = jax.random.choice(sample_rng, embeddings, (num_items,), replace=False)
        module = model.bind(params)
        codebooks = residual.reset_dead_codes(
            reset_rng, module.encode(sample), module.codewords(), config.model.distance
        )
        return params | {"codebooks": codebooks}

    def adjust(params, embeddings, step, rng):
        is_due = (step > 0) & (step % config.reset_every == 0)
        return jax.lax.cond(is_due, reset, lambda params, *_: params, params, embeddings, rng)

    return adjust


def loss_fn(model) -> train.LossFn:
    """Returns the loss of a batch of items: reconstruction and quantisation, means over it."""

    def batch_loss(params, embeddings, indices, rng):
        output = model.bind(params)(embeddings[indices], rng)
        metrics = {
            "reconstruction_loss": output.reconstruction_loss.mean(),
            "quantization_loss": output.quantization_loss.mean(),
        }
        return sum(metrics.values()), metrics

    return batch_loss
