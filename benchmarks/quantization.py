"""Speed of the tokenizer: quantising, encoding a catalogue.

    python -m benchmarks.quantization [--smoke] [--output=FILE.json]

Shapes are those of configs/rqvae.py:beauty, all data is random. What stands in
benchmarks/common.py about counting holds for all benchmarks.

N items   E embedding width   C code width   Q levels   K codebook size
"""

import itertools
from collections.abc import Iterator

import jax

from benchmarks import common
from configs import rqvae as rqvae_config
from genrec_jax.quantizers import residual
from genrec_jax.tokenizers import codecs

SENTENCE_DIM = 768  # of the sentence encoders that TIGER reads, beside the config's own width


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = tokenizer_config(smoke)
    yield _quantize(config, 2**13 if smoke else 2**20)
    yield _encode(config, 2**10 if smoke else 2**18)


def tokenizer_config(smoke: bool):
    """Returns the settings of configs/rqvae.py:beauty, with small shapes if `smoke`."""
    config = rqvae_config.get_config("beauty")
    if smoke:
        config.model.hidden_dims = (64, 32, 16)
        config.model.code_dim = 8
        config.model.codebook_size = 16
        config.batch_size = 64
        config.steps_per_call = 5
    return config


def _quantize(config, num_items: int) -> common.Case:
    """Latents on the device to codes."""
    width, levels, size = code_shape(config)
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
    width, levels, size = code_shape(config)
    params_rng, embeddings_rng = jax.random.split(jax.random.key(0))
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), SENTENCE_DIM)
    params = jax.jit(model.init)(params_rng)
    embeddings = jax.random.normal(embeddings_rng, (num_items, SENTENCE_DIM))

    @jax.jit
    def assign(params, embeddings):
        with jax.default_matmul_precision("highest"):
            module = model.bind(params)
            latents = module.encode(embeddings)
            return residual.residual_quantize(latents, module.codewords()).ids

    dims = encoder_dims(config, SENTENCE_DIM)
    read = embeddings.nbytes + 4 * (sum(kernel_sizes(dims)) + levels * size * width)
    return common.Case(
        f"encode {SENTENCE_DIM}-d, quantise",
        lambda: assign(params, embeddings),
        "items",
        num_items,
        common.add_flops(
            {"float32_highest": 2 * num_items * sum(kernel_sizes(dims))},
            quantize_flops(num_items, width, levels, size),
        ),
        read + 4 * num_items * levels,
        {},
    )


def quantize_flops(num_items: int, width: int, levels: int, size: int) -> dict[str, int]:
    """Returns those of the products of latents and codewords.

    They have no gradient: a code is a choice, and the losses' gradients need no products.
    """
    return {"float32_highest": 2 * num_items * levels * size * width}


def code_shape(config) -> tuple[int, int, int]:
    return config.model.code_dim, config.model.num_levels, config.model.codebook_size


def encoder_dims(config, embedding_dim: int) -> tuple[int, ...]:
    return (embedding_dim, *config.model.hidden_dims, config.model.code_dim)


def kernel_sizes(dims: tuple[int, ...]) -> list[int]:
    """Returns the sizes of the kernels between layers of these widths."""
    return [n_in * n_out for n_in, n_out in itertools.pairwise(dims)]


if __name__ == "__main__":
    common.main("quantization", cases)
