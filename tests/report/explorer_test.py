import types

import numpy as np

from genrec_jax.report import explorer


def test_the_needed_items_and_the_most_common_others():
    counts = np.array([5, 0, 9, 7, 1, 9])
    needed = np.array([4, 1, 4])
    choose = explorer.choose_items
    assert choose(counts, needed, 4).tolist() == [1, 2, 4, 5]
    assert choose(counts, needed, 1).tolist() == [1, 4]  # all that are needed
    assert choose(counts, needed, 0).tolist() == choose(counts, needed, 6).tolist() == [*range(6)]


def test_a_title_that_is_a_whole_text_is_cut():
    titles = ["", "Soap", "w" * 300, "word " * 1000]
    corpus = types.SimpleNamespace(
        item_ids=["a", "b", "c", "d"], titles=titles, categories=[()] * 4
    )
    found = explorer.items(corpus, np.zeros(4, int), np.array([0, 1, 2, 3]), None, None)["titles"]
    assert found[:3] == titles[:3]
    assert found[3] == "word " * 59 + "word…"
