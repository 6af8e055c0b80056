"""Stage `tokenize`: embeddings to codebooks and one semantic ID for each item.

The export holds `codebooks` [Q, K, C], padded with zeros where levels differ in size, and
`semantic_ids`, [I, Q] or [I, Q + 1] with an extra code, which are all that the next stage reads;
`codes` [I, Q], those nearest to each item, before collisions were resolved; and `state`, the
parameters, for who wants to encode more items.
"""

import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from genrec_jax import checkpoint, checks, files, optimizer, profiling, sharding, train
from genrec_jax import plan as plan_lib
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.quantizers import collisions, health, residual, vector
from genrec_jax.tokenizers import clustering, codecs, neural

COLLISIONS = ("extra_code", "reassign")
_MINIMA = {"seed": 0, "extra_code_size": 0}
_RQVAE_MINIMA = {
    "reset_every": 0,
    "kmeans_items": 0,
    "kmeans_iterations": 1,
    "model.code_dim": 1,
    "model.commitment_weight": 0,
    "model.num_categorical": 0,
}
_SIZES_MINIMA = {"model.num_levels": 1, "model.codebook_size": 1}
_CLUSTERING_MINIMA = {"model.num_init": 1, "model.max_iterations": 1, "model.batch_size": 0}


class Tokenizer(NamedTuple):
    """What the next stage reads of a finished run."""

    semantic_ids: np.ndarray  # [I, Q]
    codebooks: list[np.ndarray]  # of each level that has one, [K, C]
    level_sizes: tuple[int, ...]
    metrics: dict[str, float]  # of its health


def run(config, workdir: pathlib.Path, cache_dir: pathlib.Path | None = None) -> dict[str, float]:
    """Makes a tokenizer, exports its semantic IDs and returns the metrics."""
    started = time.monotonic()
    _check(config)
    cache_dir = cache_dir or workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    is_held_out = _hold_out(corpus.num_items, config.held_out_share, config.seed) | corpus.is_cold
    _check_num_items(config, int((~is_held_out).sum()))
    embeddings = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    sees_interactions = "collaborative" in embedders.split_names(config.embedder.name)
    sees_interactions |= corpus.is_cold.any()  # by the items that it leaves out

    settings = config.to_dict()
    is_neural = config.name in codecs.NEURAL
    mesh = sharding.make_mesh(**(settings["mesh"] if is_neural else {}))
    everything = _on_devices(mesh, embeddings)
    data = _on_devices(mesh, embeddings[~is_held_out]) if is_held_out.any() else everything
    if is_neural:
        model, codec = codecs.NEURAL[config.name](settings["model"], embeddings.shape[1])
    else:
        codec = codecs.from_config(settings, embeddings.shape[1])
    _check_categorical(embeddings, codec.num_categorical)
    if config.collisions == "reassign":
        collisions.check_room(corpus.num_items, codec.level_sizes)
    evaluate = evaluator.Evaluator(codec, everything, is_held_out, mesh)
    if is_neural:
        params, step, metrics = neural.fit(
            config,
            model,
            codec,
            workdir=workdir,
            mesh=mesh,
            data=data,
            data_fingerprint=files.digest(embeddings),
            evaluate=evaluate.run,
        )
    else:
        params, metrics = clustering.fit(config, data)
        step = 0

    assignment = evaluate.assign(params)
    codebooks = evaluate.codewords(params)
    semantic_ids, level_sizes = _unique_ids(config, corpus, codec, assignment, codebooks)
    state = {"params": params, "step": np.int32(step)}
    training = corpus_lib.training_fingerprint(corpus) if sees_interactions else ""
    healthy = export(
        workdir,
        settings,
        corpus,
        state,
        codebooks,
        codes=assignment.codes,
        semantic_ids=semantic_ids,
        level_sizes=level_sizes,
        training=training,
    )
    metrics = corpus_lib.summary(corpus) | metrics | assignment.losses | healthy
    return metrics | {"time/seconds": time.monotonic() - started}


def export(
    workdir: pathlib.Path,
    settings: dict,
    corpus: Corpus,
    state: dict,
    codebooks: Sequence[np.ndarray],
    *,
    codes: np.ndarray,
    semantic_ids: np.ndarray,
    level_sizes: Sequence[int],
    training: str,
) -> dict[str, float]:
    """Exports a tokenizer, see the module's docstring, and returns its health.

    Args:
        workdir: of the run.
        settings: its config.
        corpus: the catalogue.
        state: `params` and `step`.
        codebooks: Q arrays [K, C].
        codes: [I, Q].
        semantic_ids: [I, Q] or [I, Q + 1].
        level_sizes: how many values each code of an ID can have.
        training: the fingerprint of the interactions that it saw, empty for none.
    """
    healthy = health.report(codes, codebooks)
    healthy["tokenizer/unique_after"] = health.unique_share(semantic_ids)
    checkpoint.export(
        workdir,
        {
            "state": state,
            "codebooks": np.asarray(residual.pad(codebooks)),
            "semantic_ids": semantic_ids,
            "codes": codes,
        },
        {
            "config": settings,
            "corpus": corpus_lib.fingerprint(corpus),
            "training": training,
            "item_ids": corpus.item_ids,
            "level_sizes": list(level_sizes),
            "health": healthy,
        },
    )
    return healthy


def plan(config, workdir: pathlib.Path) -> list[plan_lib.Line]:
    """Returns the arrays of training a tokenizer, of configs/rqvae.py or configs/fsq.py."""
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    embeddings = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    model, codec = codecs.NEURAL[config.name](config.model.to_dict(), embeddings.shape[1])
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    rules = neural.rules(codec, config) if config.name == "rqvae" else None
    state = plan_lib.state(model, tx, 0.0, rules)
    return plan_lib.arrays(config, state, split={"embeddings": embeddings}, whole={})


def planned_level_sizes(config) -> tuple[int, ...]:
    """Returns the level sizes of a recommender's IDs, whose tokenizer need not exist yet.

    Of an extra code it takes the last level's size, unless the config gives one.
    """
    if config.tokenizer:
        _, meta = checkpoint.load_export(config.tokenizer, ())
        return tuple(meta["level_sizes"])
    settings = config.tokenizer_config
    sizes = codecs.sizes_of(settings.model.to_dict())
    if settings.collisions == "extra_code":
        sizes += (settings.extra_code_size or sizes[-1],)
    return sizes


def _on_devices(mesh: jax.sharding.Mesh, embeddings: np.ndarray) -> jax.Array:
    return sharding.put(mesh, {"embeddings": embeddings})["embeddings"]


def load_or_make(
    config, corpus: Corpus, workdir: pathlib.Path, cache_dir: pathlib.Path
) -> Tokenizer:
    """Returns what the run `config.tokenizer` exported, or one of `config.tokenizer_config`.

    The latter is made below `workdir`, if it is not there yet.
    """
    directory = config.tokenizer
    if not directory:
        directory, settings = workdir / "tokenizer", config.tokenizer_config
        try:
            workdir_lib.run_once(
                directory,
                settings.to_dict(),
                lambda: run(settings, directory, cache_dir),
            )
        except UserError as error:  # here its settings are below a key of their own
            message = str(error).replace("--config.", "--config.tokenizer_config.")
            raise UserError(message) from error
    arrays, meta = checkpoint.load_export(directory, ("codebooks", "semantic_ids"))
    if meta["corpus"] != corpus_lib.fingerprint(corpus):
        raise UserError(
            f"the tokenizer in {directory} is of another catalogue than this data set: train one "
            "on it, or leave out --config.tokenizer"
        )
    saw = meta.get("training", "")
    if saw != corpus_lib.training_fingerprint(corpus) and (saw or corpus.is_cold.any()):
        raise UserError(
            f"the tokenizer in {directory} saw other interactions than those for training here, "
            "perhaps ones that are to be predicted, or other cold items: train one on this data "
            "set and split, or leave out --config.tokenizer"
        )
    level_sizes = tuple(meta["level_sizes"])
    return Tokenizer(
        arrays["semantic_ids"],
        residual.unpad(arrays["codebooks"], level_sizes),
        level_sizes,
        meta.get("health", {}),  # runs of before do not say
    )


def _unique_ids(config, corpus, codec, assignment, codebooks) -> tuple[np.ndarray, list[int]]:
    """Returns an ID of its own for each item, and how many values each of its codes can have."""
    popularity = corpus_lib.training_counts(corpus)
    level_sizes = list(codec.level_sizes)
    if config.collisions == "reassign":
        ids = collisions.reassign(
            assignment.codes, popularity, assignment.latents, codebooks, distance=codec.distance
        )
        return ids, level_sizes
    ids = collisions.append_extra_code(assignment.codes, popularity, config.extra_code_size)
    return ids, [*level_sizes, config.extra_code_size or int(ids[:, -1].max()) + 1]


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.at_least(config, _MINIMA)
    checks.fraction(config, "held_out_share")
    checks.choice(config, "collisions", COLLISIONS)
    if config.name in codecs.NEURAL:
        checks.at_least(config, train.MINIMA)
        profiling.check(config)
        num_shards = sharding.num_shards(**config.mesh.to_dict())
        batch = config.batch_size, num_shards, config.accumulation
        sharding.check_batch_size("--config.batch_size", *batch)
    else:
        checks.at_least(config, _CLUSTERING_MINIMA)
    if config.name == "product_quantization":
        checks.at_least(config, {"model.num_rotations": 0})
    if config.name == "fsq":
        _check_shapes(config.model.level_shapes)
        return
    checks.at_least(config, _SIZES_MINIMA)
    if any(not isinstance(size, int) or size < 1 for size in config.model.level_sizes):
        raise UserError(
            f"--config.model.level_sizes={config.model.level_sizes} must be whole numbers from 1 "
            "on, or () for --config.model.num_levels levels of one size"
        )
    if config.name == "rqvae":
        _check_rqvae(config)


def _check_rqvae(config) -> None:
    checks.at_least(config, _RQVAE_MINIMA)
    checks.choice(config, "model.residual_gradient", residual.RESIDUAL_GRADIENTS)
    checks.choice(config, "model.estimator", vector.ESTIMATORS)
    checks.choice(config, "model.distance", tuple(vector.DISTANCES))
    checks.choice(config, "model.train_balance", codecs.BALANCES)
    checks.choice(config, "model.assign_balance", codecs.BALANCES)
    checks.fraction(config, "model.codebook_ema")
    for key in ("temperature", "final_temperature"):
        if config.model[key] <= 0:
            raise UserError(f"--config.model.{key}={config.model[key]} must be above 0")
    if config.model.simvq and config.reset_every:
        raise UserError(
            "--config.model.simvq=True moves all codewords of a level together, so none can start "
            "anew: give --config.reset_every=0"
        )
    if config.model.codebook_ema and (config.model.simvq or config.model.estimator == "gumbel"):
        raise UserError(
            f"--config.model.codebook_ema={config.model.codebook_ema} moves codewords by averages, "
            "but simvq and the estimator gumbel teach them by gradients: leave out one of them"
        )
    largest = max(codecs.sizes_of(config.model))
    if 0 < config.kmeans_items < largest:
        raise UserError(
            f"--config.kmeans_items={config.kmeans_items} are fewer than the "
            f"{largest} codes of a level: give more, or 0 for a random start"
        )


def _check_shapes(shapes) -> None:
    is_right = shapes and all(
        isinstance(shape, tuple) and shape and all(isinstance(n, int) and n > 1 for n in shape)
        for shape in shapes
    )
    if not is_right:
        raise UserError(
            f"--config.model.level_shapes={shapes} must be a tuple of whole numbers above 1 for "
            "each level, such as ((8, 8, 4), (8, 8, 4))"
        )


def _check_num_items(config, num_trained: int) -> None:
    if config.name == "fsq":
        return  # its codes are not learnt
    largest = max(codecs.sizes_of(config.model))
    if num_trained < largest:
        key = "level_sizes" if config.model.level_sizes else "codebook_size"
        raise UserError(
            f"{num_trained} items to train on are fewer than the {largest} codes of a level: lower "
            f"--config.model.{key}"
        )


def _check_categorical(embeddings: np.ndarray, num_categorical: int) -> None:
    if num_categorical == 0:
        return
    width = embeddings.shape[1]
    if num_categorical >= width or not np.isin(embeddings[:, -num_categorical:], (0, 1)).all():
        raise UserError(
            f"--config.model.num_categorical={num_categorical}: so many of the {width} columns of "
            "the embeddings, the last ones, must be 0 or 1, and others before them: give such ones "
            "by --config.embedder.name=lsa,categories, or =precomputed with .standardize=False"
        )


def _hold_out(num_items: int, share: float, seed: int) -> np.ndarray:
    """Returns [I] bool: a seeded choice of a share of the items."""
    order = np.random.default_rng(seed).permutation(num_items)
    return order < round(share * num_items)
