"""Items held out of training, to measure what is recommended of items that are new.

I items   N interactions   U users
"""

import dataclasses

import numpy as np

from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.corpus import Corpus
from genrec_jax.errors import UserError


def hold_out_items(corpus: Corpus, share: float, seed: int) -> Corpus:
    """Returns the corpus as if a share of its items had come after the training.

    The items are a seeded choice among those that are to be predicted in the test (Rajput et al.,
    2023, section 4.2), which are the only ones that tell something. Their events leave the training
    parts of the histories, and thereby also what is known of a user in the evaluation. Those after
    the training parts stay, so that a cold item is a target of the validation and the test, and may
    be in the history of a test target. A target whose history becomes empty is no target, as in
    `splits.temporal`.

    Raises:
        UserError: if the share amounts to no item.
    """
    test = corpus_lib.held_out_samples(corpus, "test")
    candidates = np.unique(corpus.items[test.target])
    num_cold = round(share * len(candidates))
    if num_cold == 0:
        raise UserError(
            f"--config.data.cold_share={share} of the {len(candidates)} items to predict in the "
            "test is none: give more, or 0 to hold none out"
        )
    is_cold = np.zeros(corpus.num_items, bool)
    is_cold[np.random.default_rng(seed).choice(candidates, num_cold, replace=False)] = True

    is_kept = ~(is_cold[corpus.items] & corpus_lib.in_training(corpus))  # [N]
    moved_to = np.concatenate([[0], np.cumsum(is_kept)])  # [N + 1], where each place is now
    items, offsets = corpus.items[is_kept], moved_to[corpus.offsets]
    targets = {}
    for split, places in corpus.splits.targets.items():
        moved = np.where(places >= 0, moved_to[places], -1)
        targets[split] = np.where(moved > offsets[:-1], moved, -1)
    asked = targets["test"][targets["test"] >= 0]
    facts = {
        "data/num_cold_items": num_cold,
        "data/num_cold_test_targets": int(is_cold[items[asked]].sum()),
    }
    return dataclasses.replace(
        corpus,
        items=items,
        offsets=offsets,
        times=None if corpus.times is None else corpus.times[is_kept],
        splits=dataclasses.replace(
            corpus.splits,
            train_ends=moved_to[corpus.splits.train_ends],
            targets=targets,
            facts=corpus.splits.facts | facts,
        ),
        is_cold=is_cold,
    )
