"""What all tokenizers are to the rest: pure functions between embeddings, latents and codewords.

However a tokenizer was made, an item's codes are those of residual quantisation of its latent by
the codewords, whose sum is decoded. So an export needs parameters and codebooks, nothing else.

B batch   E embedding width   C latent width   Q levels   K codebook size
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax.models import fsq, layers, rqvae
from genrec_jax.quantizers import residual

BALANCES = ("none", "last", "all")  # levels that choose balanced codes
_PADDED = "codebooks"  # the parameter of clustered codebooks, [Q, K, C]


class Codec(NamedTuple):
    """A tokenizer's functions; `params` are its export's `state["params"]`."""

    encode: Callable[[Any, jax.Array], jax.Array]  # (params, [B, E]) -> [B, C]
    codewords: Callable[[Any], list[jax.Array]]  # params -> Q arrays [K, C]
    decode: Callable[[Any, jax.Array], jax.Array]  # (params, [B, C]) -> [B, E]
    level_sizes: tuple[int, ...]  # K of each level
    distance: str = "euclidean"  # see `vector.DISTANCES`
    balanced_levels: tuple[int, ...] = ()  # see `residual.residual_quantize`
    balanced_rows: int = 0  # among how many consecutive items; 0 for all
    commitment_weight: float = 0.0  # see `losses.quantization`
    num_categorical: int = 0  # see `losses.reconstruction`


def from_config(config: Mapping[str, Any], embedding_dim: int) -> Codec:
    """Returns the codec of a tokenizer's config, as nested dicts."""
    name, settings = config["name"], config["model"]
    if name in NEURAL:
        return NEURAL[name](settings, embedding_dim)[1]
    level_sizes = sizes_of(settings)
    if name == "product_quantization":
        return _clusters(level_sizes, rotates=True)
    balanced = settings["balanced"]
    return _clusters(level_sizes, balanced, balanced_rows=settings["batch_size"])


def sizes_of(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns K of each level."""
    if "level_shapes" in settings:
        return tuple(math.prod(shape) for shape in settings["level_shapes"])
    same = (settings["codebook_size"],) * settings["num_levels"]
    return tuple(settings["level_sizes"]) or same


def balanced_levels(balance: str, num_levels: int) -> tuple[int, ...]:
    """Returns which levels one of `BALANCES` names."""
    first = {"none": num_levels, "last": num_levels - 1, "all": 0}[balance]
    return tuple(range(first, num_levels))


def reconstruct(codec: Codec, params: Any, latents: jax.Array) -> jax.Array:
    """Returns [B, E] of quantised latents [B, C]: what is decoded, as the embeddings were.

    Columns that are 0 or 1 there are the chances of a 1.
    """
    x_hat = codec.decode(params, latents)
    split = x_hat.shape[-1] - codec.num_categorical
    return jnp.concatenate([x_hat[:, :split], jax.nn.sigmoid(x_hat[:, split:])], axis=-1)


def _rqvae(
    settings: Mapping[str, Any], embedding_dim: int, implementation: str = "auto"
) -> tuple[layers.Model, Codec]:
    """`implementation` is how training finds codes, see `residual.nearest_codes`."""
    level_sizes = sizes_of(settings)
    names = (
        "hidden_dims code_dim commitment_weight residual_gradient estimator distance simvq "
        "normalize num_categorical"
    )
    model = rqvae.model(
        embedding_dim=embedding_dim,
        level_sizes=level_sizes,
        learns_codebooks=settings["codebook_ema"] == 0,
        balanced_levels=balanced_levels(settings["train_balance"], len(level_sizes)),
        implementation=implementation,
        **{name: settings[name] for name in names.split()},
    )
    codec = of_model(model, level_sizes)._replace(
        distance=settings["distance"],
        balanced_levels=balanced_levels(settings["assign_balance"], len(level_sizes)),
        commitment_weight=settings["commitment_weight"],
        num_categorical=settings["num_categorical"],
    )
    return model, codec


def _fsq(settings: Mapping[str, Any], embedding_dim: int) -> tuple[layers.Model, Codec]:
    shapes = tuple(map(tuple, settings["level_shapes"]))
    hidden_dims = tuple(settings["hidden_dims"])
    model = fsq.model(embedding_dim=embedding_dim, hidden_dims=hidden_dims, level_shapes=shapes)
    return model, of_model(model, sizes_of(settings))


# The tokenizers that are trained by gradients: (settings, embedding width) -> model and codec.
NEURAL = {"rqvae": _rqvae, "fsq": _fsq}


def of_model(model: layers.Model, level_sizes: tuple[int, ...]) -> Codec:
    """Returns the codec of a module that has the three methods."""
    return Codec(
        lambda params, x: model.bind(params).encode(x),
        lambda params: model.bind(params).codewords(),
        lambda params, latents: model.bind(params).decode(latents),
        level_sizes,
    )


def clustered_params(codebooks: Sequence[jax.Array], rotation: jax.Array | None = None) -> dict:
    """Returns the parameters of a codec whose codebooks, Q arrays [K, C], were clustered."""
    params = {_PADDED: residual.pad(codebooks)}
    return params if rotation is None else params | {"rotation": rotation}


def _clusters(
    level_sizes: tuple[int, ...],
    balanced: bool = False,
    *,
    balanced_rows: int = 0,
    rotates: bool = False,
) -> Codec:
    """Returns a codec whose latents are the embeddings, as they are or rotated."""

    def encode(params, x):
        return jnp.einsum("BE,EC->BC", x, params["rotation"]) if rotates else x

    def decode(params, latents):
        return jnp.einsum("BC,EC->BE", latents, params["rotation"]) if rotates else latents

    return Codec(
        encode,
        lambda params: residual.unpad(params[_PADDED], level_sizes),
        decode,
        level_sizes,
        balanced_levels=balanced_levels("all" if balanced else "none", len(level_sizes)),
        balanced_rows=balanced_rows,
    )
