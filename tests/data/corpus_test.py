"""Leave-one-out splits, by hand.

Users: a has items 5 6 7 8, b has 1 2, c has 3, d has 9 9 4, e has none.
"""

import dataclasses

import jax
import numpy as np
import pytest

from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import splits
from genrec_jax.data.corpus import Corpus

HISTORIES = [[5, 6, 7, 8], [1, 2], [3], [9, 9, 4], []]


def make(histories=HISTORIES, num_items=10, texts=None):
    lengths = [len(history) for history in histories]
    return Corpus(
        item_ids=[f"i{n}" for n in range(num_items)],
        titles=[f"Item {n}" for n in range(num_items)],
        texts=texts or [f"text {n}" for n in range(num_items)],
        categories=[()] * num_items,
        text_template="1",
        user_ids=[f"u{n}" for n in range(len(histories))],
        items=np.array([item for history in histories for item in history], np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        times=None,
        splits=splits.leave_one_out(np.concatenate([[0], np.cumsum(lengths)])),
        is_cold=np.zeros(num_items, bool),
        facts={"reachable/test/recall@10": 0.5},
    )


def rows(corpus, samples):
    """Returns (user, history, target) of each sample."""
    return [
        (int(user), corpus.items[start:target].tolist(), int(corpus.items[target]))
        for user, start, target in zip(*jax.tree.leaves(samples), strict=True)
    ]


def test_training_uses_every_prefix_of_all_but_the_last_two_items():
    corpus = make()
    # Of users with fewer than three items all items are for training.
    assert rows(corpus, corpus_lib.training_samples(corpus)) == [(0, [5], 6), (1, [1], 2)]


def test_longer_histories_give_more_prefixes():
    corpus = make([[0, 1, 2, 3, 4, 5]])
    assert rows(corpus, corpus_lib.training_samples(corpus)) == [
        (0, [0], 1),
        (0, [0, 1], 2),
        (0, [0, 1, 2], 3),
    ]


def test_validation_predicts_the_last_item_but_one():
    corpus = make()
    samples = corpus_lib.held_out_samples(corpus, "valid")
    assert rows(corpus, samples) == [(0, [5, 6], 7), (3, [9], 9)]


def test_the_test_reads_the_validation_item():
    corpus = make()
    samples = corpus_lib.held_out_samples(corpus, "test")
    assert rows(corpus, samples) == [(0, [5, 6, 7], 8), (3, [9, 9], 4)]


def test_splits_of_random_histories_are_those_of_slices():
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 10, length).tolist() for length in rng.integers(0, 9, size=50)]
    corpus = make(histories)
    expected = {"train": [], "valid": [], "test": []}
    counts = [0] * 10
    for user, history in enumerate(histories):
        training = history
        if len(history) >= 3:
            training = history[:-2]
            expected["valid"].append((user, history[:-2], history[-2]))
            expected["test"].append((user, history[:-1], history[-1]))
        expected["train"] += [(user, training[:n], training[n]) for n in range(1, len(training))]
        for item in training:
            counts[item] += 1
    assert min(map(len, expected.values())) > 20
    assert rows(corpus, corpus_lib.training_samples(corpus)) == expected["train"]
    for split in ("valid", "test"):
        assert rows(corpus, corpus_lib.held_out_samples(corpus, split)) == expected[split]
    assert corpus_lib.training_counts(corpus).tolist() == counts


def test_counts_are_of_training_alone():
    counts = corpus_lib.training_counts(make())
    np.testing.assert_array_equal(counts, [0, 1, 1, 1, 0, 1, 1, 0, 0, 1])


def test_summary_counts_users_for_training_only():
    assert corpus_lib.summary(make()) == {
        "data/num_items": 10,
        "data/num_users": 5,
        "data/num_interactions": 10,
        "data/num_users_for_training_only": 2,  # the one without items is for nothing
        "data/num_repeated_test_targets": 0,
        "data/num_untrained_test_targets": 2,
        "reachable/test/recall@10": 0.5,
    }


def test_users_who_come_too_late_are_not_for_training():
    # The periods begin at 4 and 7. User 0 has events in training only, users 1 and 2 in one
    # held-out period only, user 3 in both, user 4 in all.
    offsets = np.array([0, 2, 3, 4, 6, 9])
    times = np.array([1, 2, 5, 8, 5, 8, 3, 4, 7])
    corpus = dataclasses.replace(
        make([[0, 1], [2], [3], [4, 5], [6, 7, 8]]),
        times=times,
        splits=splits.temporal(offsets, times, valid_share=0.33, test_share=0.33),
    )
    assert corpus.splits.facts["data/valid_from"] == 4
    assert corpus.splits.facts["data/test_from"] == 7
    assert corpus.splits.targets["test"].tolist() == [-1, -1, -1, 5, 8]
    assert corpus_lib.summary(corpus)["data/num_users_for_training_only"] == 1


def test_a_choice_of_samples():
    samples = corpus_lib.training_samples(make([[*range(10)] * 3]))
    assert len(samples) == 27
    for max_users in (0, 27, 28):
        assert corpus_lib.choose_samples(samples, max_users) is samples
    chosen = corpus_lib.choose_samples(samples, 5)
    rows = np.sort(np.random.default_rng(0).choice(27, 5, replace=False))
    assert chosen.target.tolist() == samples.target[rows].tolist()
    assert (np.diff(chosen.target) > 0).all() and len(chosen) == 5
    assert chosen.target.tolist() == corpus_lib.choose_samples(samples, 5).target.tolist()


def test_taking_samples():
    samples = corpus_lib.held_out_samples(make(), "test").take([1])
    assert [field.tolist() for field in jax.tree.leaves(samples)] == [[3], [7], [9]]
    assert len(samples) == 1


@pytest.mark.parametrize("change", ["name", "text", "order"])
def test_the_fingerprint_covers_names_texts_and_order(change):
    plain = corpus_lib.fingerprint(make())
    assert plain == corpus_lib.fingerprint(make([[1]]))  # histories are not the catalogue
    other = make()
    other.categories[3] = ("Bath",)  # nor are these, which no embedder reads
    assert plain == corpus_lib.fingerprint(other)
    if change == "name":
        other.item_ids[3] = "i3x"
    elif change == "text":
        other.texts[3] = "another"
    else:
        for names in (other.item_ids, other.texts):
            names[3], names[4] = names[4], names[3]
    assert corpus_lib.fingerprint(other) != plain
