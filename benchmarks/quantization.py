"""Speed of the tokenizer: quantising, encoding a catalogue.

    python -m benchmarks.quantization [--smoke] [--output=FILE.json]

Shapes are those of configs/rqvae.py:beauty and of a large codebook, all data is random. `xla`
cases are without the accelerator's own kernel; where that is Hopper's, each product counts as the
three of bfloat16 that it is made of. `agreement` in the JSON is the share of items whose codes are
those of float64 distances, or, of the encoder in bfloat16, those of the encoder in float32. What
stands in benchmarks/common.py about counting holds for all benchmarks.

N items   E embedding width   C code width   Q levels   K codebook size
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from benchmarks import common
from configs import rqvae as rqvae_config
from genrec_jax import roofline
from genrec_jax.quantizers import kernels, residual
from genrec_jax.tokenizers import codecs

_COMPARED = 2**14  # items whose codes are compared
SENTENCE_DIM = 768  # of the sentence encoders that TIGER reads, beside the config's own width


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = tokenizer_config(smoke)
    shape, many = code_shape(config), 2**13 if smoke else 2**22
    yield _quantize(shape, many, "auto")
    yield _quantize(shape, many // 4, "xla")
    if not smoke:
        yield _quantize((128, 3, 8_192), 3 * 2**16, "auto")
        yield _quantize((128, 3, 8_192), 2**14, "xla")
    yield _encode(config, 2**10 if smoke else 2**18)
    yield _encode_in_bfloat16(config, 2**10 if smoke else 2**20)


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


def _quantize(shape: tuple[int, int, int], num_items: int, implementation: str) -> common.Case:
    """Latents on the device to codes."""
    width, levels, size = shape
    latents_rng, *rngs = jax.random.split(jax.random.key(0), 1 + levels)
    latents = jax.random.normal(latents_rng, (num_items, width))
    # What is left over becomes smaller from level to level.
    codebooks = [0.8**n * jax.random.normal(rng, (size, width)) for n, rng in enumerate(rngs)]
    quantize = jax.jit(
        lambda latents, codebooks: residual.nearest_codes(
            latents, codebooks, implementation=implementation
        )
    )
    some = latents[:_COMPARED]
    agreement = np.all(quantize(some, codebooks) == codes_in_float64(some, codebooks), axis=1)
    return common.Case(
        f"quantise {width}-d, {levels} x {size}" + (", xla" if implementation == "xla" else ""),
        lambda: quantize(latents, codebooks),
        "items",
        num_items,
        quantize_flops(num_items, width, levels, size, implementation),
        latents.nbytes + 4 * levels * size * width + 4 * num_items * levels,
        {"agreement": float(agreement.mean())},
    )


def codes_in_float64(latents: jax.Array, codebooks: Sequence[jax.Array]) -> np.ndarray:
    """Returns [N, Q]: the codes of squared distances in float64, by the CPU."""
    left, codes = np.asarray(latents, np.float64), []
    for codebook in (np.asarray(codebook, np.float64) for codebook in codebooks):
        chosen = np.argmin((codebook**2).sum(axis=1) - 2 * left @ codebook.T, axis=1)
        codes.append(chosen)
        left = left - codebook[chosen]
    return np.stack(codes, axis=1)


def _encode(config, num_items: int) -> common.Case:
    """Embeddings on the device to codes at full precision, as the IDs that are written."""
    params_rng, embeddings_rng = jax.random.split(jax.random.key(0))
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), SENTENCE_DIM)
    params = jax.jit(model.init)(params_rng)
    embeddings = jax.random.normal(embeddings_rng, (num_items, SENTENCE_DIM))

    @jax.jit
    def assign(params, embeddings):
        with jax.default_matmul_precision("highest"):
            module = model.bind(params)
            latents = module.encode(embeddings)
            return residual.nearest_codes(latents, module.codewords(), implementation="xla")

    return encoding_case(
        f"encode {SENTENCE_DIM}-d, quantise",
        lambda: assign(params, embeddings),
        config,
        embeddings,
        "float32_highest",
        "xla",
        {},
    )


def _encode_in_bfloat16(config, num_items: int) -> common.Case:
    """The fastest way: embeddings and encoder in bfloat16, and the accelerator's own kernel."""
    params_rng, embeddings_rng = jax.random.split(jax.random.key(0))
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), SENTENCE_DIM)
    params = jax.jit(model.init)(params_rng)
    half = params | {
        "encoder": jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params["encoder"])
    }
    embeddings = jax.random.normal(embeddings_rng, (num_items, SENTENCE_DIM), "bfloat16")

    def assign(params, embeddings):
        module = model.bind(params)
        latents = module.encode(embeddings).astype("float32")
        return residual.nearest_codes(latents, module.codewords())

    compiled = jax.jit(assign)
    with jax.default_matmul_precision("highest"):
        some = embeddings[:_COMPARED].astype("float32")
        expected = jax.jit(lambda params, x: assign(params, x))(params, some)
    agreement = np.all(compiled(half, embeddings)[:_COMPARED] == expected, axis=1)
    return encoding_case(
        f"encode {SENTENCE_DIM}-d in bfloat16, quantise",
        lambda: compiled(half, embeddings),
        config,
        embeddings,
        "bfloat16",
        "auto",
        {"agreement": float(agreement.mean())},
    )


def encoding_case(
    name: str,
    call: Callable[[], jax.Array],
    config,
    embeddings: jax.Array,
    precision: str,
    implementation: str,
    facts: dict[str, float],
) -> common.Case:
    """Returns the case of an encoder whose kernels have the type of the embeddings [N, E]."""
    width, levels, size = code_shape(config)
    num_items, embedding_dim = embeddings.shape
    num_weights = sum(kernel_sizes(encoder_dims(config, embedding_dim)))
    read = embeddings.nbytes + embeddings.dtype.itemsize * num_weights + 4 * levels * size * width
    return common.Case(
        name,
        call,
        "items",
        num_items,
        roofline.add_flops(
            {precision: 2 * num_items * num_weights},
            quantize_flops(num_items, width, levels, size, implementation),
        ),
        read + 4 * num_items * levels,
        facts,
    )


def quantize_flops(
    num_items: int, width: int, levels: int, size: int, implementation: str
) -> dict[str, int]:
    """Returns those of the products of latents and codewords."""
    flops = 2 * num_items * levels * size * width
    if implementation == "auto" and kernels.is_hopper():
        return {"bfloat16": 3 * flops}
    return {"float32_highest": flops}


def code_shape(config) -> tuple[int, int, int]:
    return config.model.code_dim, config.model.num_levels, config.model.codebook_size


def encoder_dims(config, embedding_dim: int) -> tuple[int, ...]:
    return (embedding_dim, *config.model.hidden_dims, config.model.code_dim)


def kernel_sizes(dims: tuple[int, ...]) -> list[int]:
    """Returns the sizes of the kernels between layers of these widths."""
    return [n_in * n_out for n_in, n_out in itertools.pairwise(dims)]


if __name__ == "__main__":
    common.main("quantization", cases)
