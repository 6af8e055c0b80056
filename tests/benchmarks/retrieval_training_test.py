"""A smoke run, and its operations and bytes against numbers worked by hand."""

import json

import numpy as np
import pytest

from benchmarks import common, retrieval_training
from configs import retrieval

TINY = {
    "dim": 2,
    "embedding_dim": 2,
    "num_heads": 1,
    "head_dim": 3,
    "hidden_dim": 5,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
}


def test_a_smoke_run(tmp_path):
    path = tmp_path / "report.json"
    common.run("retrieval_training", retrieval_training.cases, True, path, [])
    cases = json.loads(path.read_text())["cases"]
    assert [case["case"] for case in cases] == [
        "d64, dropout 0.2, EMA, padded",
        "d64, dropout 0.2, packed, loop",
    ]
    for case in cases:
        assert case["rate"] > 0 and case["share_of_floor"] > 0
        assert case["unit"] == "steps/s" and case["count"] == 2
    padded, packed = cases

    # Width 64, 2 heads of 32, hidden 256; 6 * 4 = 24 places read and 4 written, 1 + 1 layers.
    kernel, hidden = 64 * 64, 2 * 64 * 256
    encoder = 24 * (4 * kernel + hidden) + 2 * 24 * 24 * 64
    decoder = 4 * (6 * kernel + hidden) + 24 * 2 * kernel + 2 * (10 + 4 * 24) * 64
    heads = 4 * 64 * 256
    assert padded["flops"] == {"float32": 2 * 3 * 2 * 16 * (encoder + decoder + heads)}
    # Attention, feed-forward, norms, relative biases, tokens and start, heads.
    num_parameters = 12 * kernel + 2 * hidden + 7 * 64 + 2 * 32 * 2 + (1024 + 1) * 64 + heads
    assert padded["facts"]["num_parameters"] == num_parameters
    # Each step moves the parameters, their average and two moments twice, and reads 7 items with
    # 4 codes each for 16 users.
    assert padded["bytes"] == 2 * 4 * (8 * num_parameters + 16 * 7 * 5)

    # A row of 6 places is shared, and there is no average.
    assert padded["facts"]["filled"] < 0.8 < packed["facts"]["filled"] < 1
    assert packed["flops"]["float32"] < 0.8 * padded["flops"]["float32"]
    assert packed["bytes"] == 2 * 4 * (6 * num_parameters + 16 * 7 * 5)


def test_operations_worked_by_hand():
    # One item of two levels, 7 and 8 codes: 2 places read, 2 written; kernels of 2 * 3 = 6.
    encoder = 2 * (4 * 6 + 20) + 2 * 4 * 3  # 112
    decoder = 2 * 4 * 6 + 2 * 3 * 3 + 2 * 4 * 6 + 2 * 4 * 3 + 2 * 20  # 178: 3 pairs are causal
    flops = retrieval_training.training_flops(TINY, (7, 8), 10, np.array([1]), "bfloat16")
    assert encoder + decoder == 290
    assert flops == {"bfloat16": 3 * 2 * 10 * 290, "float32": 3 * 2 * 10 * 2 * 15}
    # A narrower token table is followed by a projection at each of the 4 places.
    narrow = retrieval_training.training_flops(
        TINY | {"embedding_dim": 1}, (7, 8), 10, np.array([1]), "float32"
    )
    assert narrow == {"float32": 3 * 2 * 10 * (290 + 4 * 2 + 2 * 15)}
    # Two items more for half of the histories: 4 places read, which 2 written ones look at.
    longer = 4 * (4 * 6 + 20) + 2 * (36 - 4) * 3 + 4 * 2 * 6 + 2 * 2 * 4 * 3
    mixed = retrieval_training.training_flops(TINY, (7, 8), 10, np.array([1, 3]), "bfloat16")
    assert mixed["bfloat16"] == 3 * 2 * (10 * 290 + 5 * longer)


def test_the_operations_of_the_default_model():
    flops = retrieval_training.training_flops(
        retrieval.get_config("beauty").model,
        retrieval_training.LEVEL_SIZES,
        256,
        np.array([20]),
        "bfloat16",
    )
    # 80 places: 4 kernels of 128 * 384 and two of 128 * 1024 each, and attention among 80.
    encoder = 80 * (196_608 + 262_144) + 2 * 80 * 80 * 384
    decoder = 4 * (6 * 49_152 + 262_144) + 80 * 2 * 49_152 + 2 * (10 + 4 * 80) * 384
    assert flops["bfloat16"] == 6 * 256 * 4 * (encoder + decoder)
    assert flops["float32"] == 6 * 256 * 128 * 1024


def test_histories_are_as_long_as_those_of_beauty():
    data = retrieval_training.synthetic_data(22_363, 12_101)
    samples = data["samples"]
    lengths = samples.target - samples.start
    assert lengths.min() == 1
    assert np.minimum(lengths, 20).mean() == pytest.approx(6, abs=0.5)
    # All but the last two of each user's items, of which Beauty has 198,502.
    assert len(data["items"]) + 2 * 22_363 == pytest.approx(198_502, rel=0.1)
    # A user's samples are every prefix of one stretch.
    ours = samples.user == samples.user[0]
    assert (samples.start[ours] == 0).all()
    assert samples.target[ours].tolist() == list(range(1, ours.sum() + 1))
    after = ours.sum() + 1
    assert samples.start[~ours][0] == after and samples.target[~ours][0] == after + 1
    assert samples.target.max() == len(data["items"]) - 1
    assert data["semantic_ids"].shape == (12_101, 4) and data["semantic_ids"].max() == 255
    assert data["items"].max() < 12_101
