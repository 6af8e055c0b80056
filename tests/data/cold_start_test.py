"""Items held out of hand-made histories."""

import dataclasses

import numpy as np
import pytest

from genrec_jax.data import cold_start, embedders, splits
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.errors import UserError
from genrec_jax.evaluators import baselines
from tests.data.corpus_test import make, rows

# Item 9 is the only one to predict in the test, so it is the one held out.
HISTORIES = [[1, 9, 2, 9, 9], [9, 9], [9, 9, 3, 9], [4, 5, 6, 9], []]


def test_its_events_leave_the_training_parts_alone():
    corpus = dataclasses.replace(make(HISTORIES), times=np.arange(15))
    cold = cold_start.hold_out_items(corpus, share=0.9, seed=0)
    assert np.flatnonzero(cold.is_cold).tolist() == [9]
    assert cold.items.tolist() == [1, 2, 9, 9, 3, 9, 4, 5, 6, 9]
    assert cold.times.tolist() == [0, 2, 3, 4, 9, 10, 11, 12, 13, 14]
    assert cold.offsets.tolist() == [0, 4, 4, 6, 10, 10]
    assert cold.splits.train_ends.tolist() == [2, 4, 4, 8, 10]
    assert rows(cold, corpus_lib.training_samples(cold)) == [(0, [1], 2), (3, [4], 5)]
    # The third user had nothing else before the validation target, which is therefore none.
    assert rows(cold, corpus_lib.held_out_samples(cold, "valid")) == [
        (0, [1, 2], 9),
        (3, [4, 5], 6),
    ]
    assert rows(cold, corpus_lib.held_out_samples(cold, "test")) == [
        (0, [1, 2, 9], 9),
        (2, [3], 9),
        (3, [4, 5, 6], 9),
    ]
    summary = corpus_lib.summary(cold)
    assert (summary["data/num_cold_items"], summary["data/num_cold_test_targets"]) == (1, 3)
    assert (summary["data/num_users"], summary["data/num_interactions"]) == (5, 10)
    assert summary["data/num_users_for_training_only"] == 0  # the second has nothing left


def test_in_a_temporal_split():
    offsets = np.array([0, 4, 6, 9])
    times = np.array([1, 2, 5, 8, 3, 8, 1, 4, 9])
    corpus = dataclasses.replace(
        make([[9, 1, 9, 9], [9, 9], [2, 9, 9]]),
        times=times,
        splits=splits.temporal(offsets, times, valid_share=0.2, test_share=0.3),
    )
    # The periods begin at 4 and 8, and the second user comes before with nothing but the item.
    assert corpus.splits.targets["test"].tolist() == [3, 5, 8]
    cold = cold_start.hold_out_items(corpus, share=0.9, seed=0)
    assert cold.items.tolist() == [1, 9, 9, 9, 2, 9, 9]
    assert cold.offsets.tolist() == [0, 3, 4, 7]
    assert cold.splits.train_ends.tolist() == [1, 3, 5]
    assert rows(cold, corpus_lib.held_out_samples(cold, "valid")) == [(0, [1], 9), (2, [2], 9)]
    assert rows(cold, corpus_lib.held_out_samples(cold, "test")) == [(0, [1, 9], 9), (2, [2, 9], 9)]
    assert cold.splits.facts["data/num_cold_test_targets"] == 2
    assert cold.splits.facts["data/test_from"] == corpus.splits.facts["data/test_from"] == 8


def random_histories(rng, num_users=80, num_items=40):
    return [
        rng.integers(0, num_items, length).tolist() for length in rng.integers(3, 12, num_users)
    ]


def test_the_choice_is_a_seeded_share_of_the_items_to_predict():
    corpus = make(random_histories(np.random.default_rng(0)), num_items=40)
    targets = set(corpus.items[corpus.offsets[1:] - 1].tolist())
    assert 20 < len(targets) < 40

    def choose(share, seed):
        return np.flatnonzero(cold_start.hold_out_items(corpus, share, seed).is_cold).tolist()

    assert len(choose(0.25, 0)) == round(0.25 * len(targets))
    assert set(choose(0.9, 0)) < targets
    assert choose(0.25, 0) == choose(0.25, 0) != choose(0.25, 1)
    with pytest.raises(UserError, match=rf"cold_share=0.01 of the {len(targets)} items .* is none"):
        choose(0.01, 0)


def test_who_had_them_in_training_changes_nothing():
    """Two corpora that differ in cold items of the training parts alone, and in all else not."""
    rng = np.random.default_rng(1)
    histories = random_histories(rng)
    is_cold = cold_start.hold_out_items(make(histories, 40), 0.3, 0).is_cold

    def scattered():
        """Returns the histories with other cold items at other places of the training parts."""
        others = []
        for history in histories:
            training = [item for item in history[:-2] if not is_cold[item]]
            for item in rng.choice(np.flatnonzero(is_cold), rng.integers(1, 4)):
                training.insert(rng.integers(len(training) + 1), int(item))
            others.append([*training, *history[-2:]])
        return others

    whole = [make(scattered(), 40) for _ in range(2)]
    first, second = (cold_start.hold_out_items(corpus, 0.3, 0) for corpus in whole)

    def seen(corpus):
        """Returns all that training, the baselines and the cache's names see."""
        samples = corpus_lib.held_out_samples(corpus, "test")
        return {
            "samples": rows(corpus, corpus_lib.training_samples(corpus)),
            "whole": rows(corpus, corpus_lib.whole_training_samples(corpus)),
            "test": rows(corpus, samples),
            "counts": corpus_lib.training_counts(corpus).tolist(),
            "fingerprint": corpus_lib.training_fingerprint(corpus),
            "interactions": corpus_lib.interactions_fingerprint(corpus),
            "vectors": embedders.collaborative(corpus, 8, 0).tolist(),
            "popularity": baselines.popularity(corpus)(samples).tolist(),
            "itemknn": baselines.item_knn(corpus)(samples).tolist(),
            "cold": corpus.is_cold.tolist(),
        }

    assert seen(first) == seen(second)
    before = [seen(corpus) for corpus in whole]
    assert [name for name, value in before[0].items() if value == before[1][name]] == ["cold"]
    assert first.is_cold.tolist() == is_cold.tolist()
    assert (corpus_lib.training_counts(first)[is_cold] == 0).all()
    assert (embedders.collaborative(first, 8, 0)[is_cold] == 0).all()
    targets = first.items[corpus_lib.held_out_samples(first, "test").target]
    assert targets.tolist() == [history[-1] for history in histories]
