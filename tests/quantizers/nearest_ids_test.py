"""How much is looked up at once changes nothing; the rule itself is tested with `reassign`."""

import numpy as np
import pytest

from genrec_jax.quantizers import nearest_ids, vector


def crowd(seed, num_items=900, sizes=(8, 6, 20)):
    """Returns codes, latents and codebooks: most of the items are near a few codewords."""
    rng = np.random.default_rng(seed)
    codebooks = [rng.standard_normal((size, 4), np.float32) for size in sizes]
    latents = codebooks[0][rng.integers(0, 3, num_items)]
    latents += 0.5 * rng.standard_normal((num_items, 4), np.float32)
    codes, x = [], latents
    for codebook in codebooks:
        codes.append(np.asarray(vector.nearest_codeword(x, codebook)))
        x = x - codebook[codes[-1]]
    return np.stack(codes, axis=-1), latents, codebooks


@pytest.mark.parametrize(
    "name, value",
    [
        ("_NUM_CANDIDATES", 1),
        ("_NUM_CANDIDATES", 32),
        ("_BLOCK", 7),
        ("_MAX_CELLS", 1),
        ("_MAX_CELLS", 45),
    ],
)
def test_how_much_is_looked_up_at_once_changes_nothing(monkeypatch, name, value):
    codes, latents, codebooks = crowd(0)
    taken = np.array([[0, 0, 0], [7, 5, 19]])
    ids = nearest_ids.find(codes, latents, codebooks, taken, "euclidean")
    assert len(np.unique(np.concatenate([ids, taken]), axis=0)) == 902
    assert (ids != codes).any(axis=0).all()
    monkeypatch.setattr(nearest_ids, name, value)
    again = nearest_ids.find(codes, latents, codebooks, taken, "euclidean")
    np.testing.assert_array_equal(ids, again)


def test_items_stay_where_there_is_room():
    codes, latents, codebooks = crowd(0)
    codes = np.unique(codes, axis=0)
    ids = nearest_ids.find(codes, latents[: len(codes)], codebooks, codes[:0], "euclidean")
    np.testing.assert_array_equal(ids, codes)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_latents_at_no_finite_distance_get_free_ids(value):
    latents = np.full((5, 1), value, np.float32)
    codebooks = [np.arange(20, dtype=np.float32)[:, None]]
    taken = np.arange(15)[:, None]
    ids = nearest_ids.find(np.zeros((5, 1), int), latents, codebooks, taken, "euclidean")
    np.testing.assert_array_equal(ids[:, 0], range(15, 20))


def test_candidates_are_the_nearest_with_room():
    codebook = np.arange(6, dtype=np.float32)[:, None]
    room = np.array([[1, 0, 5, 1, 0, 1], [1, 1, 1, 1, 1, 1]])
    codes, distances = nearest_ids._candidates(
        np.array([[1.0], [1.25]], np.float32), room, np.array([0, 1]), codebook, "euclidean"
    )
    np.testing.assert_array_equal(codes[0, :4], [0, 2, 3, 5])  # 0 and 2 are equally near
    np.testing.assert_array_equal(codes[1], [1, 2, 0, 3, 4, 5])
    np.testing.assert_allclose(distances[0], [1, 1, 4, 16, np.inf, np.inf])
    np.testing.assert_allclose(distances[1], [x**2 for x in (0.25, 0.75, 1.25, 1.75, 2.75, 3.75)])
