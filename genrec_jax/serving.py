"""Recommends from a folder that configs/export.py wrote. This file needs no other of the project.

Copy it out of the folder, to beside it or to your own code. It needs JAX, flatbuffers, by which JAX
reads what it has exported, and NumPy:

    import serving
    recommender = serving.Recommender("exported")
    recommender.recommend([["item-7", "item-42"], []])
"""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import export

FUNCTION, ARRAYS, CATALOGUE = "recommend.jax_export", "arrays.npz", "catalogue.json"


class Recommendations(NamedTuple):
    """The best items for one history, best first."""

    item_ids: list[str]
    scores: list[float]  # natural logarithms of the probabilities
    titles: list[str]


class Recommender:
    """The exported function with its arrays, on JAX's first device.

    Attributes:
        call: `call(histories, users)`, compiled for each number of histories, of places in the
            catalogue [B, length] int32, oldest first, -1 behind their ends, and numbers of users
            [B] int32, to places of the best items [B, k] int32, best first, -1 where fewer are
            allowed, and their scores [B, k] float32.
        length: the most items of a history that count, the last ones.
        k: how many items are recommended.
        item_ids, titles: of the catalogue, in its order.
    """

    def __init__(self, directory: str | pathlib.Path):
        """Reads the folder."""
        directory = pathlib.Path(directory)
        catalogue = json.loads((directory / CATALOGUE).read_text(encoding="utf-8"))
        self.item_ids, self.titles = catalogue["item_ids"], catalogue["titles"]
        self.length, self.k = catalogue["length"], catalogue["k"]
        self._needs_users = catalogue["needs_users"]
        self._places = {item_id: place for place, item_id in enumerate(self.item_ids)}
        with np.load(directory / ARRAYS, allow_pickle=False) as arrays:
            on_device = jax.device_put(dict(arrays))
        function = jax.jit(export.deserialize((directory / FUNCTION).read_bytes()).call)
        self.call = lambda histories, users: function(on_device, histories, users)

    def recommend(
        self, histories: Iterable[Iterable[str]], users: Sequence[int] | None = None
    ) -> list[Recommendations]:
        """Returns the best items for each history of item ids, oldest first, maybe none.

        Args:
            histories: one for each user.
            users: their numbers in the run's data set, which models with user tokens need.

        Raises:
            ValueError: if the catalogue lacks an item, a history is text, or users are missing.
        """
        histories = [self._read(history) for history in histories]
        if users is None and self._needs_users:
            raise ValueError("this model has user tokens: pass users, a number for each history")
        users = np.zeros(len(histories)) if users is None else np.asarray(users)
        if users.shape != (len(histories),):
            raise ValueError(f"users of shape {users.shape} for {len(histories)} histories")
        if not histories:
            return []
        rows = 1 << (len(histories) - 1).bit_length()  # so that few programs serve all calls
        places, padded_users = np.full((rows, self.length), -1, np.int32), np.zeros(rows, np.int32)
        padded_users[: len(users)] = users
        for row, history in enumerate(histories):
            places[row, : len(history)] = history
        items, scores = map(np.asarray, self.call(places, padded_users))
        return [
            Recommendations(
                [self.item_ids[item] for item in best[best >= 0]],
                best_scores[best >= 0].tolist(),
                [self.titles[item] for item in best[best >= 0]],
            )
            for best, best_scores in zip(items[: len(users)], scores, strict=False)
        ]

    def _read(self, history: Iterable[str]) -> list[int]:
        if isinstance(history, str):
            raise ValueError(f"{history!r} is one item, not a history: pass a list of items")
        item_ids = [str(item_id) for item_id in history]
        for item_id in item_ids:
            if item_id not in self._places:
                raise ValueError(f"the catalogue lacks {item_id!r}")
        return [self._places[item_id] for item_id in item_ids][-self.length :]
