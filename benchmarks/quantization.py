"""Speed of the tokenizer: quantising, encoding a catalogue, training.

    python -m benchmarks.quantization [--smoke] [--output=FILE.json]

Shapes are those of configs/rqvae.py:beauty, all data is random. What stands in
benchmarks/common.py about counting holds for all benchmarks.

N items   E embedding width   C code width   Q levels   K codebook size
"""

import itertools
from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import common
from configs import rqvae as rqvae_config
from genrec_jax import optimizer
from genrec_jax.quantizers import residual
from genrec_jax.tokenizers import codecs, neural

_SENTENCE_DIM = 768  # of the sentence encoders that TIGER reads, beside the config's own width


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = rqvae_config.get_config("beauty")
    if smoke:
        config.model.hidden_dims = (64, 32, 16)
        config.model.code_dim = 8
        config.model.codebook_size = 16
        config.batch_size = 64
        config.steps_per_call = 5
    yield _quantize(config, 2**13 if smoke else 2**20)
    yield _encode(config, 2**10 if smoke else 2**18)
    widths = config.embedder
    own_dim = widths.dim + widths.remainder_dim + widths.collaborative_dim
    for embedding_dim in (own_dim, _SENTENCE_DIM):
        yield _train(config, embedding_dim, num_items=1_000 if smoke else 12_101)


def _quantize(config, num_items: int) -> common.Case:
    """Latents on the device to codes."""
    width, levels, size = _code_shape(config)
    latents_rng, codebooks_rng = jax.random.split(jax.random.key(0))
    latents = jax.random.normal(latents_rng, (num_items, width))
    codebooks = jax.random.normal(codebooks_rng, (levels, size, width))
    quantize = jax.jit(
        lambda latents, codebooks: residual.residual_quantize(latents, codebooks).ids
    )
    return common.Case(
        f"quantise {width}-d, {levels} x {size}",
        lambda: quantize(latents, codebooks),
        "items",
        num_items,
        quantize_flops(num_items, width, levels, size),
        latents.nbytes + codebooks.nbytes + 4 * num_items * levels,
        {},
    )


def _encode(config, num_items: int) -> common.Case:
    """Embeddings on the device to codes at full precision, as the IDs that are written."""
    width, levels, size = _code_shape(config)
    params_rng, embeddings_rng = jax.random.split(jax.random.key(0))
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), _SENTENCE_DIM)
    params = jax.jit(model.init)(params_rng)
    embeddings = jax.random.normal(embeddings_rng, (num_items, _SENTENCE_DIM))

    @jax.jit
    def assign(params, embeddings):
        with jax.default_matmul_precision("highest"):
            module = model.bind(params)
            latents = module.encode(embeddings)
            return residual.residual_quantize(latents, module.codewords()).ids

    dims = _encoder_dims(config, _SENTENCE_DIM)
    read = embeddings.nbytes + 4 * (sum(_products(dims)) + levels * size * width)
    return common.Case(
        f"encode {_SENTENCE_DIM}-d, quantise",
        lambda: assign(params, embeddings),
        "items",
        num_items,
        common.add_flops(
            {"float32_highest": 2 * num_items * sum(_products(dims))},
            quantize_flops(num_items, width, levels, size),
        ),
        read + 4 * num_items * levels,
        {},
    )


def _train(config, embedding_dim: int, num_items: int) -> common.Case:
    """A superbatch of training, without the new start of dead codes, which is rare."""
    width, levels, size = _code_shape(config)
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), embedding_dim)
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    embeddings = np.random.default_rng(0).standard_normal((num_items, embedding_dim), np.float32)
    return common.training_case(
        f"train on {embedding_dim}-d",
        loss_fn=neural.loss_fn(model),
        init=model.init,
        tx=tx,
        data=embeddings,
        num_samples=num_items,
        batch_size=config.batch_size,
        num_steps=config.steps_per_call,
        ema_decay=0.0,
        flops=common.add_flops(
            training_flops(config.batch_size, _encoder_dims(config, embedding_dim)),
            quantize_flops(config.batch_size, width, levels, size),
        ),
        bytes_read=4 * config.batch_size * embedding_dim,
        facts={"num_items": num_items},
    )


def quantize_flops(num_items: int, width: int, levels: int, size: int) -> dict[str, int]:
    """Returns those of the products of latents and codewords.

    They have no gradient: a code is a choice, and the losses' gradients need no products.
    """
    return {"float32_highest": 2 * num_items * levels * size * width}


def training_flops(batch_size: int, dims: tuple[int, ...]) -> dict[str, int]:
    """Returns those of the encoder with these widths and of the decoder, its mirror image.

    A layer's gradients, by its kernel and by its input, take as many as the layer; the first
    layer's input needs none.
    """
    products = _products(dims)
    return {"float32": 2 * batch_size * (3 * 2 * sum(products) - products[0])}


def _code_shape(config) -> tuple[int, int, int]:
    return config.model.code_dim, config.model.num_levels, config.model.codebook_size


def _encoder_dims(config, embedding_dim: int) -> tuple[int, ...]:
    return (embedding_dim, *config.model.hidden_dims, config.model.code_dim)


def _products(dims: tuple[int, ...]) -> list[int]:
    """Returns the sizes of the kernels between layers of these widths."""
    return [n_in * n_out for n_in, n_out in itertools.pairwise(dims)]


if __name__ == "__main__":
    common.main("quantization", cases)
