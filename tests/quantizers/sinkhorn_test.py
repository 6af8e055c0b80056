"""Balanced assignment, worked by hand and beside the optimum of SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from genrec_jax.quantizers import sinkhorn

# Row by row the nearest are 0, 0, 0, 1. The least sum for a code each is 2 + 0 + 4 + 1: row 1 has
# nowhere else to go.
FOUR = jnp.array(
    [[1.0, 9.0, 2.0, 9.0], [0.0, 8.0, 8.0, 8.0], [1.0, 9.0, 5.0, 4.0], [6.0, 1.0, 7.0, 9.0]]
)


def least_cost(distances):
    """Returns the least sum of distances [N, K] if each code gets N / K rows, a whole number."""
    num_rows, num_codes = distances.shape
    repeated = np.repeat(distances, num_rows // num_codes, axis=1)
    return repeated[optimize.linear_sum_assignment(repeated)].sum()


def test_the_plan_of_two_rows_and_two_codes():
    # Alike for both rows, code 0 is nearer, but it has room for one of them. What is left after
    # the means of rows and columns is +-1, their mean absolute value 1: shares are as e^+1 to e^-1.
    distances = jnp.array([[0.0, 4.0], [1.0, 9.0]])
    plan = np.exp(sinkhorn.transport_plan(distances, 1.0, 20))
    share = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(plan, [[1 - share, share], [share, 1 - share]], rtol=1e-5)
    np.testing.assert_array_equal(sinkhorn.balanced_assignment(distances, 1.0, 20), [1, 0])


def test_four_rows_and_two_codes():
    # All are nearest to code 0; it keeps the two to whom it matters most.
    distances = jnp.array([[0.0, 1.0], [0.0, 5.0], [0.0, 2.0], [0.0, 9.0]])
    np.testing.assert_array_equal(sinkhorn.balanced_assignment(distances, 0.1, 100), [1, 0, 1, 0])


def test_four_rows_and_four_codes():
    codes = sinkhorn.balanced_assignment(FOUR, 0.05, 200)
    np.testing.assert_array_equal(codes, [2, 0, 3, 1])
    assert FOUR[jnp.arange(4), codes].sum() == least_cost(np.asarray(FOUR)) == 7.0


def test_equal_rows_are_shared_out():
    same = jnp.tile(jnp.array([[0.0, 1.0, 2.0]]), (7, 1))
    codes = sinkhorn.balanced_assignment(same, 0.5, 20)
    # No code is wanted more than another; the first one gets the seventh row.
    np.testing.assert_array_equal(codes, [0, 0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("shape", [(64, 8), (50, 8), (8, 8), (3, 8), (1, 8), (5, 1)])
def test_every_code_gets_its_share(shape):
    num_rows, num_codes = shape
    distances = np.random.default_rng(0).uniform(size=shape) ** 4
    counts = np.bincount(sinkhorn.balanced_assignment(distances, 0.5, 20), minlength=num_codes)
    assert counts.sum() == num_rows
    assert counts.min() >= num_rows // num_codes and counts.max() <= -(-num_rows // num_codes)


def test_rows_and_columns_of_the_plan_sum_to_their_shares():
    distances = np.random.default_rng(1).uniform(size=(60, 8))
    plan = np.exp(sinkhorn.transport_plan(distances, 0.5, 100))
    np.testing.assert_allclose(plan.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), 60 / 8, rtol=1e-4)


def test_epsilon_large_and_small():
    shares = np.exp(sinkhorn.transport_plan(FOUR, 1e4, 5))
    np.testing.assert_allclose(shares, np.full((4, 4), 1 / 4), rtol=1e-3)
    best = np.eye(4)[[2, 0, 3, 1]]
    np.testing.assert_allclose(np.exp(sinkhorn.transport_plan(FOUR, 0.05, 500)), best, atol=1e-3)


def test_units_do_not_matter():
    distances = np.random.default_rng(3).uniform(size=(40, 4)).astype(np.float32)
    plan = sinkhorn.transport_plan(distances, 0.3, 50)
    others = 7 * distances + np.arange(40.0)[:, None] + np.arange(4.0)
    np.testing.assert_allclose(sinkhorn.transport_plan(others, 0.3, 50), plan, atol=1e-2)
    codes = sinkhorn.balanced_assignment(distances, 0.3, 50)
    np.testing.assert_array_equal(sinkhorn.balanced_assignment(others, 0.3, 50), codes)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["uniform", "skewed"])
def test_the_sum_is_near_the_least(seed, kind):
    rng = np.random.default_rng(seed)
    distances = rng.uniform(size=(96, 12))
    if kind == "skewed":  # points, most of which are nearest to the same few codes
        x, codebook = rng.normal(size=(96, 4)), 3 * rng.normal(size=(12, 4))
        distances = ((x[:, None] - codebook) ** 2).sum(axis=-1)
    codes = sinkhorn.balanced_assignment(distances, 0.1, 500)
    least, of_chance = least_cost(distances), distances.mean() * 96
    cost = distances[np.arange(96), codes].sum()
    assert 0 <= cost - least + 1e-9 <= 0.03 * (of_chance - least)
