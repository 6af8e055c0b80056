"""Stage `from_pytorch`: checkpoints of RQ-VAE-Recommender to runs that all other stages read.

An RQ-VAE alone becomes a tokenizer's run. A decoder becomes a retrieval run, with the RQ-VAE, if
that is given, in its folder `tokenizer`.

The original's decoder reads and generates the codes without the one that tells colliding items
apart. So does the run's model, whose IDs have that code nevertheless, see `searchers.of_generator`.
"""

import pathlib
import time

import jax
import numpy as np

from genrec_jax import checks, ranking, sharding
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.interop import pytorch
from genrec_jax.quantizers import collisions, vector
from genrec_jax.tasks import tokenizer as tokenizer_task
from genrec_jax.tokenizers import codecs

# What an RQ-VAE's weights do not tell: as the config says, or else the file, if it does.
_FROM_CONFIG = ("normalize", "num_categorical", "commitment_weight", "estimator")
_LEAST_SAME = 0.9  # of the items: their codes by the RQ-VAE are those that the decoder knows


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the runs and returns counts, and the tokenizer's health."""
    started = time.monotonic()
    _check(config)
    rqvae_file = pytorch.read(config.rqvae) if config.rqvae else None
    decoder_file = pytorch.read(config.decoder) if config.decoder else None
    rqvae = rqvae_file and pytorch.rqvae(rqvae_file)
    decoder = decoder_file and pytorch.decoder(decoder_file)
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    codes = None if decoder is None else decoder.codes
    if codes is not None and len(codes) != corpus.num_items:
        raise UserError(
            f"{config.decoder} knows the codes of {len(codes)} items, but this data set has "
            f"{corpus.num_items}: give the one that it was trained on, in the original's order"
        )

    metrics = corpus_lib.summary(corpus)
    settings = config.retrieval.to_dict()
    if rqvae is not None:
        if decoder is not None:
            _check_same_sizes(config, rqvae, decoder)
        settings["tokenizer_config"] = _tokenizer_settings(config, rqvae_file, rqvae)
        embeddings = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
        codes, converted = _write_tokenizer(
            config,
            settings["tokenizer_config"],
            workdir if decoder is None else workdir / "tokenizer",
            corpus,
            embeddings,
            {"params": rqvae.params, "step": np.int32(rqvae_file.step)},
            codes,
        )
        metrics |= converted
    if decoder is not None:
        settings["model"] = decoder.model | {"dropout": config.dropout}
        state = {"params": decoder.params, "step": np.int32(decoder_file.step)}
        _write_retrieval(config, settings, workdir, corpus, state, codes, decoder.level_sizes)
        sizes = [leaf.size for leaf in jax.tree.leaves(decoder.params)]
        metrics["model/num_parameters"] = sum(sizes)
    return metrics | {"time/seconds": time.monotonic() - started}


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    if not config.rqvae and not config.decoder:
        raise UserError(
            "no --config.rqvae and no --config.decoder: give a checkpoint of RQ-VAE-Recommender"
        )
    checks.at_least(config, {"extra_code_size": 0, "first_user": 0, "retrieval.max_history": 1})
    checks.fraction(config, "dropout")
    if config.estimator is not None:
        checks.choice(config, "estimator", vector.ESTIMATORS)
    for key in ("num_categorical", "commitment_weight"):
        if config[key] is not None:
            checks.at_least(config, {key: 0})


def _check_same_sizes(config, rqvae: pytorch.RQVAE, decoder: pytorch.Decoder) -> None:
    sizes = (rqvae.model["codebook_size"],) * rqvae.model["num_levels"]
    if sizes != decoder.level_sizes:
        raise UserError(
            f"{config.rqvae} has levels of {sizes} codes, {config.decoder} of "
            f"{decoder.level_sizes}: give the RQ-VAE that the decoder was trained with"
        )


def _tokenizer_settings(config, file: pytorch.Checkpoint, rqvae: pytorch.RQVAE) -> dict:
    """Returns the config of the tokenizer's run."""
    settings = config.retrieval.tokenizer_config.to_dict()
    given = {name: config[name] for name in _FROM_CONFIG if config[name] is not None}
    settings["model"] |= rqvae.model | {"level_sizes": ()} | file.settings | given
    return settings | {"collisions": "extra_code", "extra_code_size": config.extra_code_size}


def _write_tokenizer(
    config,
    settings: dict,
    directory: pathlib.Path,
    corpus: Corpus,
    embeddings: np.ndarray,
    state: dict,
    known: np.ndarray | None,
) -> tuple[np.ndarray, dict[str, float]]:
    """Writes the run of an RQ-VAE.

    Args:
        config: the task's.
        settings: the config of the tokenizer's run.
        directory: of that.
        corpus: the catalogue.
        embeddings: [I, E] of it.
        state: `params` and `step`.
        known: [I, Q] int32 the codes that a decoder was trained with, which the run then gets;
            None for those of the RQ-VAE.

    Returns:
        The run's codes [I, Q], and metrics.
    """
    params = state["params"]
    width = len(params["encoder"]["layers"][0]["kernel"])
    if embeddings.shape[1] != width:
        raise UserError(
            f"{config.rqvae} reads embeddings of width {width}, these have {embeddings.shape[1]}: "
            "give the original's by --config.embedder.path"
        )
    codec = codecs.from_config(settings, width)
    mesh = sharding.make_mesh()
    rows = sharding.put(mesh, {"embeddings": embeddings})["embeddings"]
    evaluate = evaluator.Evaluator(codec, rows, np.zeros(len(embeddings), bool), mesh)
    codes, _, metrics = evaluate.assign(params)
    if known is not None:
        # Few others are to be expected: the original's products on GPUs are of fewer digits.
        same = float((known == codes).all(axis=1).mean())
        if same < _LEAST_SAME:
            raise UserError(
                f"{config.rqvae} gives {same:.1%} of the items the codes that {config.decoder} "
                "knows: give the embeddings and the RQ-VAE that it was trained with, or leave out "
                "--config.rqvae"
            )
        metrics["tokenizer/same_codes_as_decoder"] = same
        codes = known
    semantic_ids, level_sizes = _unique_ids(config, codes, codec.level_sizes)
    metrics |= tokenizer_task.export(
        directory,
        settings,
        corpus,
        state,
        evaluate.codewords(params),
        codes=codes,
        semantic_ids=semantic_ids,
        level_sizes=level_sizes,
        training="",
    )
    return codes, metrics


def _write_retrieval(
    config,
    settings: dict,
    workdir: pathlib.Path,
    corpus: Corpus,
    state: dict,
    codes: np.ndarray | None,
    level_sizes: tuple[int, ...],
) -> None:
    """Writes the run of a decoder for items with these codes [I, Q]."""
    if codes is None:
        raise UserError(
            f"{config.decoder} does not have the codes of the items (codebooks): give "
            "--config.rqvae too, with the embeddings that it was trained on"
        )
    semantic_ids, _ = _unique_ids(config, codes, level_sizes)
    ranking.export(
        workdir,
        settings,
        corpus,
        corpus_lib.training_counts(corpus) == 0,
        {"state": state, "semantic_ids": semantic_ids},
        {"level_sizes": list(level_sizes), "first_user": config.first_user},
    )


def _unique_ids(config, codes: np.ndarray, level_sizes) -> tuple[np.ndarray, list[int]]:
    """Returns the original's IDs [I, Q + 1], and how many values each code can have.

    Items with equal codes are numbered in the order of the catalogue, as the original does.
    """
    equal = np.zeros(len(codes))
    ids = collisions.append_extra_code(codes, equal, config.extra_code_size)
    return ids, [*level_sizes, config.extra_code_size or int(ids[:, -1].max()) + 1]
