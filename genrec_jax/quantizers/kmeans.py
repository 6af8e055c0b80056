"""k-means on the device: k-means++ seeding and Lloyd's iterations, level by level.

N vectors   K clusters   C width   Q levels
"""

import functools

import jax
import jax.numpy as jnp

from genrec_jax.quantizers.vector import nearest_codeword


def plus_plus(rng: jax.Array, x: jax.Array, num_clusters: int) -> jax.Array:
    """Returns [K, C] rows of x [N, C], each drawn far from those before (k-means++).

    Arthur and Vassilvitskii, 2007: a row is drawn with a chance in proportion to its squared
    distance from the nearest row drawn so far. Once every distinct row is drawn, further rows are
    drawn uniformly, so fewer distinct rows than clusters give repeated centroids, not an error.
    """
    rngs = jax.random.split(rng, num_clusters)
    first = x[jax.random.randint(rngs[0], (), 0, len(x))]

    def draw(distances, rng):
        distinct_left = jnp.any(distances > 0)
        chances = jnp.where(distinct_left, distances, jnp.ones_like(distances))
        row = x[jax.random.categorical(rng, jnp.log(chances))]
        return jnp.minimum(distances, _distances_to(x, row)), row

    _, rows = jax.lax.scan(draw, _distances_to(x, first), rngs[1:])
    return jnp.concatenate([first[None], rows])


def lloyd_step(x: jax.Array, centroids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the means [K, C] of the rows nearest to each centroid, and [N] whose they are.

    A centroid that no row is nearest to stays where it is.
    """
    assignment = nearest_codeword(x, centroids)
    one_hot = (assignment[:, None] == jnp.arange(len(centroids))).astype(x.dtype)  # [N, K]
    sums = jnp.einsum("NK,NC->KC", one_hot, x, precision=jax.lax.Precision.HIGHEST)
    counts = one_hot.sum(axis=0)[:, None]
    return jnp.where(counts > 0, sums / jnp.maximum(counts, 1), centroids), assignment


def lloyd(x: jax.Array, centroids: jax.Array, max_iterations: int) -> tuple[jax.Array, jax.Array]:
    """Repeats `lloyd_step` until nothing moves, or `max_iterations` times.

    Returns:
        centroids: [K, C].
        num_iterations: [] int32, the steps taken, the last of which may have changed nothing.
    """

    def unfinished(carry):
        _, moved, iteration = carry
        return moved & (iteration < max_iterations)

    def step(carry):
        centroids, _, iteration = carry
        new_centroids, _ = lloyd_step(x, centroids)
        return new_centroids, jnp.any(new_centroids != centroids), iteration + 1

    centroids, _, num_iterations = jax.lax.while_loop(unfinished, step, (centroids, True, 0))
    return centroids, num_iterations


@functools.partial(jax.jit, static_argnames=("num_levels", "num_clusters", "max_iterations"))
def residual_kmeans(
    rng: jax.Array, x: jax.Array, *, num_levels: int, num_clusters: int, max_iterations: int
) -> jax.Array:
    """Returns codebooks [Q, K, C]: k-means of x [N, C], then of what each level leaves over."""
    codebooks = []
    for rng_level in jax.random.split(rng, num_levels):
        seeds = plus_plus(rng_level, x, num_clusters)
        codebook, _ = lloyd(x, seeds, max_iterations)
        x = x - codebook[nearest_codeword(x, codebook)]
        codebooks.append(codebook)
    return jnp.stack(codebooks)


def _distances_to(x: jax.Array, row: jax.Array) -> jax.Array:
    """Returns [N] squared distances, exactly 0 for rows of x that equal `row`."""
    return jnp.sum((x - row) ** 2, axis=-1)
