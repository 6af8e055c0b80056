"""Balanced assignment: every code gets an equal share of the rows, at the least total distance.

N rows   K codes
"""

import jax
import jax.numpy as jnp


def balanced_assignment(
    distances: jax.Array, epsilon: float | jax.Array, num_iterations: int
) -> jax.Array:
    """Returns [N] int32: a code for each row, such that each code has N / K rows.

    Each code gets N / K rows rounded down or up; where N / K is no whole number, the codes that
    most rows would rather have get one more. Equal rows may get different codes. The shares of
    `transport_plan` say which row wants which code most: rows go to their favourite, a code with
    too many keeps those with the largest shares, and the others go to the next one (deferred
    acceptance, Gale and Shapley, 1962), ties to the lowest code and the first row.

    Args:
        distances: [N, K].
        epsilon: as for `transport_plan`. Towards 0, and with enough iterations, the sum of the
            distances approaches the least possible.
        num_iterations: as for `transport_plan`.
    """
    scores = transport_plan(distances, epsilon, num_iterations)
    num_rows, num_codes = scores.shape
    rows = jnp.arange(num_rows)
    demand = jnp.bincount(jnp.argmax(scores, axis=1), length=num_codes)
    place = jnp.argsort(jnp.argsort(-demand))  # of a code among all, the most wanted one first
    capacity = num_rows // num_codes + (place < num_rows % num_codes)

    def unsettled(carry):
        return carry[2]

    def propose(carry):
        is_closed, _, _ = carry
        codes = jnp.argmax(jnp.where(is_closed, -jnp.inf, scores), axis=1)
        own = scores[rows, codes]
        order = jnp.lexsort((-own, codes))  # stable: the first of equal rows
        counts = jnp.bincount(codes, length=num_codes)
        start = jnp.cumsum(counts) - counts
        place = rows - start[codes[order]]  # of a row within its code
        is_refused = jnp.zeros(num_rows, bool).at[order].set(place >= capacity[codes[order]])
        last_kept = own[order[start + capacity - 1]]
        bar = jnp.where(capacity > 0, last_kept, jnp.inf)
        is_closed |= (counts > capacity) & (scores < bar)
        return is_closed.at[rows, codes].max(is_refused), codes, jnp.any(is_refused)

    nobody = jnp.zeros((num_rows, num_codes), bool)
    _, codes, _ = jax.lax.while_loop(
        unsettled, propose, (nobody, jnp.zeros(num_rows, rows.dtype), True)
    )
    return codes.astype(jnp.int32)


def transport_plan(
    distances: jax.Array, epsilon: float | jax.Array, num_iterations: int
) -> jax.Array:
    """Returns [N, K] logarithms of how much of each row goes to each code.

    Entropic optimal transport by Sinkhorn's iterations on logarithms (Cuturi, 2013). Rows of the
    plan sum to 1, and columns to N / K as far as the iterations have converged.

    Args:
        distances: [N, K] of any unit. What a row or a column has in common does not matter and is
            taken out, by its mean; the rest is divided by its mean absolute value.
        epsilon: weight of the entropy in that unit. Large: all shares are near 1 / K. Small: near
            0 or 1, and convergence takes more iterations, about 1 / epsilon.
        num_iterations: of Sinkhorn.
    """
    num_rows, num_codes = distances.shape
    costs = distances - distances.mean(axis=1, keepdims=True)
    costs = costs - costs.mean(axis=0)
    spread = jnp.abs(costs).mean()
    scores = -costs / (jnp.where(spread > 0, spread, 1) * epsilon)

    def normalize_rows(of_codes):
        return -jax.nn.logsumexp(scores + of_codes, axis=1, keepdims=True)  # [N, 1]

    def iterate(_, of_codes):
        sums = jax.nn.logsumexp(scores + normalize_rows(of_codes), axis=0)
        return jnp.log(num_rows / num_codes) - sums

    of_codes = jax.lax.fori_loop(0, num_iterations, iterate, jnp.zeros(num_codes, scores.dtype))
    return scores + of_codes + normalize_rows(of_codes)
