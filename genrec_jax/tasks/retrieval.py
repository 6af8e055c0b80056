"""Stage `retrieve`: histories as semantic IDs to a model that generates the next item's ID.

Of a tokenizer's run it reads `codebooks` and `semantic_ids`, nothing else. The export holds what
a recommender needs: `state`, the parameters that validation selected, and `semantic_ids`.
"""

import pathlib
import time

import jax
import numpy as np

from genrec_jax import checkpoint, checks, files, optimizer, sharding, train
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, histories
from genrec_jax.data.corpus import Corpus, Samples
from genrec_jax.decoding import prefix_index
from genrec_jax.errors import UserError
from genrec_jax.evaluators import baselines
from genrec_jax.evaluators import retrieval as evaluator
from genrec_jax.models import encoder_decoder, layers
from genrec_jax.quantizers import residual
from genrec_jax.tasks import tokenizer as tokenizer_task

_DTYPES = ("auto", "float32", "bfloat16")
_MINIMA = {
    "seed": 0,
    "max_history": 1,
    "patience": 0,
    "num_examples": 0,
    "eval.max_users": 0,
    "model.embedding_dim": 1,
    "model.dim": 1,
    "model.num_heads": 1,
    "model.head_dim": 1,
    "model.hidden_dim": 1,
    "model.num_encoder_layers": 1,
    "model.num_decoder_layers": 1,
    "model.num_user_bins": 0,
} | train.MINIMA
_SAMPLES = {
    "prefixes": corpus_lib.training_samples,
    "subsequences": corpus_lib.whole_training_samples,
}
_PROTOCOLS = {"": False, "_new": True}  # suffix of the split -> is the history excluded
_EXAMPLES = "test", "_new"  # what examples.json shows


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Trains the encoder-decoder, exports it and returns the metrics."""
    started = time.monotonic()
    _check(config)
    cache_dir = pathlib.Path(config.cache_dir or workdir / "cache")
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    tokenizer = _tokenizer(config, corpus, workdir, cache_dir)
    semantic_ids = tokenizer["semantic_ids"]
    training = _SAMPLES[config.samples](corpus)
    held_out = {
        split: corpus_lib.choose_samples(
            corpus_lib.held_out_samples(corpus, split), config.eval.max_users, config.seed
        )
        for split in ("valid", "test")
    }
    sizes = {"train": len(training)} | {split: len(part) for split, part in held_out.items()}
    if not all(sizes.values()):
        raise UserError(
            f"no samples in {', '.join(name for name, size in sizes.items() if not size)}: this "
            f"data set's histories are too few or too short for --config.data.split="
            f"{config.data.split}"
        )

    mesh = sharding.make_mesh()
    data = {"items": corpus.items, "semantic_ids": semantic_ids, "samples": training}
    interactions = corpus_lib.interactions_fingerprint(corpus)
    data = sharding.replicate(mesh, data)
    model = encoder_decoder.from_config(config.to_dict(), tokenizer["level_sizes"])
    tx, schedule = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    is_unseen = corpus_lib.training_counts(corpus) == 0
    unseen_index = None
    if config.eval.unseen_share and is_unseen.any():
        unseen_index = prefix_index.build(semantic_ids, is_unseen)
    evaluate = evaluator.Evaluator(
        model,
        mesh,
        data,
        *sharding.replicate(mesh, (prefix_index.build(semantic_ids), unseen_index)),
        unseen_share=config.eval.unseen_share,
        max_history=config.max_history,
        longest_history=max(int((part.target - part.start).max()) for part in held_out.values()),
        num_beams=config.eval.num_beams,
        batch_size=config.eval.batch_size,
    )

    def recommend_and_score(params, split: str, protocol: str):
        samples = held_out[split]
        items, _ = evaluate.recommend(params, samples, exclude_history=_PROTOCOLS[protocol])
        return items, _score(items, corpus, samples, split, protocol)

    result = train.fit(
        name="retrieval",
        workdir=workdir,
        mesh=mesh,
        init=_init_fn(model, tokenizer["codebooks"] if config.tokens_from_codebooks else None),
        loss_fn=loss_fn(model, config.max_history, config.samples == "subsequences"),
        tx=tx,
        schedule=schedule,
        data=data,
        data_fingerprint=f"{interactions} {files.digest(semantic_ids)}",
        num_samples=len(training),
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
        rules=None,
        num_steps=config.num_steps,
        steps_per_call=config.steps_per_call,
        eval_every=config.eval_every,
        evaluate=lambda params: recommend_and_score(params, "valid", "")[1],
        headline=("valid/recall@10", "valid/ndcg@10"),
        select="valid/ndcg@10",
        patience=config.patience,
        seed=config.seed,
    )

    metrics = corpus_lib.summary(corpus) | tokenizer["metrics"] | result.metrics
    metrics["train/best_step"] = result.step
    metrics["model/num_parameters"] = sum(leaf.size for leaf in jax.tree.leaves(result.params))
    for split in held_out:
        for protocol in _PROTOCOLS:
            items, scores = recommend_and_score(result.params, split, protocol)
            metrics |= scores
            if (split, protocol) == _EXAMPLES:
                shown = config.max_history, config.num_examples
                _write_examples(workdir, corpus, held_out[split], items, *shown)
    checkpoint.export(
        workdir,
        {
            "state": {"params": result.params, "step": np.int32(result.step)},
            "semantic_ids": semantic_ids,
        },
        {
            "config": config.to_dict(),
            "corpus": corpus_lib.fingerprint(corpus),
            "interactions": interactions,
            "item_ids": corpus.item_ids,
            "titles": corpus.titles,
            "unseen_items": np.flatnonzero(is_unseen).tolist(),
            "level_sizes": tokenizer["level_sizes"],
        },
    )
    metrics |= _baselines(corpus, held_out["test"])
    return metrics | {"time/seconds": time.monotonic() - started}


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.choice(config, "dtype", _DTYPES)
    checks.choice(config, "samples", tuple(_SAMPLES))
    checks.choice(config, "model.activation", tuple(layers.ACTIVATIONS))
    checks.choice(config, "model.positions", encoder_decoder.POSITIONS)
    checks.at_least(config, _MINIMA)
    checks.fraction(config, "model.dropout", "ema_decay", "eval.unseen_share")
    for name, batch_size, parts in (
        ("--config.batch_size", config.batch_size, config.accumulation),
        ("--config.eval.batch_size", config.eval.batch_size, 1),
    ):
        sharding.check_batch_size(name, batch_size, parts)
    if config.eval.num_beams < max(evaluator.CUTOFFS):
        raise UserError(
            f"--config.eval.num_beams={config.eval.num_beams} cannot fill the "
            f"{max(evaluator.CUTOFFS)} places that are evaluated: give at least so many"
        )


def _tokenizer(config, corpus: Corpus, workdir: pathlib.Path, cache_dir: pathlib.Path) -> dict:
    """Returns what a tokenizer's run exported, after making one if the config names none."""
    directory = config.tokenizer
    if not directory:
        directory, settings = workdir / "tokenizer", config.tokenizer_config
        try:
            workdir_lib.run_once(
                directory,
                settings.to_dict(),
                lambda: tokenizer_task.run(settings, directory, cache_dir),
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
    codebooks = residual.unpad(arrays["codebooks"], level_sizes)
    return {
        "semantic_ids": arrays["semantic_ids"],
        "codebooks": codebooks,
        "level_sizes": level_sizes,
        "metrics": meta.get("health", {}),  # runs of before do not say
    }


def _init_fn(model, codebooks: list[np.ndarray] | None):
    def init(rng, data):
        params_rng, tokens_rng = jax.random.split(rng)
        params = model.init(params_rng)
        if codebooks is not None:
            params = encoder_decoder.with_codebook_tokens(params, codebooks, tokens_rng)
        return params

    return init


def loss_fn(model, max_history: int, draw_subsequences: bool) -> train.LossFn:
    """Returns the loss of a batch of samples: the sum of the levels' means over it."""

    def batch_loss(params, data, indices, step, rng):
        samples = data["samples"].take(indices)
        if draw_subsequences:
            rng, draw_rng = jax.random.split(rng)
            start, target = histories.draw_subsequences(
                draw_rng, samples.start, samples.target, max_history
            )
            samples = Samples(samples.user, start, target)
        items, mask = histories.gather(data["items"], samples.start, samples.target, max_history)
        losses = model.bind(params).losses(
            data["semantic_ids"][items],
            mask,
            data["semantic_ids"][data["items"][samples.target]],
            samples.user,
            rng,
        )
        levels = losses.mean(axis=0)  # [Q]
        metrics = {f"level_{level}_loss": loss for level, loss in enumerate(levels)}
        return levels.sum(), (metrics, None)

    return batch_loss


def _score(
    items: np.ndarray, corpus: Corpus, samples: Samples, split: str, protocol: str
) -> dict[str, float]:
    """Returns the metrics of items [S, W]; those of the test also for its cold targets alone."""
    targets = corpus.items[samples.target]
    scores = evaluator.score(items, targets, split + protocol)
    is_cold = corpus.is_cold[targets]
    if split.endswith("test") and is_cold.any():
        prefix = f"{split}_cold{protocol}"
        scores |= evaluator.score(items[is_cold], targets[is_cold], prefix)
    return scores


def _baselines(corpus: Corpus, samples: Samples) -> dict[str, float]:
    metrics = {}
    for name in baselines.NAMES:
        scorer = baselines.scorer(name, corpus)
        if scorer is None:
            continue
        for protocol, exclude in _PROTOCOLS.items():
            items, _ = baselines.recommend(
                scorer, corpus, samples, max(evaluator.CUTOFFS), exclude_history=exclude
            )
            metrics |= _score(items, corpus, samples, f"baseline/{name}/test", protocol)
    return metrics


def _write_examples(
    workdir, corpus: Corpus, samples: Samples, items, max_history: int, num_examples: int
) -> None:
    """Writes examples.json: what the model reads of a few users, target, recommended, by title."""
    chosen = np.linspace(0, len(samples) - 1, min(num_examples, len(samples)), dtype=int)
    examples = []
    for row in chosen:
        history = corpus.items[samples.start[row] : samples.target[row]][-max_history:]
        best = [item for item in items[row, :10] if item >= 0]
        examples.append(
            {
                "user_id": corpus.user_ids[samples.user[row]],
                "history": [corpus.titles[item] for item in history],
                "target": corpus.titles[corpus.items[samples.target[row]]],
                "recommended": [corpus.titles[item] for item in best],
            }
        )
    files.write_json(pathlib.Path(workdir) / "examples.json", examples)
