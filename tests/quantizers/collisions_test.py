"""Every item gets an ID of its own."""

import collections
import math

import numpy as np
import pytest

from genrec_jax.errors import UserError
from genrec_jax.quantizers import collisions


def test_popular_items_come_first_and_ties_keep_the_catalogues_order():
    ids = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [1, 2]])
    unique = collisions.append_extra_code(ids, np.array([5, 1, 9, 5, 0]), size=4)
    np.testing.assert_array_equal(unique[:, :2], ids)
    np.testing.assert_array_equal(unique[:, 2], [1, 0, 0, 2, 3])
    assert unique.dtype == np.int32


def test_a_group_that_is_too_large_is_refused():
    with pytest.raises(UserError, match=r"3 items share one .* tells 2 apart.*extra_code_size"):
        collisions.append_extra_code(np.zeros((3, 2), int), np.zeros(3), size=2)


def test_size_zero_takes_any_group():
    unique = collisions.append_extra_code(np.zeros((3, 2), int), np.zeros(3), size=0)
    np.testing.assert_array_equal(unique[:, 2], [0, 1, 2])


def test_no_two_of_many_items_are_alike():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, size=(3000, 3))
    unique = collisions.append_extra_code(ids, rng.integers(0, 9, size=3000), size=3000)
    assert len(np.unique(unique, axis=0)) == 3000


@pytest.mark.parametrize("num_levels", [7, 8, 40])
def test_extra_codes_of_more_ids_than_an_int64_counts(num_levels):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2, size=(500, num_levels)) * 255
    ids[:, :-4] = ids[:5, :-4].repeat(100, axis=0)
    popularity = rng.integers(0, 9, size=500)
    seen, expected = collections.Counter(), np.empty(500, int)
    for item in np.argsort(-popularity, kind="stable"):
        expected[item] = seen[tuple(ids[item])]
        seen[tuple(ids[item])] += 1
    assert expected.max() > 1
    unique = collisions.append_extra_code(ids, popularity, size=0)
    np.testing.assert_array_equal(unique, np.column_stack([ids, expected]))


def test_later_items_go_on_after_the_extra_codes_that_exist():
    existing = np.array([[1, 2, 0], [3, 3, 0], [1, 2, 4], [1, 2, 1]])  # [1, 2, 2] was removed
    ids = np.array([[1, 2], [0, 0], [1, 2], [3, 3], [0, 0]])
    popularity = np.array([1, 7, 2, 1, 8])
    unique = collisions.append_extra_code(ids, popularity, size=7, existing=existing)
    np.testing.assert_array_equal(unique[:, :2], ids)
    np.testing.assert_array_equal(unique[:, 2], [6, 1, 5, 1, 0])
    with pytest.raises(UserError, match=r"7 items share one .* tells 6 apart"):
        collisions.append_extra_code(ids, popularity, size=6, existing=existing)


def test_adding_nothing_or_to_nothing():
    none = np.empty((0, 3), int)
    unique = collisions.append_extra_code(none[:, :2], np.empty(0), size=1, existing=none)
    assert unique.shape == (0, 3)
    unique = collisions.append_extra_code(np.ones((2, 2), int), np.zeros(2), 2, existing=none)
    np.testing.assert_array_equal(unique[:, 2], [0, 1])


def column(*values):
    return np.array(values, np.float32)[:, None]


def test_the_most_popular_keeps_its_id_and_the_nearest_gets_the_nearest_free_one():
    codebooks = [column(0, 10), column(0, 1, 3)]
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 1]])
    latents = column(0, 0.2, 0.2, 11)
    # Items 0 and 2 both ask for [0, 1], at distances 1 and 0.64.
    ids = collisions.reassign(codes, np.array([1, 5, 3, 0]), latents, codebooks)
    np.testing.assert_array_equal(ids, [[0, 2], [0, 0], [0, 1], [1, 1]])
    assert ids.dtype == np.int32
    # Of equally popular items the first of the catalogue keeps them.
    ids = collisions.reassign(codes, np.zeros(4, int), latents, codebooks)
    np.testing.assert_array_equal(ids, [[0, 0], [0, 1], [0, 2], [1, 1]])
    # Of equally near items the more popular gets what both want.
    ids = collisions.reassign(codes, np.array([9, 1, 2, 0]), latents, codebooks)
    np.testing.assert_array_equal(ids, [[0, 0], [0, 2], [0, 1], [1, 1]])


def test_a_full_prefix_spills_into_the_nearest_that_has_room():
    codebooks = [column(0, 10, 30), column(0, 1)]
    codes = np.array([[1, 0], [1, 0], [1, 0]])
    # The first keeps [1, 0], the only other ID of its prefix goes to 10.2, which is nearer than
    # 9.5 to 10. 9.5 is nearer to 0 than to 30, and leaves 9.5 there.
    ids = collisions.reassign(codes, np.array([1, 0, 0]), column(10, 9.5, 10.2), codebooks)
    np.testing.assert_array_equal(ids, [[1, 0], [0, 1], [1, 1]])
    # With no ID left there either, it is 30, which leaves -20.5.
    existing = np.array([[0, 0], [0, 1]])
    ids = collisions.reassign(
        codes, np.array([1, 0, 0]), column(10, 9.5, 10.2), codebooks, existing=existing
    )
    np.testing.assert_array_equal(ids, [[1, 0], [2, 0], [1, 1]])


def test_those_who_spill_do_not_drive_anyone_from_an_id_of_its_own():
    codebooks = [column(0, 10), column(0, 1)]
    codes = np.array([[0, 1], [0, 1], [0, 1], [1, 0]])
    # The third leaves 0 for 10, where it is nearest to [1, 0], which the unpopular last one keeps.
    ids = collisions.reassign(codes, np.array([3, 2, 1, 0]), column(1, 1, 2, 10), codebooks)
    np.testing.assert_array_equal(ids, [[0, 1], [0, 0], [1, 1], [1, 0]])


def test_many_alike_spread_over_several_prefixes():
    codebooks = [column(0, 500, 200, 300), column(*range(16))]
    codes = np.zeros((40, 2), int)
    ids = collisions.reassign(codes, np.arange(40), column(*[0] * 40), codebooks)
    # The more popular, which come last here, take what is nearer: 0, then 200, then 300.
    expected = [[prefix, code] for prefix in (0, 2, 3) for code in range(16)][:40]
    np.testing.assert_array_equal(ids[::-1], expected)


def test_more_items_than_ids_are_refused():
    codebooks = [column(0, 1), column(0, 1, 2)]
    codes, latents, popularity = np.zeros((7, 2), int), column(*[0] * 7), np.zeros(7)
    message = r"7 items are more than the 6 IDs of 2 x 3 codes: train a tokenizer, in another"
    with pytest.raises(UserError, match=message):
        collisions.reassign(codes, popularity, latents, codebooks)
    with pytest.raises(UserError, match=message):
        collisions.reassign(
            codes[:3], popularity[:3], latents[:3], codebooks, existing=np.ones((4, 2), int)
        )
    ids = collisions.reassign(codes[:6], popularity[:6], latents[:6], codebooks)
    np.testing.assert_array_equal(
        np.unique(ids, axis=0), [[a, b] for a in (0, 1) for b in range(3)]
    )


def test_later_items_keep_their_codes_if_nobody_has_them():
    codebooks = [column(0, 10), column(0, 1, 3)]
    existing = np.array([[0, 0], [1, 1]])
    codes = np.array([[0, 0], [1, 0], [1, 1]])
    ids = collisions.reassign(
        codes, np.array([9, 0, 9]), column(0, 10, 11.6), codebooks, existing=existing
    )
    np.testing.assert_array_equal(ids, [[0, 1], [1, 0], [1, 2]])
    ids = collisions.reassign(codes[:0], np.empty(0), column(), codebooks, existing=existing)
    assert ids.shape == (0, 2)


def brute_force(codes, popularity, distances, existing):
    """Returns what `reassign` promises, item by item.

    `distances(item, prefix)` are those of the next level's codewords; `sizes` their numbers.
    """
    codes, sizes = [tuple(row) for row in codes.tolist()], distances.sizes
    by_popularity = sorted(range(len(codes)), key=lambda item: (-popularity[item], item))
    taken, ids = {tuple(row) for row in existing.tolist()}, {}
    for item in by_popularity:
        if codes[item] not in taken:
            ids[item] = codes[item]
            taken.add(codes[item])
    moved = [item for item in by_popularity if item not in ids]
    prefixes = dict.fromkeys(moved, ())
    for level, size in enumerate(sizes):
        groups = collections.defaultdict(list)
        for item in moved:
            groups[prefixes[item]].append(item)
        for prefix, items in groups.items():
            used = collections.Counter(id[level] for id in taken if id[:level] == prefix)
            room = [math.prod(sizes[level + 1 :]) - used[code] for code in range(size)]
            own = collections.Counter(codes[item][level] for item in items)
            is_own = all(prefix == codes[item][:level] for item in items)
            if is_own and all(own[code] <= room[code] for code in own):
                for item in items:
                    prefixes[item] = codes[item][: level + 1]
                continue
            while items:
                asks = collections.defaultdict(list)
                for place, item in enumerate(items):
                    far = distances(item, prefix)
                    far, code = min((far[code], code) for code in range(size) if room[code] > 0)
                    asks[code].append((far, place, item))
                for code, askers in asks.items():
                    for _, _, item in sorted(askers)[: room[code]]:
                        prefixes[item] = (*prefix, code)
                        items = [other for other in items if other != item]
                    room[code] -= min(room[code], len(askers))
    return np.array([ids.get(item, prefixes.get(item)) for item in range(len(codes))])


class Distances:
    """Distances from residuals to codewords, in float64."""

    def __init__(self, latents, codebooks, distance):
        self.latents, self.codebooks, self.distance = latents, codebooks, distance
        self.sizes = [len(codebook) for codebook in codebooks]

    def __call__(self, item, prefix):
        x = self.latents[item].astype(np.float64)
        x = x - sum(book[code] for book, code in zip(self.codebooks, prefix, strict=False))
        codebook = self.codebooks[len(prefix)]
        if self.distance == "euclidean":
            return ((x - codebook) ** 2).sum(axis=-1)
        return -(codebook @ x) / np.linalg.norm(codebook, axis=-1) / np.linalg.norm(x)

    def nearest(self, item):
        codes = ()
        for _ in self.codebooks:
            codes += (int(np.argmin(self(item, codes))),)
        return codes


def random_case(seed, sizes, num_items, distance="euclidean"):
    """Returns codes, popularity, latents, codebooks and distances; whole numbers have many ties."""
    rng = np.random.default_rng(seed)
    if distance == "euclidean":
        codebooks = [rng.integers(-9, 10, (size, 2)).astype(np.float32) for size in sizes]
        latents = rng.integers(-5, 6, (num_items, 2)).astype(np.float32)
    else:
        codebooks = [rng.standard_normal((size, 3), np.float32) for size in sizes]
        latents = rng.standard_normal((num_items, 3), np.float32)
    distances = Distances(latents, codebooks, distance)
    codes = np.array([distances.nearest(item) for item in range(num_items)])
    return codes, rng.integers(0, 3, num_items), latents, codebooks, distances


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "sizes, num_items, num_existing",
    [((4, 4), 12, 0), ((3, 5, 2), 30, 0), ((3, 5, 2), 14, 10), ((40,), 33, 7), ((2, 12, 3), 50, 9)],
)
def test_reassignment_is_what_it_says(sizes, num_items, num_existing, distance):
    for seed in range(8):
        codes, popularity, latents, codebooks, distances = random_case(
            seed, sizes, num_items, distance
        )
        every_id = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)
        existing = np.random.default_rng(seed).permutation(every_id)[:num_existing]
        ids = collisions.reassign(
            codes, popularity, latents, codebooks, distance=distance, existing=existing
        )
        np.testing.assert_array_equal(ids, brute_force(codes, popularity, distances, existing))
        every = np.concatenate([existing, ids])
        assert len(np.unique(every, axis=0)) == num_items + num_existing
        assert (every < sizes).all() and every.min() >= 0
        assert (ids != codes).any()


def test_reassignment_among_more_ids_than_an_int64_counts():
    codes, popularity, latents, codebooks, distances = random_case(0, (2, 256) * 8 + (3,), 30)
    codes, latents = codes.repeat(5, axis=0), latents.repeat(5, axis=0)
    popularity = np.arange(150) % 7
    distances.latents = latents
    ids = collisions.reassign(codes, popularity, latents, codebooks, existing=codes[:1])
    np.testing.assert_array_equal(ids, brute_force(codes, popularity, distances, codes[:1]))
    assert len(np.unique(ids, axis=0)) == 150
