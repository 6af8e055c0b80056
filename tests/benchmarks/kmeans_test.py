"""A smoke run, its operations worked by hand, and what counts as the nearest code."""

import json

import numpy as np
import pytest

from benchmarks import common, kmeans


def test_a_smoke_run(tmp_path):
    common.run("kmeans", kmeans.cases, True, tmp_path / "report.json", [])
    cases = json.loads((tmp_path / "report.json").read_text())["cases"]
    assert {case["case"]: case["unit"] for case in cases} == {
        "fit 16, clusters": "fits/s",
        "balanced 16, clusters": "steps/s",
        "all rows, 3 x 16": "fits/s",
        "batches, 3 x 64": "fits/s",
        "steps, 64": "steps/s",
        "euclidean, random": "items/s",
        "cosine, random": "items/s",
        "chunks, random": "items/s",
        "euclidean, clusters": "items/s",
        "cosine, clusters": "items/s",
        "chunks, clusters": "items/s",
    }
    fit, balanced, rows, batches, steps, *nearest = cases

    facts = fit["facts"]
    assert facts["num_init"] == 3 and 3 * 2 <= facts["num_iterations"] <= 3 * 300
    assert facts["times_as_fast"] == facts["scikit_learn_seconds"] / facts["seconds"] > 0
    assert facts["inertia_ratio"] == facts["inertia"] / facts["scikit_learn_inertia"]
    assert facts["inertia_ratio"] == pytest.approx(1, abs=0.02)
    # 1,000 rows of 16 dimensions and 16 centroids: 256,000 products an iteration.
    assert fit["flops"] == {"float32_highest": 2 * 256_000 * facts["num_iterations"]}
    assert fit["bytes"] == 4 * (1000 * 16 + 16 * 16)
    assert balanced["flops"] == {"float32_highest": 2 * 256_000 * balanced["count"]}
    assert (balanced["facts"]["smallest"], balanced["facts"]["largest"]) == (62, 63)

    # 4,096 rows of 8 dimensions. Each of 3 levels assigns them 20 times, and once for the next.
    assert rows["flops"] == {"float32_highest": 2 * 3 * 21 * 4096 * 8 * 16}
    # 50 batches of 128 rows, all rows once to end with, and once for the next.
    assert batches["flops"] == {"float32_highest": 2 * 3 * (50 * 128 + 2 * 4096) * 8 * 64}
    assert batches["bytes"] == 4 * (4096 * 8 + 3 * 64 * 8)
    assert steps["flops"] == {"float32_highest": 2 * 2 * 4096 * 8 * 64}
    for case in nearest:
        assert case["facts"]["agreement"] >= 0.9999
        num_rows, width = (4096, 8) if "random" in case["case"] else (1000, 16)
        assert case["flops"] == {"float32_highest": 2 * num_rows * width * 16}


def test_a_code_agrees_if_no_other_is_nearer():
    x, codebook = np.array([[0.0], [1.0], [5.0]]), np.array([[0.0], [2.0], [2.0]])
    # 1 is as far from 0 as from 2, and 5 as far from one 2 as from the other.
    assert kmeans.agreement(x, codebook, np.array([0, 0, 1]), "euclidean") == (1, 0)
    assert kmeans.agreement(x, codebook, np.array([0, 2, 2]), "euclidean") == (1, 2 / 3)
    assert kmeans.agreement(x, codebook, np.array([2, 2, 0]), "euclidean") == (1 / 3, 1 / 3)


def test_cosines_know_no_length():
    x, codebook = np.array([[1.0, 2.0], [9.0, 1.0]]), np.array([[3.0, 0.0], [0.0, 0.1]])
    assert kmeans.agreement(x, codebook, np.array([1, 0]), "cosine") == (1, 0)
    assert kmeans.agreement(x, codebook, np.array([1, 0]), "euclidean") == (1, 0)
    x = np.array([[1.0, 2.0], [1.0, 0.4]])
    assert kmeans.agreement(x, codebook, np.array([1, 0]), "cosine") == (1, 0)
    assert kmeans.agreement(x, codebook, np.array([1, 0]), "euclidean") == (0.5, 0)
