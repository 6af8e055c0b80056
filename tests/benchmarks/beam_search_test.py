"""A smoke run, and its operations against numbers worked by hand."""

import json

import numpy as np

from benchmarks import beam_search, common, retrieval_training
from tests.benchmarks.retrieval_training_test import TINY

RETRIEVAL = TINY | {"num_decoder_layers": 2}


def test_a_smoke_run(tmp_path):
    path = tmp_path / "report.json"
    common.run("beam_search", beam_search.cases, True, path, [])
    cases = json.loads(path.read_text())["cases"]
    assert [case["case"] for case in cases] == [
        "retrieval d64, 10 of 300",
        "hybrid, 10 of 300",
    ]
    for case in cases:
        assert case["rate"] > 0 and case["share_of_floor"] > 0
        assert case["unit"] == "users/s" and case["count"] == 16
        assert case["bytes"] == 4 * case["facts"]["num_parameters"] + 8 * 16 * 10


def test_operations_of_a_generator_worked_by_hand():
    # One item of three codes is read; the root and twice 4 beams are decoded. Kernels are 2 * 3.
    encoder = 3 * (4 * 6 + 20) + 2 * 3 * 3 * 3
    own = 1 * 2 * 1 * 3 + 4 * 2 * 2 * 3 + 4 * 2 * 3 * 3
    decoder = own + 9 * (6 * 6 + 2 * 3 * 3 + 20) + 2 * 3 * 6
    sizes, steps = beam_search.LEVEL_SIZES, beam_search.search_steps(4)
    flops = retrieval_training.forward_flops(RETRIEVAL, sizes, 10, 1, steps, "bfloat16")
    assert flops == {
        "bfloat16": 2 * 10 * (encoder + 2 * decoder),
        "float32": 2 * 10 * 2 * 9 * 256,
    }
    narrow = retrieval_training.forward_flops(
        RETRIEVAL | {"embedding_dim": 1}, sizes, 10, 1, steps, "bfloat16"
    )
    assert narrow["bfloat16"] - flops["bfloat16"] == 2 * 10 * (3 + 9) * 2


def test_operations_of_a_hybrid_worked_by_hand():
    model = {
        "encoder": {"dim": 2, "hidden_dim": 5, "num_layers": 1},
        "decoder": {"dim": 3, "hidden_dim": 7, "num_layers": 2},
    }
    # Two items are read; 1, 4 and 4 prefixes are searched, and 8 candidates judged of 3 codes.
    encoder = 2 * (4 * 4 + 20) + 2 * 3 * 2
    each = 6 * 9 + 2 * 2 * 3 + 42
    own = 2 * 3 * (1 * 1 + 4 * 2 + 4 * 3 + 8 * (1 + 2 + 3))
    decoder = own + (9 + 24) * each + 2 * 2 * 2 * 3
    flops = beam_search.hybrid_flops(model, 10, 2, 100, 4, "float32")
    heads = 3 * (9 + 24) * 256
    assert flops == {"float32": 2 * 10 * (encoder + 2 * decoder + 2 * 3 + 100 * 2 + heads)}


def test_ids_are_distinct_and_histories_whole():
    ids = beam_search.distinct_ids(5_000)
    assert ids.shape == (5_000, 3) and len(np.unique(ids, axis=0)) == 5_000
    assert ids.min() == 0 and ids.max() == 255
    every = retrieval_training.synthetic_data(40, 9)["samples"]
    whole = beam_search.whole_histories(every)
    assert whole.user.tolist() == list(range(40))
    for user in range(40):
        assert whole.target[user] == every.target[every.user == user].max()
        assert whole.start[user] == every.start[every.user == user].min()
