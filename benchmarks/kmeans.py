"""k-means: speed and inertia beside scikit-learn's, large sets, and whether codes are the nearest.

    python -m benchmarks.kmeans [--smoke] [--output=FILE.json]

The embeddings are those of Amazon Beauty with the configs' settings if the folder GENREC_DATA_DIR
has it, else random clusters of the same shape; the cases' names say which. All other data is
random. What stands in benchmarks/common.py about counting holds for all benchmarks. Of k-means
those products are counted that find the nearest centroids; seeding has none.

`all rows` and `batches` are residual k-means with Lloyd's iterations and with mini-batches, `steps`
are Lloyd's, and `euclidean`, `cosine` and `chunks` find the nearest codewords, by the two distances
and as k-means does. The facts of the JSON:

* of `fit`, medians over five seeds, with as many starts on either side and 300 iterations at most,
  scikit-learn on two threads, and ours when compiled: `seconds`, `scikit_learn_seconds`,
  `times_as_fast`, `inertia`, `scikit_learn_inertia`, `inertia_ratio`;
* of `balanced`, `inertia` and the sizes of the `smallest` and `largest` cluster;
* of `euclidean`, `cosine` and `chunks`, `agreement`, the share of codes that are those of a search
  in float64 or tie with them, and `ties`, the share that differ but tie.

N vectors   C width   Q levels   K codebook size   B batch
"""

import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from sklearn import cluster

from benchmarks import common
from configs import common as configs_common
from genrec_jax.data import datasets, embedders
from genrec_jax.quantizers import kmeans, vector

_NUM_SEEDS = 5
_NUM_INIT = 3
_MAX_ITERATIONS = 300
_NUM_THREADS = 2  # of scikit-learn
_TIE = 1e-9  # of the distance: distances in float64 that differ by less are equal
_ROWS_AT_ONCE = 2**14  # of the search in float64


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    name, embeddings = _embeddings(smoke)
    num_clusters = 16 if smoke else 256
    yield _fit(name, embeddings, num_clusters)
    yield _balanced(name, embeddings, num_clusters)

    num_rows = 2**12 if smoke else 10**6
    rows = jax.random.normal(jax.random.key(0), (num_rows, 8 if smoke else 32))
    large = 64 if smoke else 8192
    yield _residual(rows, (num_clusters,) * 3, max_iterations=20, batch_size=0)
    yield _residual(rows, (large,) * 3, max_iterations=50, batch_size=2 * large)
    yield _lloyd(rows, large)
    for data, x in (("random", rows), (name, jnp.asarray(embeddings))):
        codebook = x[:: len(x) // num_clusters][:num_clusters] + 0.1
        for how in (*vector.DISTANCES, "chunks"):
            yield _nearest(f"{how}, {data}", x, codebook, how)


def _embeddings(smoke: bool) -> tuple[str, np.ndarray]:
    """Returns what they are and [N, C] float32."""
    folder = os.environ.get("GENREC_DATA_DIR")
    if not smoke and folder and (pathlib.Path(folder) / datasets.FOLDERS["beauty"]).is_dir():
        with tempfile.TemporaryDirectory() as cache:
            corpus = datasets.load(cache, **configs_common.data("beauty").to_dict())
            settings = configs_common.embedder(smoke=False).to_dict()
            return "Beauty", embedders.embed(corpus, cache, **settings)
    return "clusters", clustered(*((1_000, 16) if smoke else (12_101, 224)))


def clustered(num_rows: int, width: int) -> np.ndarray:
    """Returns [N, C] float32 in 100 overlapping clusters, few of which have most rows."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 101)
    which = rng.choice(100, size=num_rows, p=shares / shares.sum())
    centers = rng.normal(size=(100, width))
    return (centers[which] + rng.normal(size=(num_rows, width))).astype(np.float32)


def _fit(name: str, embeddings: np.ndarray, num_clusters: int) -> common.Case:
    """Ours, measured again as all cases are, and scikit-learn's."""
    x = jnp.asarray(embeddings)

    def fit(seed):
        return kmeans.kmeans(
            jax.random.key(seed),
            x,
            num_clusters,
            num_init=_NUM_INIT,
            max_iterations=_MAX_ITERATIONS,
            batch_size=0,
            balanced=False,
        )

    def fit_with_scikit_learn(seed):
        model = cluster.KMeans(
            num_clusters, n_init=_NUM_INIT, max_iter=_MAX_ITERATIONS, random_state=seed
        )
        return model.fit(embeddings)

    num_iterations = int(fit(0).num_iterations)  # compiles
    seconds, fits = _timed(lambda seed: jax.block_until_ready(fit(seed)))
    with threadpoolctl.threadpool_limits(_NUM_THREADS):
        their_seconds, their_fits = _timed(fit_with_scikit_learn)
    inertia = statistics.median(float(fit.inertia) for fit in fits)
    their_inertia = statistics.median(float(fit.inertia_) for fit in their_fits)
    return common.Case(
        f"fit {num_clusters}, {name}",
        lambda: fit(0),
        "fits",
        1,
        assignment_flops(num_iterations * len(x), x.shape[1], num_clusters),
        x.nbytes + 4 * num_clusters * x.shape[1],
        {
            "num_init": _NUM_INIT,
            "num_iterations": num_iterations,
            "seconds": seconds,
            "scikit_learn_seconds": their_seconds,
            "times_as_fast": their_seconds / seconds,
            "inertia": inertia,
            "scikit_learn_inertia": their_inertia,
            "inertia_ratio": inertia / their_inertia,
        },
    )


def _timed(fit: Callable[[int], object]) -> tuple[float, list]:
    """Returns the median seconds of the fits with these seeds, and the fits."""
    seconds, fits = [], []
    for seed in range(_NUM_SEEDS):
        started = time.perf_counter()
        fits.append(fit(seed))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), fits


def _balanced(name: str, embeddings: np.ndarray, num_clusters: int) -> common.Case:
    """Ten iterations of equal shares."""
    x, num_iterations = jnp.asarray(embeddings), 10

    def fit():
        return kmeans.kmeans(
            jax.random.key(0),
            x,
            num_clusters,
            num_init=1,
            max_iterations=num_iterations,
            batch_size=0,
            balanced=True,
        )

    found = fit()
    assign = jax.jit(lambda x, centroids: kmeans.assign(x, centroids, balanced=True))
    counts = jnp.bincount(assign(x, found.centroids), length=num_clusters)
    return common.Case(
        f"balanced {num_clusters}, {name}",
        fit,
        "steps",
        int(found.num_iterations),
        assignment_flops(int(found.num_iterations) * len(x), x.shape[1], num_clusters),
        x.nbytes + 4 * num_clusters * x.shape[1],
        {
            "inertia": float(found.inertia),
            "smallest": int(counts.min()),
            "largest": int(counts.max()),
        },
    )


def _residual(
    x: jax.Array, level_sizes: tuple[int, ...], max_iterations: int, batch_size: int
) -> common.Case:
    """All levels, seeding included; on random rows no level ends before its last iteration."""

    def fit():
        return kmeans.residual_kmeans(
            jax.random.key(0),
            x,
            level_sizes=level_sizes,
            num_init=1,
            max_iterations=max_iterations,
            batch_size=batch_size,
            balanced=False,
        )

    # Mini-batches end with one iteration over all rows; what a level leaves over takes another.
    rows = max_iterations * (batch_size or len(x)) + (len(x) if batch_size else 0) + len(x)
    return common.Case(
        f"{'batches' if batch_size else 'all rows'}, {len(level_sizes)} x {level_sizes[0]}",
        fit,
        "fits",
        1,
        assignment_flops(rows * len(level_sizes), x.shape[1], level_sizes[0]),
        x.nbytes + 4 * sum(level_sizes) * x.shape[1],
        {"num_rows": len(x), "max_iterations": max_iterations, "batch_size": batch_size},
    )


def _lloyd(x: jax.Array, num_clusters: int) -> common.Case:
    """Two iterations over all rows."""
    lloyd = jax.jit(lambda x, centroids: kmeans.lloyd(x, centroids, max_iterations=2))
    centroids = x[:num_clusters]
    return common.Case(
        f"steps, {num_clusters}",
        lambda: lloyd(x, centroids),
        "steps",
        2,
        assignment_flops(2 * len(x), x.shape[1], num_clusters),
        2 * (x.nbytes + 2 * centroids.nbytes),
        {"num_rows": len(x)},
    )


def _nearest(name: str, x: jax.Array, codebook: jax.Array, how: str) -> common.Case:
    """One level's codes; `how` is a distance, or `chunks` for how k-means assigns."""
    if how == "chunks":
        distance, nearest = "euclidean", jax.jit(kmeans.assign)
    else:
        distance = how
        nearest = jax.jit(lambda x, codebook: vector.nearest_codeword(x, codebook, distance))
    share, ties = agreement(
        np.asarray(x), np.asarray(codebook), np.asarray(nearest(x, codebook)), distance
    )
    return common.Case(
        name,
        lambda: nearest(x, codebook),
        "items",
        len(x),
        assignment_flops(len(x), x.shape[1], len(codebook)),
        x.nbytes + codebook.nbytes + 4 * len(x),
        {"agreement": share, "ties": ties},
    )


def agreement(
    x: np.ndarray, codebook: np.ndarray, codes: np.ndarray, distance: str
) -> tuple[float, float]:
    """Returns the share of codes [N] that are nearest, or as near as that, and of those as near.

    Every row of x [N, C] is compared with all of codebook [K, C] in float64.
    """
    codebook = codebook.astype(np.float64)
    if distance == "cosine":
        codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
    num_agreeing = num_ties = 0
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = x[start : start + _ROWS_AT_ONCE].astype(np.float64)
        chosen = codes[start : start + _ROWS_AT_ONCE, None]
        if distance == "cosine":
            distances = -(rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ codebook.T
        else:
            distances = -2 * rows @ codebook.T + (codebook**2).sum(axis=1)
            distances += (rows**2).sum(axis=1, keepdims=True)
        nearest = distances.argmin(axis=1, keepdims=True)
        least, ours = (np.take_along_axis(distances, codes, axis=1) for codes in (nearest, chosen))
        is_same = nearest == chosen
        is_tie = ~is_same & (ours - least < _TIE * np.abs(least))
        num_agreeing += int((is_same | is_tie).sum())
        num_ties += int(is_tie.sum())
    return num_agreeing / len(x), num_ties / len(x)


def assignment_flops(num_rows: int, width: int, num_clusters: int) -> dict[str, int]:
    """Returns those of the products of rows and centroids."""
    return {"float32_highest": 2 * num_rows * width * num_clusters}


if __name__ == "__main__":
    common.main("kmeans", cases)
