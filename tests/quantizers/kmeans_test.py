"""k-means on points whose clusters are plain to see, and beside scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import cluster

from benchmarks import kmeans as benchmark
from genrec_jax.quantizers import health, kmeans, residual
from genrec_jax.quantizers.vector import nearest_codeword

FULL = {"num_init": 1, "max_iterations": 100, "batch_size": 0, "balanced": False}


def blobs(num_rows, num_blobs, width, seed=0):
    """Returns [N, C] float32 in as many overlapping clusters."""
    rng = np.random.default_rng(seed)
    centers = 2 * rng.normal(size=(num_blobs, width))
    rows = centers[rng.integers(num_blobs, size=num_rows)] + rng.normal(size=(num_rows, width))
    return rows.astype(np.float32)


def collapsing(num_distinct, num_copies, width, deviation, seed=0):
    """Returns [N, C] float32 on which codes die: copies of few rows, alike but for a hair.

    Copies differ in the last dimension only, in which nothing else does, by this deviation.
    """
    rng = np.random.default_rng(seed)
    distinct = rng.normal(size=(num_distinct, width))
    rows = np.tile(distinct, (num_copies, 1))
    rows[:, -1] = deviation * rng.normal(size=len(rows))
    return rng.permutation(rows).astype(np.float32)


def test_a_step_moves_centroids_to_the_means_of_their_points():
    x = jnp.array([[0.0], [2.0], [10.0]])
    centroids, assignment = kmeans.lloyd_step(x, jnp.array([[0.0], [9.0]]))
    np.testing.assert_array_equal(assignment, [0, 0, 1])
    np.testing.assert_array_equal(centroids, [[1.0], [10.0]])


def test_centroids_without_points_become_the_farthest_points():
    x = jnp.array([[0.0], [2.0], [10.0]])
    centroids, assignment = kmeans.lloyd_step(x, jnp.array([[0.0], [50.0], [9.0], [60.0]]))
    np.testing.assert_array_equal(assignment, [0, 0, 2])
    # 2 is farthest from its centroid, by 2, and 10 next, by 1.
    np.testing.assert_array_equal(centroids, [[1.0], [2.0], [10.0], [10.0]])
    # No point is left away from its centroid: nobody's stays.
    x = jnp.array([[0.0], [9.0]])
    centroids, _ = kmeans.lloyd_step(x, jnp.array([[0.0], [9.0], [50.0]]))
    np.testing.assert_array_equal(centroids, [[0.0], [9.0], [50.0]])


def test_iterations_end_when_nothing_moves():
    x = jnp.array([[0.0], [2.0], [10.0]])
    centroids, steps = kmeans.lloyd(x, jnp.array([[0.0], [9.0]]), max_iterations=100)
    np.testing.assert_array_equal(centroids, [[1.0], [10.0]])
    assert steps == 2  # the second changes nothing


def test_seeds_are_distinct_rows_as_long_as_there_are_any():
    x = jnp.array([[0.0], [0.0], [1.0], [5.0], [5.0], [5.0]])
    rngs = jax.random.split(jax.random.key(0), 20)
    for seeds in np.asarray(jax.vmap(lambda rng: kmeans.plus_plus(rng, x, 3, 1))(rngs))[..., 0]:
        assert sorted(seeds) == [0.0, 1.0, 5.0]


def test_seeds_are_drawn_in_proportion_to_squared_distance():
    x = jnp.array([[0.0], [1.0], [3.0]])
    rngs = jax.random.split(jax.random.key(0), 6000)
    seeds = np.asarray(jax.vmap(lambda rng: kmeans.plus_plus(rng, x, 2, 1))(rngs))[..., 0]
    from_zero = seeds[seeds[:, 0] == 0.0, 1]
    # 1 with chance 1 / 10 and 3 with chance 9 / 10; three standard deviations of 2000 draws: .02.
    assert abs((from_zero == 3.0).mean() - 0.9) < 0.02


def test_of_several_trials_the_best_is_taken():
    x = jnp.array([[0.0], [1.0], [3.0]])
    rngs = jax.random.split(jax.random.key(0), 200)
    seeds = np.asarray(jax.vmap(lambda rng: kmeans.plus_plus(rng, x, 2, 30))(rngs))[..., 0]
    # From 0, 3 leaves 1 and 1 leaves 4; from 1, 3 leaves 1 and 0 leaves 4; from 3, 0 leaves 1 and
    # 1 leaves 1. One trial would often take the worse one.
    assert {tuple(pair) for pair in seeds.tolist()} <= {
        (0.0, 3.0),
        (1.0, 3.0),
        (3.0, 0.0),
        (3.0, 1.0),
    }


def test_fewer_distinct_points_than_clusters_repeat_centroids():
    x = jnp.array([[1.0, 2.0]] * 5)
    codebooks = kmeans.residual_kmeans(jax.random.key(0), x, level_sizes=(4, 3), **FULL)
    np.testing.assert_array_equal(codebooks[0], [[1.0, 2.0]] * 4)
    np.testing.assert_array_equal(codebooks[1], np.zeros((3, 2)))


def test_levels_of_different_sizes_leave_ever_less_over():
    x = jax.random.normal(jax.random.key(0), (500, 4))
    codebooks = kmeans.residual_kmeans(jax.random.key(1), x, level_sizes=(8, 12, 5), **FULL)
    assert [codebook.shape for codebook in codebooks] == [(8, 4), (12, 4), (5, 4)]
    codes = residual.residual_quantize(x, codebooks).ids
    errors = [float((x**2).sum())]
    for level, codebook in enumerate(codebooks):
        np.testing.assert_array_equal(codes[:, level], nearest_codeword(x, codebook))
        x = x - codebook[codes[:, level]]
        errors.append(float((x**2).sum()))
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.7 * errors[1] and errors[3] < errors[2]


@pytest.mark.parametrize("batch_size, balanced", [(0, False), (0, True), (64, False), (64, True)])
def test_one_cluster_is_the_mean(batch_size, balanced):
    x = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
    options = FULL | {"batch_size": batch_size, "balanced": balanced}
    found = kmeans.kmeans(jax.random.key(0), x, 1, **options)
    np.testing.assert_allclose(found.centroids, [[2.0, 4.0]], rtol=1e-6)
    np.testing.assert_allclose(found.inertia, 2 * 4 + 9 + 1 + 16, rtol=1e-6)


def test_inertia_is_that_of_scikit_learn():
    x = blobs(3000, 40, 12)
    # Means of several seeds: a single fit of either is easily 1% off.
    ours = [
        float(kmeans.kmeans(jax.random.key(seed), x, 32, **FULL | {"num_init": 3}).inertia)
        for seed in range(4)
    ]
    theirs = [cluster.KMeans(32, n_init=3, random_state=seed).fit(x).inertia_ for seed in range(4)]
    assert np.mean(ours) < 1.01 * np.mean(theirs)


def test_the_best_of_several_fits_is_kept():
    x = blobs(400, 12, 3)
    of_one = [kmeans.kmeans(jax.random.key(seed), x, 12, **FULL) for seed in range(5)]
    of_many = [
        kmeans.kmeans(jax.random.key(seed), x, 12, **FULL | {"num_init": 20}) for seed in range(3)
    ]
    for fit in of_many:
        assignment = nearest_codeword(x, fit.centroids)
        inertia = ((x - np.asarray(fit.centroids)[assignment]) ** 2).sum()
        np.testing.assert_allclose(fit.inertia, inertia, rtol=1e-5)
    assert max(fit.inertia for fit in of_many) < 0.99 * np.mean([fit.inertia for fit in of_one])


def test_chunks_change_nothing(monkeypatch):
    x = blobs(501, 9, 6)
    seeds = jnp.asarray(x[:7])
    whole, steps = kmeans.lloyd(x, seeds, 50)
    monkeypatch.setattr(kmeans, "_CHUNK_DISTANCES", 7 * 40)  # 12 chunks of 40 rows and one of 21
    np.testing.assert_array_equal(kmeans.assign(x, whole), nearest_codeword(x, whole))
    chunked, chunked_steps = kmeans.lloyd(x, seeds, 50)
    assert steps == chunked_steps
    np.testing.assert_allclose(chunked, whole, atol=1e-5)


def test_a_mini_batch_is_a_mean_of_what_came_so_far():
    x = jnp.array([[0.0], [0.0], [8.0], [8.0]])
    start = jnp.array([[1.0], [6.0]])
    # Whatever is drawn, 0 and 8 each belong to the same centroid, whose mean they are from the
    # first batch on. What the start was is forgotten.
    found = kmeans.mini_batches(jax.random.key(0), x, start, num_batches=5, batch_size=20)
    np.testing.assert_array_equal(found, [[0.0], [8.0]])


def test_mini_batches_come_near_all_rows():
    x = blobs(6000, 30, 8)
    full = kmeans.kmeans(jax.random.key(0), x, 30, **FULL | {"num_init": 3})
    options = FULL | {"num_init": 3, "batch_size": 512, "max_iterations": 60}
    batches = kmeans.kmeans(jax.random.key(0), x, 30, **options)
    assert batches.num_iterations == 3 * 60
    assert batches.inertia < 1.03 * full.inertia


def test_mini_batches_find_work_for_every_centroid():
    x = jnp.concatenate([jnp.zeros((500, 2)), jnp.ones((500, 2)), 5 * jnp.ones((10, 2))])
    far = jnp.array([[0.0, 0.0], [90.0, 90.0], [95.0, 95.0]])
    found = kmeans.mini_batches(jax.random.key(0), x, far, num_batches=20, batch_size=256)
    assert sorted(np.asarray(found)[:, 0].round(4)) == [0.0, 1.0, 5.0]


@pytest.mark.parametrize("batch_size", [0, 128])
def test_balanced_clusters_are_equally_large(batch_size):
    x = jnp.asarray(blobs(640, 5, 4) ** 3)  # many rows near 0, and a few far off
    options = FULL | {"balanced": True, "batch_size": batch_size, "max_iterations": 20}
    found = kmeans.kmeans(jax.random.key(0), x, 16, **options)
    codes = kmeans.assign(x, found.centroids, True, batch_size)
    np.testing.assert_array_equal(np.bincount(codes, minlength=16), [40] * 16)
    inertia = jnp.sum((x - found.centroids[codes]) ** 2)
    np.testing.assert_allclose(found.inertia, inertia, rtol=1e-5)
    plain = kmeans.kmeans(jax.random.key(0), x, 16, **FULL).centroids
    counts = np.bincount(kmeans.assign(x, plain), minlength=16)
    assert counts.max() > 4 * 40  # what was to be avoided
    # And the clusters are no random ones of this size, whose inertia is that of the whole.
    assert found.inertia < 0.5 * jnp.sum((x - x.mean(axis=0)) ** 2)


@pytest.mark.parametrize("deviation, collapsed", [(0.0, (0, 1, 2)), (1e-9, (0,))])
def test_balanced_levels_stay_in_use_where_plain_ones_collapse(deviation, collapsed):
    x = jnp.asarray(collapsing(24, 40, 8, deviation))
    usage = {}
    for balanced in (False, True):
        options = FULL | {"balanced": balanced, "max_iterations": 20}
        codebooks = kmeans.residual_kmeans(
            jax.random.key(0), x, level_sizes=(32, 32, 32), **options
        )
        levels = range(len(codebooks)) if balanced else ()
        codes = np.asarray(residual.residual_quantize(x, codebooks, balanced_levels=levels).ids)
        usage[balanced] = np.array(
            [
                health.level_report(codes[:, level], np.asarray(codebook))["usage"]
                for level, codebook in enumerate(codebooks)
            ]
        )
    assert (usage[False] < 0.9).nonzero()[0].tolist() == list(collapsed)
    assert usage[True].min() > 0.9


@pytest.mark.parametrize("how", ["euclidean", "cosine", "chunks"])
def test_assignment_is_the_nearest_code_of_a_search_in_float64(how, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(250_000, 32)).astype(np.float32)
    codebook = rng.normal(size=(256, 32)).astype(np.float32)
    if how == "chunks":
        monkeypatch.setattr(kmeans, "_CHUNK_DISTANCES", len(x) * len(codebook) // 3)
        codes, distance = kmeans.assign(x, codebook), "euclidean"
    else:
        codes, distance = nearest_codeword(x, codebook, how), how
    share, _ = benchmark.agreement(x, codebook, np.asarray(codes), distance)
    assert share >= 0.9999
