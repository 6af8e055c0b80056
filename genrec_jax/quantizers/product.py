"""Product quantisation: each level codes dimensions of its own, after a rotation that is learnt.

N vectors   C width   Q levels, each with K_q codes and C_q dimensions
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.errors import UserError
from genrec_jax.quantizers import kmeans


def product_quantization(
    rng: jax.Array,
    x: jax.Array,
    level_sizes: tuple[int, ...],
    *,
    num_rotations: int,
    num_init: int,
    max_iterations: int,
    batch_size: int,
) -> tuple[jax.Array, list[jax.Array]]:
    """Returns a rotation and codebooks, level by level of the rotated vectors' dimensions.

    Jégou et al., 2011: the dimensions are cut into Q runs, as equally long as they can be, and
    k-means clusters each by itself. So if they come with falling variances, as those of a PCA, the
    first level has the most to code. Optimised (Ge et al., 2013), the cut is better: the start is
    the identity or `balanced_axes`, whichever leaves the smaller error, and then codebooks and
    rotation improve in turn, so that the error is at most that of the plain cut.

    A codeword is as wide as x and zero outside of its level's dimensions, so a quantised vector is
    the sum of its codewords, and residual quantisation of x @ rotation by these codebooks gives the
    codes and vectors of product quantisation.

    Args:
        rng: a key.
        x: [N, C].
        level_sizes: the K_q.
        num_rotations: how often the rotation is improved; 0 for the identity.
        num_init, max_iterations, batch_size: of `kmeans.kmeans` of each level.

    Returns:
        rotation: [C, C], orthogonal; what is quantised is x @ rotation.
        codebooks: Q arrays [K_q, C].

    Raises:
        UserError: if there are more levels than dimensions.
    """
    width, num_levels = x.shape[1], len(level_sizes)
    if num_levels > width:
        raise UserError(
            f"{num_levels} levels of a product need as many dimensions, the vectors have {width}: "
            "give fewer levels"
        )
    widths = tuple(len(part) for part in np.array_split(np.arange(width), num_levels))
    rotations = [jnp.eye(width, dtype=x.dtype)]
    if num_rotations:
        rotations.append(balanced_axes(x, widths))
    fits = []
    for rotation in rotations:
        parts = _split(_rotate(x, rotation), widths)
        codebooks = [
            kmeans.kmeans(
                level_rng,
                part,
                size,
                num_init=num_init,
                max_iterations=max_iterations,
                batch_size=batch_size,
                balanced=False,
            ).centroids
            for level_rng, part, size in zip(
                jax.random.split(rng, num_levels), parts, level_sizes, strict=True
            )
        ]
        error = jnp.sum((_rotate(x, rotation) - _quantize(parts, codebooks)) ** 2)
        fits.append((error, rotation, codebooks))
    _, rotation, codebooks = min(fits, key=lambda fit: fit[0])
    rotation, codebooks = _improve(x, rotation, codebooks, widths, num_rotations)
    return rotation, _widen(codebooks, widths)


def balanced_axes(x: jax.Array, widths: tuple[int, ...]) -> jax.Array:
    """Returns [C, C]: the principal axes of x [N, C], dealt out to levels of these widths.

    From the largest variance to the smallest, each axis goes to the level that still has room and
    whose product of variances is the smallest so far, because the error of a level of normally
    distributed values grows with that product (Ge et al., 2013, section 3.2).
    """
    with jax.default_matmul_precision("highest"):
        covariance = jnp.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])
    variances, axes = np.linalg.eigh(np.asarray(covariance, np.float64))  # rising
    # In units of the least, so that no factor is below 1 and makes a product smaller.
    least = max(variances[0], np.finfo(np.float32).eps * variances[-1], np.finfo(np.float64).tiny)
    factors = np.log(np.maximum(variances / least, 1))
    levels = [[] for _ in widths]
    products = np.zeros(len(widths))
    for axis in np.argsort(-variances, kind="stable"):
        has_room = np.array([len(level) for level in levels]) < np.array(widths)
        level = np.argmin(np.where(has_room, products, np.inf))
        levels[level].append(axis)
        products[level] += factors[axis]
    return jnp.asarray(axes[:, np.concatenate(levels)], x.dtype)


@functools.partial(jax.jit, static_argnames=("widths", "num_rotations"))
def _improve(x, rotation, codebooks, widths, num_rotations):
    """Returns a better rotation and codebooks, by turns (Ge et al., 2013, section 3.1)."""

    def improve(_, rotation_and_codebooks):
        rotation, codebooks = rotation_and_codebooks
        quantized = _quantize(_split(_rotate(x, rotation), widths), codebooks)
        # Procrustes: of all rotations the one that brings x nearest to what it became.
        products = jnp.einsum("NC,ND->CD", x, quantized, precision="highest")
        left, _, right = jnp.linalg.svd(products)
        rotation = jnp.einsum("CK,KD->CD", left, right, precision="highest")
        parts = _split(_rotate(x, rotation), widths)
        codebooks = [
            kmeans.lloyd_step(part, codebook)[0]
            for part, codebook in zip(parts, codebooks, strict=True)
        ]
        return rotation, codebooks

    return jax.lax.fori_loop(0, num_rotations, improve, (rotation, codebooks))


def _rotate(x, rotation):
    return jnp.einsum("NC,CD->ND", x, rotation, precision="highest")


def _split(x, widths):
    return jnp.split(x, np.cumsum(widths)[:-1].tolist(), axis=-1)


def _quantize(parts, codebooks):
    """Returns [N, C]: the nearest codewords of the parts [N, C_q], side by side."""
    codewords = [
        codebook[kmeans.assign(part, codebook)]
        for part, codebook in zip(parts, codebooks, strict=True)
    ]
    return jnp.concatenate(codewords, axis=-1)


def _widen(codebooks, widths):
    """Returns the codebooks [K_q, C_q] as [K_q, C], zero outside of their own dimensions."""
    starts = np.cumsum(widths) - widths
    return [
        jnp.pad(codebook, ((0, 0), (start, sum(widths) - start - codebook.shape[1])))
        for start, codebook in zip(starts.tolist(), codebooks, strict=True)
    ]
