"""What a run's page needs to show users and items one by one, as JSON.

Items are numbered in the order in which the page has them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genrec_jax.data.corpus import Corpus, Samples
from genrec_jax.decoding.beam_search import Beams
from genrec_jax.evaluators import semantic_ids as evaluator

_DIGITS = 4  # of log-probabilities
_LONGEST = 300  # letters of a title, which may be a whole text where items have no titles


class Found(NamedTuple):
    """What a model finds for S users."""

    items: list[np.ndarray]  # places in the catalogue, best first
    scores: list[list[float]] | None  # log-probabilities, where they are such
    beam_items: np.ndarray | None  # [S, W] those that the beam search reaches
    beams: list[Beams] | None  # of each level


def choose_items(counts: np.ndarray, needed: np.ndarray, num_items: int) -> np.ndarray:
    """Returns the items of a page: those `needed`, and the most common others, in their order.

    Args:
        counts: [I] how often each item occurs.
        needed: items that the page must have.
        num_items: how many there may be, if not more are needed; 0 for all.
    """
    if not 0 < num_items < len(counts):
        return np.arange(len(counts))
    needed = np.unique(needed)
    others = np.setdiff1d(np.argsort(-counts, kind="stable"), needed, assume_unique=True)
    return np.sort(np.concatenate([needed, others[: max(num_items - len(needed), 0)]]))


def items(
    corpus: Corpus,
    counts: np.ndarray,
    chosen: np.ndarray,
    semantic_ids: np.ndarray | None,
    neighbours: np.ndarray | None,
) -> dict[str, Any]:
    """Returns the items of the page.

    Args:
        corpus: the data set.
        counts: [I] how often each item occurs in training.
        chosen: [J] places in the catalogue.
        semantic_ids: [I, Q], None without any.
        neighbours: [J, N] numbers on the page of the items nearest to each, None without any.
    """
    labels = evaluator.category_labels(corpus.categories)
    return {
        "ids": [corpus.item_ids[item] for item in chosen],
        "titles": [_short(corpus.titles[item]) for item in chosen],
        "categories": [labels[item] or "" for item in chosen],
        "counts": counts[chosen].tolist(),
        "codes": None if semantic_ids is None else semantic_ids[chosen].tolist(),
        "neighbours": None if neighbours is None else neighbours.tolist(),
    }


def users(
    corpus: Corpus, samples: Samples, found: Found, chosen: np.ndarray, max_history: int
) -> list[dict[str, Any]]:
    """Returns the users of the page, whose items must be among those chosen."""
    number = {int(item): place for place, item in enumerate(chosen)}

    def numbers(places: np.ndarray) -> list[int]:
        return [number[int(item)] for item in places if item >= 0]

    described = []
    for row in range(len(samples)):
        history = corpus.items[samples.start[row] : samples.target[row]][-max_history:]
        user = {
            "id": corpus.user_ids[samples.user[row]],
            "history": numbers(history),
            "target": number[int(corpus.items[samples.target[row]])],
            "items": numbers(found.items[row]),
        }
        if found.scores is not None:
            user["scores"] = _rounded(found.scores[row])
        if found.beams is not None:
            user["beamItems"] = numbers(found.beam_items[row])
            user["beams"] = [_beams(level, row) for level in found.beams]
        described.append(user)
    return described


def _beams(level: Beams, row: int) -> list[tuple[int, int, float]]:
    """Returns code, number of the beam of the level before, and log-probability of each beam."""
    there = level.scores[row] > -np.inf
    fields = level.codes[row][there], level.parents[row][there]
    return list(
        zip(*(field.tolist() for field in fields), _rounded(level.scores[row][there]), strict=True)
    )


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1].rstrip()}…"


def _rounded(scores: Sequence[float]) -> list[float]:
    return np.round(np.asarray(scores, np.float64), _DIGITS).tolist()
