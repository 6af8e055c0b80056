"""The generated shop keeps its promises."""

import numpy as np
import pytest

from genrec_jax.data.sources import synthetic

SEED, USERS, ITEMS = 3, 3000, 150


@pytest.fixture(scope="module")
def shop():
    records = synthetic.source(SEED, USERS, ITEMS).read()
    return list(records.items), list(records.users), records.facts


def test_equal_arguments_give_equal_records(shop):
    records = synthetic.source(SEED, USERS, ITEMS).read()
    assert (list(records.items), list(records.users), records.facts) == shop
    assert list(synthetic.source(SEED + 1, USERS, ITEMS).read().users) != shop[1]


def test_the_hash_covers_all_arguments():
    arguments = [(3, 41, 150), (4, 40, 150), (3, 42, 150), (3, 41, 151), (3, 4, 1150), (34, 1, 150)]
    hashes = [synthetic.source(*each).content_hash for each in arguments]
    assert len(set(hashes)) == len(hashes)
    assert synthetic.source(*arguments[0]).content_hash == hashes[0]


def test_items_say_what_they_are(shop):
    items, _, _ = shop
    assert len({item["title"] for item in items}) == ITEMS
    for item in items:
        ((department, section, kind),) = item["categories"]
        assert kind in synthetic._TREE[department][section]
        assert item["brand"] in item["title"] and kind in item["title"]


def test_nobody_buys_an_item_twice(shop):
    _, users, _ = shop
    assert len(users) == USERS
    for user in users:
        assert len(set(user["items"])) == len(user["items"]) == len(user["times"])
        assert 2 <= len(user["items"]) <= 30


def test_text_predicts_behaviour(shop):
    """Pairs in a row share section or brand far more often than pairs at random do."""
    items, users, _ = shop
    section = np.array([item["categories"][0][1] for item in items])
    pairs = np.concatenate([np.stack([u["items"][:-1], u["items"][1:]], 1) for u in users])
    shuffled = np.random.default_rng(0).permutation(pairs[:, 1])
    together = (section[pairs[:, 0]] == section[pairs[:, 1]]).mean()
    by_chance = (section[pairs[:, 0]] == section[shuffled]).mean()
    assert together > 3 * by_chance


def test_the_kernel_follows_from_what_items_say(shop):
    """Chances after an item: by kind, times popularity, 4 for the brand, 3 for the style."""
    items, _, _ = shop
    rng, _ = np.random.default_rng(SEED).spawn(2)
    same_items, kernel, popularity = synthetic._catalogue(rng, ITEMS)
    assert same_items == items
    # Popularities are 1 / sqrt(rank), in some order.
    ranked = np.sort(popularity)[::-1]
    np.testing.assert_allclose(ranked[0] / ranked, np.sqrt(np.arange(1, ITEMS + 1)))
    np.testing.assert_allclose([kernel.sum(axis=1).mean(), popularity.sum()], 1)
    follower = {}
    for row, item in enumerate(items):
        mine, weight, next_kinds = describe(item), np.zeros(ITEMS), set()
        for column, other in enumerate(items):
            theirs = describe(other)
            shared = sum(a == b for a, b in zip(mine[:3], theirs[:3], strict=True))
            weight[column] = [0.004, 0.15, 1.5, 6][shared]
            weight[column] *= 4 if mine[3] == theirs[3] else 1
            weight[column] *= 3 if mine[4] == theirs[4] else 1
        weight *= popularity
        ratio = kernel[row] / weight
        usual = np.median(ratio)  # one kind in 72 is the usual next, so most are not
        for column in np.flatnonzero(~np.isclose(ratio, usual)):
            theirs = describe(items[column])
            shared = sum(a == b for a, b in zip(mine[:3], theirs[:3], strict=True))
            expected = 10 / [0.004, 0.15, 1.5, 6][shared]
            assert ratio[column] / usual == pytest.approx(expected)
            next_kinds.add(theirs[2])
        assert len(next_kinds) == 1  # every kind has items in this shop
        assert follower.setdefault(mine[2], next_kinds) == next_kinds


def describe(item):
    """Returns department, section, kind, brand and style."""
    (path,) = item["categories"]
    style = item["title"].removeprefix(f"{item['brand']} ").partition(f" {path[2]}, Model ")[0]
    return *path, item["brand"], style


def oracle_lists(users, from_end):
    """Returns the ten likeliest items of each user by the shop's own process, and the mass."""
    rng, _ = np.random.default_rng(SEED).spawn(2)
    _, kernel, popularity = synthetic._catalogue(rng, ITEMS)
    lists, masses = [], []
    for user in users:
        history = user["items"][: len(user["items"]) - from_end]
        pull = popularity
        for place, item in enumerate(history):
            pull = kernel[item] if place == 0 else 0.5 * pull + 0.5 * kernel[item]
        pull = pull.copy()
        pull[history] = 0
        pull /= pull.sum()
        best = np.argsort(-pull)[:10]
        lists.append(best)
        masses.append(pull[best].sum())
    return np.array(lists), np.array(masses)


@pytest.mark.parametrize("split, from_end", [("test", 1), ("valid", 2)])
def test_the_reachable_recall_is_that_of_the_process(shop, split, from_end):
    _, users, facts = shop
    users = [user for user in users if len(user["items"]) >= 3]
    lists, masses = oracle_lists(users, from_end)
    stated = facts[f"reachable/{split}/recall@10"]
    assert stated == pytest.approx(masses.mean(), rel=1e-9)
    hits = [user["items"][-from_end] in best for user, best in zip(users, lists, strict=True)]
    # 3000 draws: a standard deviation is at most .5 / 3000 ** .5 = .0091.
    assert abs(np.mean(hits) - stated) < 0.03
