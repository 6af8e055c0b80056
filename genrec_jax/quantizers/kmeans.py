"""k-means on the device: k-means++ seeding, Lloyd's iterations or mini-batches, level by level.

All in full float32. No array is larger than x, a chunk of distances, and what `balanced` needs.

N vectors   K clusters   C width   Q levels   T trials
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax import lookup
from genrec_jax.quantizers import vector

_CHUNK_DISTANCES = 2**26  # how many distances, or one-hot values, exist at once
_SEEDING_ROWS = 32  # a cluster, among which mini-batches look for seeds


class Clusters(NamedTuple):
    """The result of `kmeans`."""

    centroids: jax.Array  # [K, C]
    inertia: jax.Array  # [] sum of the rows' squared distances from their centroids
    num_iterations: jax.Array  # [] int32, of all fits together


@functools.partial(
    jax.jit,
    static_argnames=("num_clusters", "num_init", "max_iterations", "batch_size", "balanced"),
)
def kmeans(
    rng: jax.Array,
    x: jax.Array,
    num_clusters: int,
    *,
    num_init: int,
    max_iterations: int,
    batch_size: int,
    balanced: bool,
) -> Clusters:
    """Returns the clusters of x [N, C] with the least inertia of several fits.

    Args:
        rng: a key.
        x: [N, C].
        num_clusters: K. If there are fewer distinct rows, centroids repeat.
        num_init: how many fits, each from seeds of its own, drawn by `plus_plus`.
        max_iterations: of Lloyd, which ends before if nothing moves; or how many mini-batches.
        batch_size: 0 for Lloyd's iterations over all rows, else of `mini_batches`.
        balanced: give each cluster an equal share of the rows, see `assign`.
    """
    num_trials = 2 + int(math.log(num_clusters))
    num_seeded = min(_SEEDING_ROWS * num_clusters, len(x)) if batch_size else len(x)

    def seed(rng):
        sample_rng, rng = jax.random.split(rng)
        if num_seeded == len(x):
            return plus_plus(rng, x, num_clusters, num_trials)
        rows = jax.random.choice(sample_rng, len(x), (num_seeded,), replace=False)
        return plus_plus(rng, x[rows], num_clusters, num_trials)

    def fit(rng_and_seeds):
        rng, centroids = rng_and_seeds
        if batch_size == 0:
            centroids, num_iterations = lloyd(x, centroids, max_iterations, balanced)
        else:
            centroids = mini_batches(rng, x, centroids, max_iterations, batch_size, balanced)
            num_iterations = jnp.int32(max_iterations)
        assignment = assign(x, centroids, balanced, batch_size)
        return Clusters(centroids, jnp.sum((x - centroids[assignment]) ** 2), num_iterations)

    seed_rng, fit_rng = jax.random.split(rng)
    # Seeding is many small steps, so that all fits' together take little longer than one fit's.
    at_once = max(_CHUNK_DISTANCES // (num_seeded * num_trials), 1)
    seeds = jax.lax.map(seed, jax.random.split(seed_rng, num_init), batch_size=at_once)
    fits = jax.lax.map(fit, (jax.random.split(fit_rng, num_init), seeds))
    best = jnp.argmin(fits.inertia)
    return Clusters(fits.centroids[best], fits.inertia[best], fits.num_iterations.sum())


@functools.partial(
    jax.jit,
    static_argnames=("level_sizes", "num_init", "max_iterations", "batch_size", "balanced"),
)
def residual_kmeans(
    rng: jax.Array,
    x: jax.Array,
    *,
    level_sizes: tuple[int, ...],
    num_init: int,
    max_iterations: int,
    batch_size: int,
    balanced: bool,
) -> list[jax.Array]:
    """Returns Q codebooks [K_q, C]: k-means of x [N, C], then of what each level leaves over.

    `level_sizes` are the K_q; the other arguments are those of `kmeans`. `balanced` codebooks need
    balanced choices of codes too: among copies of a row and centroids that hardly differ, the
    nearest ones would be few.
    """
    codebooks = []
    for level_rng, size in zip(jax.random.split(rng, len(level_sizes)), level_sizes, strict=True):
        codebook = kmeans(
            level_rng,
            x,
            size,
            num_init=num_init,
            max_iterations=max_iterations,
            batch_size=batch_size,
            balanced=balanced,
        ).centroids
        x = x - codebook[assign(x, codebook, balanced, batch_size)]
        codebooks.append(codebook)
    return codebooks


def plus_plus(rng: jax.Array, x: jax.Array, num_clusters: int, num_trials: int) -> jax.Array:
    """Returns [K, C] rows of x [N, C], each drawn far from those before (k-means++).

    Arthur and Vassilvitskii, 2007: a row is drawn with a chance in proportion to its squared
    distance from the nearest row drawn so far. Of `num_trials` rows drawn so the one is taken that
    leaves the least sum of these distances, as scikit-learn does with 2 + log K trials. Once every
    distinct row is drawn, further rows are drawn uniformly, so fewer distinct rows than clusters
    give repeated centroids, not an error.
    """
    first_rng, rng = jax.random.split(rng)
    first = x[jax.random.randint(first_rng, (), 0, len(x))]

    def draw(distances, uniform):
        sums = jnp.cumsum(distances)
        far = jnp.sum(sums <= uniform[:, None] * sums[-1], axis=-1)  # the first sum above the draw
        anywhere = (uniform * len(x)).astype(far.dtype)
        candidates = x[jnp.where(sums[-1] > 0, far, anywhere)]  # [T, C]
        # T is the last axis so that a row is read once for all of its differences, which are
        # exactly 0 where rows are equal.
        to_candidates = jnp.sum((x[:, None] - candidates) ** 2, axis=-1)  # [N, T]
        left = jnp.minimum(distances[:, None], to_candidates)
        best = jnp.argmin(left.sum(axis=0))
        return left[:, best], candidates[best]

    uniforms = jax.random.uniform(rng, (num_clusters - 1, num_trials), x.dtype)
    _, rows = jax.lax.scan(draw, jnp.sum((x - first) ** 2, axis=-1), uniforms)
    return jnp.concatenate([first[None], rows])


def assign(
    x: jax.Array, centroids: jax.Array, balanced: bool = False, batch_size: int = 0
) -> jax.Array:
    """Returns [N] int32: whose cluster each row of x [N, C] belongs to.

    That of the nearest centroid, ties to the lowest; or, `balanced`, such that the clusters of each
    `batch_size` consecutive rows are equally large (0: of all rows), see
    `sinkhorn.balanced_assignment`, which holds all their distances at once.
    """

    def codes(rows):
        return vector.choose(vector.squared_distances(rows, centroids), balanced)

    size = (batch_size or len(x)) if balanced else _chunk_size(centroids)
    chunks, rest = _split(x, size)
    parts = [jax.lax.map(codes, chunks).reshape(-1)]
    if len(rest):
        parts.append(codes(rest))
    return jnp.concatenate(parts)


def lloyd_step(
    x: jax.Array, centroids: jax.Array, balanced: bool = False, batch_size: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Returns the means [K, C] of the rows of each centroid, and [N] whose they are.

    A centroid without rows becomes one of the rows that are farthest from theirs, and stays where
    it is if every row equals its own.
    """
    assignment = assign(x, centroids, balanced, batch_size)
    sums, counts = _sums(x, assignment, len(centroids))
    means = jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1)[:, None], centroids)
    return _move_empty(x, assignment, centroids, means, counts), assignment


def lloyd(
    x: jax.Array, centroids: jax.Array, max_iterations: int, balanced: bool = False
) -> tuple[jax.Array, jax.Array]:
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
        new_centroids, _ = lloyd_step(x, centroids, balanced)
        return new_centroids, jnp.any(new_centroids != centroids), iteration + 1

    centroids, _, num_iterations = jax.lax.while_loop(unfinished, step, (centroids, True, 0))
    return centroids, num_iterations


def mini_batches(
    rng: jax.Array,
    x: jax.Array,
    centroids: jax.Array,
    num_batches: int,
    batch_size: int,
    balanced: bool = False,
) -> jax.Array:
    """Returns centroids [K, C] after random mini-batches of x [N, C], and one `lloyd_step`.

    Sculley, 2010: a centroid is the mean of all rows that it has been the nearest to so far.
    One that never was becomes a row of the batch that is far from its own.
    """

    def step(carry, rng):
        centroids, counts = carry
        rows = x[jax.random.randint(rng, (batch_size,), 0, len(x))]
        assignment = assign(rows, centroids, balanced)
        sums, added = _sums(rows, assignment, len(centroids))
        counts = counts + added
        change = sums - added[:, None] * centroids
        means = centroids + change / jnp.maximum(counts, 1)[:, None]
        return (_move_empty(rows, assignment, centroids, means, counts), counts), None

    start = centroids, jnp.zeros(len(centroids), jnp.int32)
    (centroids, _), _ = jax.lax.scan(step, start, jax.random.split(rng, num_batches))
    return lloyd_step(x, centroids, balanced, batch_size)[0]


def _move_empty(x, assignment, centroids, means, counts):
    """Returns the means [K, C], those of counts 0 replaced by rows of x far from their centroids.

    The farthest row goes to the first of them, and so on.
    """

    def move():
        distances = jnp.sum((x - centroids[assignment]) ** 2, axis=-1)
        farthest, rows = jax.lax.top_k(distances, min(len(means), len(x)))
        place = jnp.cumsum(counts == 0) - 1
        is_moved = (counts == 0) & (farthest[place] > 0)
        return jnp.where(is_moved[:, None], jnp.take(x, rows[place], axis=0), means)

    return jax.lax.cond(jnp.any(counts == 0), move, lambda: means)


def _sums(x, assignment, num_clusters):
    """Returns the sums [K, C] of the rows of each cluster and their numbers [K]."""

    def add(sums, chunk):
        return sums + lookup.add_rows(*chunk, num_clusters), None

    sums = jnp.zeros((num_clusters, x.shape[1]), x.dtype)
    size = _chunk_size(sums)
    (id_chunks, last_ids), (row_chunks, last_rows) = _split(assignment, size), _split(x, size)
    sums, _ = jax.lax.scan(add, sums, (id_chunks, row_chunks))
    if len(last_rows):
        sums, _ = add(sums, (last_ids, last_rows))
    return sums, jnp.bincount(assignment, length=num_clusters)


def _chunk_size(centroids):
    return max(_CHUNK_DISTANCES // len(centroids), 1)


def _split(x, size):
    """Returns x [N, ...] as chunks [M, size, ...], or one if it has no more rows, and the rest."""
    size = min(size, len(x))
    num_chunks = len(x) // size
    whole = num_chunks * size
    return x[:whole].reshape(num_chunks, size, *x.shape[1:]), x[whole:]
