"""The corpus: a catalogue, the users' histories, oldest first, and the samples of each split."""

import dataclasses
import hashlib

import jax
import numpy as np
import scipy.sparse

from genrec_jax import files
from genrec_jax.data.splits import Splits


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Items are positions 0..I-1 everywhere; their names are kept beside.

    Attributes:
        item_ids: I names, as the source gives them.
        titles: I titles for people to read.
        texts: I sentences for an embedder to read.
        categories: I paths of names, coarse to fine; () for an item that has none.
        text_template: version of the template that made `texts`.
        user_ids: U names.
        items: [N] int32 item positions, user after user, each user's oldest first.
        offsets: [U + 1] int64; user u owns `items[offsets[u]:offsets[u + 1]]`.
        times: [N] int64 times in the source's unit, -1 where unknown; or None.
        splits: what is for training, and what is to be predicted.
        is_cold: [I] bool, the items that are held out of training, see `cold_start`.
        facts: metrics that the source states about itself.
    """

    item_ids: list[str]
    titles: list[str]
    texts: list[str]
    categories: list[tuple[str, ...]]
    text_template: str
    user_ids: list[str]
    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None
    splits: Splits
    is_cold: np.ndarray
    facts: dict[str, float]

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """Histories with their targets, as places in `Corpus.items`.

    Sample s asks for `items[target[s]]`, given the history `items[start[s]:target[s]]`.
    Each field is [S] int32.
    """

    user: np.ndarray
    start: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: np.ndarray) -> "Samples":
        return jax.tree.map(lambda field: field[rows], self)


def fingerprint(corpus: Corpus) -> str:
    """Returns a hash of the catalogue: every item's name and text, in order.

    Semantic IDs belong to a catalogue, so whoever reads them compares fingerprints.
    """
    digest = hashlib.sha256()
    for item_id, text in zip(corpus.item_ids, corpus.texts, strict=True):
        digest.update(f"{len(item_id)}:{item_id}{len(text)}:{text}".encode())
    return digest.hexdigest()[:16]


def interactions_fingerprint(corpus: Corpus) -> str:
    """Returns a hash of all histories and of their splits: all that training and evaluation see."""
    parts = corpus.splits.train_ends, *corpus.splits.targets.values()
    return files.digest(corpus.items, corpus.offsets, *parts)


def training_fingerprint(corpus: Corpus) -> str:
    """Returns a hash of the training parts of all histories."""
    return files.digest(corpus.items[in_training(corpus)], corpus.splits.train_ends)


def training_samples(corpus: Corpus) -> Samples:
    """Returns every prefix of every training history, with the item that follows it.

    The first item of a history follows nothing, so it is never a target.
    """
    starts, ends = corpus.offsets[:-1], corpus.splits.train_ends
    counts = np.maximum(ends - starts - 1, 0)  # [U]
    user = np.repeat(np.arange(corpus.num_users), counts)
    first = np.cumsum(counts) - counts  # [U] samples before each user's first one
    target = starts[user] + 1 + np.arange(counts.sum()) - first[user]
    return _samples(user, starts[user], target)


def whole_training_samples(corpus: Corpus) -> Samples:
    """Returns each training history of two items or more, its last item as the target."""
    starts, lasts = corpus.offsets[:-1], corpus.splits.train_ends - 1
    user = np.flatnonzero(lasts > starts)
    return _samples(user, starts[user], lasts[user])


def held_out_samples(corpus: Corpus, split: str) -> Samples:
    """Returns one sample a user that has a target in `split` (valid or test), in their order."""
    targets = corpus.splits.targets[split]
    user = np.flatnonzero(targets >= 0)
    return _samples(user, corpus.offsets[user], targets[user])


def choose_samples(samples: Samples, max_users: int) -> Samples:
    """Returns `max_users` of the samples, in their order, chosen at random; 0 chooses all.

    The choice is always the same, so that runs with different seeds are tested on the same users.
    """
    if not 0 < max_users < len(samples):
        return samples
    chosen = np.random.default_rng(0).choice(len(samples), max_users, replace=False)
    return samples.take(np.sort(chosen))


def training_counts(corpus: Corpus) -> np.ndarray:
    """Returns [I] int64: how often each item occurs in the training parts."""
    return np.bincount(corpus.items[in_training(corpus)], minlength=corpus.num_items)


def in_training(corpus: Corpus) -> np.ndarray:
    """Returns [N] bool: which interactions are for training."""
    ends = np.repeat(corpus.splits.train_ends, np.diff(corpus.offsets))
    return np.arange(len(corpus.items)) < ends


def training_sets(corpus: Corpus) -> scipy.sparse.csr_array:
    """Returns [U, I] float64: 1 where the user has the item in training, however often."""
    user = np.repeat(np.arange(corpus.num_users), np.diff(corpus.offsets))
    is_training = in_training(corpus)
    places = user[is_training], corpus.items[is_training]
    shape = corpus.num_users, corpus.num_items
    sets = scipy.sparse.coo_array((np.ones(len(places[0])), places), shape).tocsr()
    sets.data[:] = 1
    return sets


def summary(corpus: Corpus) -> dict[str, float]:
    """Returns the corpus's counts under `data/`, and the source's facts."""
    has_training = corpus.splits.train_ends > corpus.offsets[:-1]  # [U]
    has_target = np.any([places >= 0 for places in corpus.splits.targets.values()], axis=0)
    test = held_out_samples(corpus, "test")
    counts = {
        "num_items": corpus.num_items,
        "num_users": corpus.num_users,
        "num_interactions": len(corpus.items),
        "num_users_for_training_only": int((has_training & ~has_target).sum()),
        "num_repeated_test_targets": _num_repeated(corpus, test),
        "num_untrained_test_targets": int(
            (training_counts(corpus)[corpus.items[test.target]] == 0).sum()
        ),
    }
    counts = {f"data/{name}": value for name, value in counts.items()}
    return counts | corpus.splits.facts | corpus.facts


def _num_repeated(corpus: Corpus, samples: Samples) -> int:
    """Returns how many targets are in their own histories, so that `test_new` cannot hit them."""
    return sum(
        int(corpus.items[target] in corpus.items[start:target])
        for start, target in zip(samples.start, samples.target, strict=True)
    )


def _samples(user, start, target) -> Samples:
    return Samples(*(np.asarray(field, np.int32) for field in (user, start, target)))
