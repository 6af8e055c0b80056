"""What a trained run recommends, for any histories.

recommender = Recommender.load("runs/retrieval-synthetic")
for best in recommender.recommend([["item-7", "item-42"], []], k=10):
    print(best.item_ids, best.scores, best.titles)
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import checkpoint, hub, sharding
from genrec_jax.data.corpus import Samples
from genrec_jax.decoding import reserve
from genrec_jax.decoding.beam_search import Beams
from genrec_jax.errors import UserError
from genrec_jax.evaluators import searchers
from genrec_jax.models import encoder_decoder, hybrid, sasrec

# What a run of each task exports for recommending.
_EXPORTS = {
    "retrieval": ("state", "semantic_ids"),
    "hybrid": ("state", "semantic_ids", "content"),
    "sasrec": ("state",),
}
UNKNOWN = ("error", "skip")  # what to do with items that the catalogue lacks
_SHORTEST = 64  # histories are filled up to so many items or more, to be of few different lengths


class Recommendations(NamedTuple):
    """The best items for one history, best first."""

    item_ids: list[str]
    scores: list[float]  # natural logarithms of the probabilities, see `searchers`
    titles: list[str]


class Recommender:
    """Searches the catalogue of a trained run with its model, on the devices of a mesh.

    If these are of several processes, all must make the same calls, and all get the results.

    Calls are compiled for numbers and lengths of histories that are powers of two, so that few
    programs serve all calls.

    Attributes:
        config: of the run, as nested dicts.
        corpus: the fingerprint of the catalogue, `corpus.fingerprint`.
        interactions: that of the histories it was trained on, `corpus.interactions_fingerprint`.
        item_ids: of the catalogue, in its order.
        titles: of these items.
    """

    def __init__(
        self,
        arrays: dict[str, Any],
        meta: dict[str, Any],
        mesh: jax.sharding.Mesh,
        batch_size: int | None,
    ):
        """Takes what `ranking` exports, its `state` on the mesh; `load` explains the rest."""
        self.config, self.corpus = meta["config"], meta["corpus"]
        self.interactions = meta["interactions"]
        self.item_ids, self.titles = meta["item_ids"], meta["titles"]
        self._batch_size = self.config["eval"]["batch_size"] if batch_size is None else batch_size
        if self._batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be at least 1")
        self._first_user = meta.get("first_user", 0)  # of runs that were trained elsewhere
        self._places = {item_id: place for place, item_id in enumerate(self.item_ids)}
        self._mesh = mesh
        self._unseen = meta.get("unseen_items")  # which runs of before do not say
        is_unseen = np.isin(np.arange(len(self.item_ids)), self._unseen or [])
        self._searcher = _searcher(arrays, meta, self._mesh, is_unseen)
        self._params = arrays["state"]["params"]

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike,
        batch_size: int | None = None,
        *,
        tokenizer: str | os.PathLike | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> "Recommender":
        """Returns the recommender of a finished retrieval run.

        Args:
            directory: the run's folder, or `hf://USER/NAME[@REVISION]` of one on the hub.
            tokenizer: the folder of a run of configs/add_items.py, whose items are recommended too.
            batch_size: the most histories that are searched at once, rounded up to a multiple of
                the devices that share them; None for as many as the run's evaluation took.
            mesh: the devices. A model that is too large for one is split by
                `sharding.make_mesh(model=2)`, whatever it was trained on. None for all, the whole
                model on each.

        Raises:
            UserError: if the folder is no finished retrieval run, its export is damaged, it cannot
                be fetched, or the tokenizer is not its own with items added.
        """
        mesh = sharding.make_mesh() if mesh is None else mesh
        arrays, meta = load_export(hub.folder(directory), mesh)
        if tokenizer is not None:
            task = meta["config"]["task"]
            if task != "retrieval":
                raise UserError(
                    f"{directory} is a run of {task}, which reads more of its items than their "
                    "IDs: leave out the tokenizer"
                )
            arrays["semantic_ids"], changes = _with_added_items(arrays, meta, tokenizer)
            meta = meta | changes
        return cls(arrays, meta, mesh, batch_size)

    def recommend(
        self,
        histories: Iterable[Iterable[str | int]],
        k: int = 10,
        *,
        exclude_history: bool = True,
        unseen_share: float | None = None,
        unknown: str = "error",
        users: Sequence[int] | None = None,
    ) -> list[Recommendations]:
        """Returns the k best items for each history; fewer only if fewer are allowed.

        Args:
            histories: item ids, oldest first; none are needed. The model reads the last ones
                (`max_history` of the run's config).
            k: how many items.
            exclude_history: whether items of a history, the whole of it, are not recommended.
            unseen_share: the share of the places for items that the run was not trained on: of the
                first r items, for each r, so many are such, rounded down, as far as there are any.
                Scores then need not descend: at a reserved place they are of the probability among
                such items. None for the share of the run's evaluation.
            unknown: `error`, or `skip` to do as if items that the catalogue lacks were not there.
            users: the numbers of the histories' users in the run's data set, which a model with
                user tokens reads, others not.

        Raises:
            UserError: if k is below 1, items are unknown, users are missing, or the share is not
                from 0 to below 1 or is one of a run that does not say what it was trained on.
        """
        if unknown not in UNKNOWN:
            raise UserError(f"unknown={unknown!r}: choose one of {', '.join(UNKNOWN)}")
        known = []
        for number, history in enumerate(histories):
            if isinstance(history, str):
                raise UserError(f"histories[{number}] is {history!r}, not a list of item ids")
            places, lacking = self.places(history)
            if lacking and unknown == "error":
                raise UserError(
                    f"histories[{number}]: {name_unknown(lacking)}: correct the history, or pass "
                    "unknown='skip'"
                )
            known.append(places)
        results = self.stream(
            known, k, exclude_history=exclude_history, unseen_share=unseen_share, users=users
        )
        return list(results)

    def places(self, history: Iterable[str | int]) -> tuple[np.ndarray, list[str]]:
        """Returns where a history's items stand in the catalogue, and the ids that it lacks."""
        item_ids = list(map(str, history))
        lacking = [item_id for item_id in item_ids if item_id not in self._places]
        known = [self._places[item_id] for item_id in item_ids if item_id in self._places]
        return np.array(known, np.int32), lacking

    def stream(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        *,
        exclude_history: bool,
        unseen_share: float | None,
        users: Sequence[int] | None,
    ) -> Iterator[Recommendations]:
        """Yields what `recommend` returns, for histories that are places in the catalogue."""
        if k < 1:
            raise UserError(f"k={k} must be at least 1")
        if unseen_share is None:
            unseen_share = self.config["eval"].get("unseen_share", 0.0)
        self._check_share(unseen_share)
        if users is None:
            if self.config["model"].get("num_user_bins"):
                raise UserError(
                    "this run's model reads user tokens (num_user_bins), so that it recommends to "
                    "the users of its data set only: leave out --config.histories, or pass users"
                )
            users = np.zeros(len(histories), np.int32)
        if len(users) != len(histories):
            raise UserError(f"{len(users)} users for {len(histories)} histories: give one for each")
        if not exclude_history:  # only what the model reads is needed
            histories = [history[-self.config["max_history"] :] for history in histories]
        find = functools.partial(
            self._find, self._searcher.search, histories, users, k, exclude_history
        )
        results = find(self._searcher.index, renormalize=False)
        if unseen_share and self._unseen:
            unseen_results = find(self._searcher.unseen_index, renormalize=True)
            results = (
                reserve.fill(*best, *unseen, self._searcher.is_unseen, unseen_share)
                for best, unseen in zip(results, unseen_results, strict=True)
            )
        found = (best for items, scores in results for best in zip(items, scores, strict=True))
        for items, scores in itertools.islice(found, len(histories)):
            items = items[:k][items[:k] >= 0]
            yield Recommendations(
                [self.item_ids[item] for item in items],
                scores[: len(items)].tolist(),
                [self.titles[item] for item in items],
            )

    def trace(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        *,
        exclude_history: bool,
        users: Sequence[int],
    ) -> tuple[np.ndarray, list[Beams]] | None:
        """Returns how the beam search for each of H histories goes; None if there is none.

        Takes what `stream` does, and returns the items that it finds, as places in the catalogue
        [H, W] int32, -1 where there are fewer, and the beams of each level, also on the host.
        """
        if self._searcher.trace is None:
            return None
        parts = self._find(
            self._searcher.trace,
            histories,
            users,
            k,
            exclude_history,
            self._searcher.index,
            renormalize=False,
        )
        return jax.tree.map(lambda *rows: np.concatenate(rows)[: len(histories)], *parts)

    def pure(
        self, k: int, length: int, *, exclude_history: bool
    ) -> tuple[Callable[..., tuple[jax.Array, jax.Array]], dict[str, np.ndarray]]:
        """Returns the search as a pure function, and the arrays that it reads, by name.

        `function(arrays, histories, users)` takes histories [B, L] int32, places in the catalogue,
        oldest first, -1 behind their ends, and the numbers of users [B] int32. It returns items
        [B, k] int32, best first, -1 where fewer are allowed, and scores [B, k] float32.

        Args:
            k: how many items.
            length: L.
            exclude_history: see `recommend`.
        """
        searcher = self._searcher
        read = {"params": self._params, "data": searcher.data, "index": searcher.index}
        leaves, tree = jax.tree_util.tree_flatten_with_path(read)
        arrays = {sharding.name(path): np.asarray(leaf) for path, leaf in leaves}
        names = list(arrays)

        def function(arrays, histories, users):
            read = jax.tree.unflatten(tree, [arrays[name] for name in names])
            start = jnp.arange(histories.shape[0], dtype=jnp.int32) * length
            samples = Samples(users + self._first_user, start, start + (histories >= 0).sum(axis=1))
            items, scores = searcher.search(
                read["params"],
                read["data"] | {"items": jnp.maximum(histories, 0).reshape(-1)},
                read["index"],
                samples,
                num_beams=self._num_beams(k),
                num_excluded=length if exclude_history else 0,
                renormalize=False,
            )
            return items[:, :k], scores[:, :k]

        return function, arrays

    def _num_beams(self, k: int) -> int:
        return min(max(self.config["eval"]["num_beams"], k), len(self.item_ids))

    def _check_share(self, unseen_share: float) -> None:
        if not 0 <= unseen_share < 1:
            raise UserError(f"unseen_share={unseen_share} must be at least 0 and below 1")
        if unseen_share and self._unseen is None:
            raise UserError(
                f"unseen_share={unseen_share} needs to know what this run was trained on, which it "
                "does not say, as it was made before runs did: train it again, or leave out the "
                "share"
            )

    def _find(
        self, search, histories, users, k: int, exclude_history: bool, index, *, renormalize: bool
    ) -> Iterator[tuple]:
        """Yields what `search` returns of batches of histories, the last one filled up."""
        rows = min(self._batch_size, _power_of_two(len(histories)))
        num_shards = self._mesh.shape["data"]
        rows = -(-rows // num_shards) * num_shards
        length = _power_of_two(max(_SHORTEST, max(map(len, histories), default=0)))
        options = {
            "num_beams": self._num_beams(k),
            "num_excluded": length if exclude_history else 0,
            "renormalize": renormalize,
        }
        batches = [slice(first, first + rows) for first in range(0, len(histories), rows)]
        return _one_ahead(
            self._call(search, index, histories[batch], users[batch], (rows, length), options)
            for batch in batches
        )

    def _call(self, search, index, histories, users, shape: tuple[int, int], options: dict):
        """Searches for a batch of histories, laid side by side and filled up to `shape`."""
        items = np.zeros(shape, np.int32)
        user, start, target = np.zeros((3, len(items)), np.int32)
        user[: len(users)] = users
        user += self._first_user
        start[:] = np.arange(len(items)) * items.shape[1]
        target[:] = start
        for row, history in enumerate(histories):
            items[row, : len(history)] = history
            target[row] += len(history)
        return search(
            self._params,
            self._searcher.data | {"items": sharding.replicate(self._mesh, items.ravel())},
            index,
            sharding.spread_rows(self._mesh, Samples(user, start, target)),
            **options,
        )


def load_export(
    directory: str | os.PathLike, mesh: jax.sharding.Mesh | None = None
) -> tuple[dict, dict]:
    """Returns what a run exports for recommending, see `checkpoint.load_export`."""
    _, meta = checkpoint.load_export(directory, ())
    task = meta["config"]["task"]
    if task not in _EXPORTS:
        raise UserError(
            f"{directory} is a run of {task}, which recommends nothing: give the folder of a run "
            "of configs/retrieval.py, configs/hybrid.py or configs/sasrec.py"
        )
    return checkpoint.load_export(directory, _EXPORTS[task], mesh)


def _searcher(arrays: dict, meta: dict, mesh, is_unseen: np.ndarray) -> searchers.Searcher:
    config = meta["config"]
    common = mesh, config["max_history"]
    if config["task"] == "sasrec":
        model = sasrec.from_config(config, len(meta["item_ids"]))
        return searchers.of_scorer(model, *common, is_unseen)
    if config["task"] == "hybrid":
        sizes, content = tuple(meta["level_sizes"]), arrays["content"]
        model = hybrid.from_config(config, len(meta["item_ids"]), content.shape[1], sizes)
        rest = sizes, content, is_unseen, config["eval"]["score_weight"]
        return searchers.of_hybrid(model, *common, arrays["semantic_ids"], *rest)
    model = encoder_decoder.from_config(config, meta["level_sizes"])
    return searchers.of_generator(model, *common, arrays["semantic_ids"], is_unseen)


def _with_added_items(arrays: dict, meta: dict, tokenizer) -> tuple[np.ndarray, dict]:
    """Returns the IDs of a run of configs/add_items.py, and what of `meta` they change."""
    added, added_meta = checkpoint.load_export(tokenizer, ("semantic_ids",))
    semantic_ids = added["semantic_ids"]
    places = {item_id: place for place, item_id in enumerate(added_meta["item_ids"])}
    own = [places.get(item_id) for item_id in meta["item_ids"]]
    if (
        "titles" not in added_meta
        or None in own
        or not np.array_equal(semantic_ids[own], arrays["semantic_ids"])
    ):
        raise UserError(
            f"{tokenizer} does not have the IDs of this run's items and more: give a run of "
            "configs/add_items.py on the tokenizer that it was trained with"
        )
    unseen = set(range(len(semantic_ids))) - set(own)
    unseen |= {own[item] for item in meta.get("unseen_items") or ()}
    changes = {key: added_meta[key] for key in ("corpus", "item_ids", "titles")}
    return semantic_ids, changes | {"unseen_items": sorted(unseen)}


def name_unknown(item_ids: Sequence[str]) -> str:
    """Returns how many items a history has that the catalogue lacks, and the first few of them."""
    first = ", ".join(map(repr, item_ids[:3])) + (", ..." if len(item_ids) > 3 else "")
    return f"the catalogue lacks {len(item_ids)} of its items ({first})"


def _power_of_two(number: int) -> int:
    """Returns the smallest power of two that is not below the number."""
    return 1 << max(number - 1, 0).bit_length()


def _one_ahead(calls: Iterator[tuple]) -> Iterator[tuple]:
    """Yields the calls' results on the host, while the devices compute the following call."""
    for before, _ in itertools.pairwise(itertools.chain(calls, [None])):
        yield jax.device_get(before)
