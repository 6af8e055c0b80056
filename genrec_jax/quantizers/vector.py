"""Vector quantisation, one level: distances, the nearest codeword, and how gradients pass.

B batch   K codebook size   C code width
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax.lookup import take_rows
from genrec_jax.quantizers import sinkhorn

# Of balanced choices. A smaller epsilon would need more iterations to be nearer to the optimum.
_EPSILON = 0.5
_SINKHORN_ITERATIONS = 50


class Level(NamedTuple):
    """What one level makes of its input."""

    output: jax.Array  # [B, C] the codewords, with the estimator's gradients
    ids: jax.Array  # [B] int32
    codewords: jax.Array  # [B, C] what the losses compare the input with


@jax.named_scope("distances")
def squared_distances(x: jax.Array, codebook: jax.Array) -> jax.Array:
    """Returns [B, K] squared Euclidean distances between x [B, C] and codebook [K, C].

    In full precision on every device: with TF32 or bfloat16 products one code in a hundred flips.
    """
    products = jnp.einsum("BC,KC->BK", x, codebook, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(x**2, axis=-1)[:, None] + jnp.sum(codebook**2, axis=-1) - 2 * products


@jax.named_scope("distances")
def cosine_distances(x: jax.Array, codebook: jax.Array) -> jax.Array:
    """Returns [B, K] negative cosines between x [B, C] and codebook [K, C]; 0 has none but 0."""
    x, codebook = unit_length(x), unit_length(codebook)
    return -jnp.einsum("BC,KC->BK", x, codebook, precision=jax.lax.Precision.HIGHEST)


DISTANCES = {"euclidean": squared_distances, "cosine": cosine_distances}
ESTIMATORS = ("straight_through", "rotation", "gumbel")


@jax.named_scope("argmin")
def choose(distances: jax.Array, balanced: bool = False) -> jax.Array:
    """Returns [B] int32: a code for each row of distances [B, K].

    The nearest, ties to the lowest; or, `balanced`, such that every code gets an equal share of the
    rows, see `sinkhorn.balanced_assignment`.
    """
    if balanced:
        return sinkhorn.balanced_assignment(distances, _EPSILON, _SINKHORN_ITERATIONS)
    # argmin, but for NaN; XLA's own is a loop without vector instructions on CPUs.
    is_least = distances == jnp.min(distances, axis=-1, keepdims=True)
    last = distances.shape[-1] - 1
    return jnp.min(jnp.where(is_least, jnp.arange(last + 1, dtype=jnp.int32), last), axis=-1)


def nearest_codeword(x: jax.Array, codebook: jax.Array, distance: str = "euclidean") -> jax.Array:
    """Returns [B] int32: which row of codebook [K, C] is nearest to each row of x [B, C].

    Ties go to the lowest index.
    """
    return choose(DISTANCES[distance](x, codebook))


def effective_codebook(
    codebook: jax.Array, projection: jax.Array | None = None, normalize: bool = False
) -> jax.Array:
    """Returns the codewords [K, C] that a trained table [K, C] stands for.

    Args:
        codebook: the table.
        projection: [C, C], which all codewords share, so that those that no item chooses move
            with the others (SimVQ: Zhu et al., 2024).
        normalize: to length 1.
    """
    if projection is not None:
        codebook = jnp.einsum("KC,CD->KD", codebook, projection, precision="highest")
    return unit_length(codebook) if normalize else codebook


def quantize(
    x: jax.Array,
    codebook: jax.Array,
    *,
    estimator: str = "straight_through",
    distance: str = "euclidean",
    temperature: float | jax.Array = 1.0,
    uniform: jax.Array | None = None,
    balanced: bool = False,
) -> Level:
    """Returns the nearest codewords, so that x [B, C] learns from what is made of them.

    Args:
        x: [B, C].
        codebook: [K, C] effective codewords.
        estimator: how gradients pass. `straight_through`: unchanged. `rotation`: turned and scaled
            as x would be to become its codeword, see `rotate`. `gumbel`: exactly, because the
            output is a mean of all codewords, see `gumbel_softmax`; the codeword with `uniform`
            left out, as in evaluation.
        distance: a key of `DISTANCES`.
        temperature: of `gumbel`.
        uniform: [B, K] draws from [0, 1), for `gumbel` alone.
        balanced: see `choose`.
    """
    distances = DISTANCES[distance](x, codebook)
    ids = choose(distances, balanced)
    if estimator == "gumbel":
        mean = jnp.einsum(
            "BK,KC->BC",
            gumbel_softmax(-distances, uniform, temperature),
            codebook,
            precision=jax.lax.Precision.HIGHEST,
        )
        return Level(mean, ids, mean)
    with jax.named_scope("lookup"):
        codewords = take_rows(codebook, ids)
    return Level(pass_gradients(x, codewords, estimator), ids, codewords)


def pass_gradients(x: jax.Array, x_q: jax.Array, estimator: str) -> jax.Array:
    """Returns `x_q`, through which `x` learns: `straight_through` or `rotation`."""
    return rotate(x, x_q) if estimator == "rotation" else straight_through(x, x_q)


def straight_through(x: jax.Array, x_q: jax.Array) -> jax.Array:
    """Returns exactly `x_q`; gradients pass to `x` unchanged (Bengio et al., 2013)."""
    return jax.lax.stop_gradient(x_q) + (x - jax.lax.stop_gradient(x))


def rotate(x: jax.Array, x_q: jax.Array) -> jax.Array:
    """Returns `x_q`, but for 1e-6 of it: `x` times a matrix that the gradient takes as given.

    The rotation trick (Fifty et al., 2024, section 4.2): with unit vectors u of x [B, C] and v of
    x_q [B, C] and r that of u + v, R x = x - 2 r (r·x) + 2 v (u·x), times |x_q| / |x|.
    """
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    length_q = jnp.linalg.norm(x_q, axis=-1, keepdims=True)
    u, v = x / (length + 1e-8), x_q / (length_q + 1e-8)
    r = (u + v) / jnp.maximum(jnp.linalg.norm(u + v, axis=-1, keepdims=True), 1e-6)
    u, v, r, scale = jax.lax.stop_gradient((u, v, r, length_q / (length + 1e-6)))

    def product(left, right):
        return jnp.sum(left * right, axis=-1, keepdims=True)

    return scale * (x - 2 * r * product(r, x) + 2 * v * product(u, x))


def gumbel_softmax(
    logits: jax.Array, uniform: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Returns [B, K] weights, near one-hot at a low temperature (Jang et al., 2017)."""
    noise = -jnp.log(-jnp.log(uniform + 1e-20) + 1e-20)
    return jax.nn.softmax((logits + noise) / temperature, axis=-1)


def unit_length(x: jax.Array) -> jax.Array:
    """Returns the rows of x [..., C] scaled to length 1; a row of zeros stays."""
    # The square root's gradient at 0 is not finite, so 0 does not reach it.
    squared = jnp.sum(x**2, axis=-1, keepdims=True)
    is_zero = squared == 0
    return jnp.where(is_zero, x, x / jnp.maximum(jnp.sqrt(jnp.where(is_zero, 1, squared)), 1e-12))
