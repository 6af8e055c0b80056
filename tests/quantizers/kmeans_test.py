"""k-means on points whose clusters are plain to see."""

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.quantizers import kmeans
from genrec_jax.quantizers.vector import nearest_codeword


def test_a_step_moves_centroids_to_the_means_of_their_points():
    x = jnp.array([[0.0], [2.0], [10.0]])
    centroids, assignment = kmeans.lloyd_step(x, jnp.array([[0.0], [9.0], [50.0]]))
    np.testing.assert_array_equal(assignment, [0, 0, 1])
    np.testing.assert_array_equal(centroids, [[1.0], [10.0], [50.0]])  # nobody's stays


def test_iterations_end_when_nothing_moves():
    x = jnp.array([[0.0], [2.0], [10.0]])
    centroids, steps = kmeans.lloyd(x, jnp.array([[0.0], [9.0]]), max_iterations=100)
    np.testing.assert_array_equal(centroids, [[1.0], [10.0]])
    assert steps == 2  # the second changes nothing


def test_seeds_are_distinct_rows_as_long_as_there_are_any():
    x = jnp.array([[0.0], [0.0], [1.0], [5.0], [5.0], [5.0]])
    rngs = jax.random.split(jax.random.key(0), 20)
    for seeds in np.asarray(jax.vmap(lambda rng: kmeans.plus_plus(rng, x, 3))(rngs))[..., 0]:
        assert sorted(seeds) == [0.0, 1.0, 5.0]


def test_seeds_are_drawn_in_proportion_to_squared_distance():
    x = jnp.array([[0.0], [1.0], [3.0]])
    rngs = jax.random.split(jax.random.key(0), 6000)
    seeds = np.asarray(jax.vmap(lambda rng: kmeans.plus_plus(rng, x, 2))(rngs))[..., 0]
    from_zero = seeds[seeds[:, 0] == 0.0, 1]
    # 1 with chance 1 / 10 and 3 with chance 9 / 10; three standard deviations of 2000 draws: .02.
    assert abs((from_zero == 3.0).mean() - 0.9) < 0.02


def test_fewer_distinct_points_than_clusters_repeat_centroids():
    x = jnp.array([[1.0, 2.0]] * 5)
    codebooks = kmeans.residual_kmeans(
        jax.random.key(0), x, num_levels=2, num_clusters=4, max_iterations=10
    )
    np.testing.assert_array_equal(codebooks[0], [[1.0, 2.0]] * 4)
    np.testing.assert_array_equal(codebooks[1], np.zeros((4, 2)))


def test_levels_leave_ever_less_over():
    x = jax.random.normal(jax.random.key(0), (500, 4))
    codebooks = kmeans.residual_kmeans(
        jax.random.key(1), x, num_levels=3, num_clusters=8, max_iterations=50
    )
    errors = [float((x**2).sum())]
    for codebook in codebooks:
        x = x - codebook[nearest_codeword(x, codebook)]
        errors.append(float((x**2).sum()))
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.8 * errors[1] and errors[3] < errors[2]
