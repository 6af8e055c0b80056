"""Tokenizers that are trained by gradients: an autoencoder around a quantiser."""

import pathlib

import jax

from genrec_jax import checkpoint, optimizer, profiling, train, train_step
from genrec_jax.models import layers
from genrec_jax.quantizers import ema, kmeans, residual
from genrec_jax.tokenizers import codecs

_RESET_ITEMS = 65_536  # how many random items decide which codes are dead


def fit(
    config,
    model: layers.Model,
    codec: codecs.Codec,
    *,
    workdir: pathlib.Path,
    mesh: jax.sharding.Mesh,
    data: jax.Array,
    data_fingerprint: str,
    evaluate,
) -> train.Result:
    """Trains on data [N, E], with the settings of configs/rqvae.py or configs/fsq.py."""
    tx, schedule = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    has_codebooks = config.name == "rqvae"
    return train.fit(
        name="tokenizer",
        workdir=workdir,
        mesh=mesh,
        init=_init_fn(model, codec, config) if has_codebooks else lambda rng, _: model.init(rng),
        loss_fn=loss_fn(
            model,
            temperature=_temperature_fn(config) if has_codebooks else None,
            observes=has_codebooks and config.model.codebook_ema > 0,
        ),
        tx=tx,
        schedule=schedule,
        data=data,
        data_fingerprint=data_fingerprint,
        num_samples=len(data),
        batch_size=config.batch_size,
        packing=None,
        gather=None,
        accumulation=config.accumulation,
        ema_decay=0.0,
        rules=rules(codec, config) if has_codebooks else None,
        num_steps=config.num_steps,
        steps_per_call=config.steps_per_call,
        eval_every=config.eval_every,
        skip_nonfinite=config.skip_nonfinite,
        checkpointing=checkpoint.Policy(**config.checkpoint.to_dict()),
        evaluate=evaluate,
        headline=("tokenizer/reconstruction_loss", "tokenizer/unique_before"),
        select=None,  # reconstruction on the training items only gets better: keep the last
        patience=0,
        seed=config.seed,
        profile=profiling.interval(config, workdir),
        trackers=config.trackers,
    )


def loss_fn(model: layers.Model, *, temperature=None, observes: bool = False) -> train_step.LossFn:
    """Returns the loss of a batch of items: reconstruction and quantisation, means over it.

    Args:
        model: of `models.rqvae` or `models.fsq`.
        temperature: of a step, for the estimator `gumbel`; None for 1.
        observes: whether to return what moving averages of codebooks need, see `ema.observe`.
    """

    def batch_loss(params, embeddings, indices, step, rng):
        heat = temperature(step) if temperature else 1.0
        output = model.bind(params)(embeddings[indices], rng, heat)
        metrics = {
            "reconstruction_loss": output.reconstruction_loss.mean(),
            "quantization_loss": output.quantization_loss.mean(),
        }
        observed = None
        if observes:
            observed = ema.observe(output.quantized, params["codebooks"].shape[1])
        return sum(metrics.values()), (metrics, observed)

    return batch_loss


def _temperature_fn(config):
    """Returns the temperature of a step, which falls, or rises, by the same factor each step."""
    first, last = config.model.temperature, config.model.final_temperature
    return lambda step: first * (last / first) ** (step / max(config.num_steps - 1, 1))


def _init_fn(model: layers.Model, codec: codecs.Codec, config):
    """Returns `init(rng, embeddings)`: random layers, codebooks by k-means of their latents."""

    def init(rng, embeddings):
        params_rng, sample_rng, kmeans_rng = jax.random.split(rng, 3)
        params = model.init(params_rng)
        if config.kmeans_items == 0:
            return params
        num_items = min(config.kmeans_items, len(embeddings))
        sample = jax.random.choice(sample_rng, embeddings, (num_items,), replace=False)
        with jax.default_matmul_precision("highest"):
            latents = codec.encode(params, sample)
        codebooks = kmeans.residual_kmeans(
            kmeans_rng,
            latents,
            level_sizes=codec.level_sizes,
            num_init=1,
            max_iterations=config.kmeans_iterations,
            batch_size=0,
            balanced=False,
        )
        return params | {"codebooks": residual.pad(codebooks)}

    return init


def rules(codec: codecs.Codec, config) -> train_step.Rules | None:
    """Returns what gives dead codes a new start, and moves codebooks that learn by averages."""
    decay, reset_every = config.model.codebook_ema, config.reset_every
    if not decay and not reset_every:
        return None

    def reset(params, averages, embeddings, rng):
        sample_rng, reset_rng = jax.random.split(rng)
        num_items = min(_RESET_ITEMS, len(embeddings))
        sample = jax.random.choice(sample_rng, embeddings, (num_items,), replace=False)
        codebooks, is_reset = residual.reset_dead_codes(
            reset_rng, codec.encode(params, sample), codec.codewords(params), codec.distance
        )
        codebooks = residual.pad(codebooks)
        if decay:
            averages = ema.restart(codebooks, averages, residual.pad(is_reset))
        return params | {"codebooks": codebooks}, averages

    def after(params, averages, observed):
        if not decay:
            return params, averages
        codebooks, averages = ema.update(params["codebooks"], averages, observed, decay)
        return params | {"codebooks": codebooks}, averages

    def start(params):
        return ema.start(params["codebooks"]) if decay else None

    return train_step.Rules(start, after, reset, reset_every)
