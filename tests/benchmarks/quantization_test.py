"""A smoke run, and its operations and bytes against numbers worked by hand."""

import json

import numpy as np

from benchmarks import common, quantization


def test_a_smoke_run(tmp_path):
    common.run("quantization", quantization.cases, True, tmp_path / "report.json", [])
    cases = json.loads((tmp_path / "report.json").read_text())["cases"]
    assert {case["case"]: case["unit"] for case in cases} == {
        "quantise 8-d, 3 x 16": "items/s",
        "quantise 8-d, 3 x 16, xla": "items/s",
        "encode 768-d, quantise": "items/s",
        "encode 768-d in bfloat16, quantise": "items/s",
    }
    for case in cases:
        assert case["rate"] > 0 and case["share_of_floor"] > 0
    quantise, by_xla, encode, in_half = cases

    # 3 levels of 16 codewords, 8 wide: 3 * 16 * 8 = 384 products an item.
    assert quantise["count"] == 8192
    assert quantise["flops"] == {"float32_highest": 2 * 8192 * 384}
    assert quantise["bytes"] == 4 * (8192 * 8 + 384 + 8192 * 3)  # latents, codebooks, codes
    assert by_xla["flops"] == {"float32_highest": 2 * 2048 * 384}
    for case in (quantise, by_xla):
        assert case["facts"]["agreement"] >= 0.999

    # 768-64-32-16-8: 49,152 + 2,048 + 512 + 128 = 51,840.
    assert encode["count"] == 1024
    assert encode["flops"] == {"float32_highest": 2 * 1024 * (51_840 + 384)}
    assert encode["bytes"] == 4 * (1024 * 768 + 51_840 + 384 + 1024 * 3)
    assert in_half["flops"] == {"bfloat16": 2 * 1024 * 51_840, "float32_highest": 2 * 1024 * 384}
    assert in_half["bytes"] == 2 * (1024 * 768 + 51_840) + 4 * (384 + 1024 * 3)
    assert 0.5 < in_half["facts"]["agreement"] < 1


def test_the_default_shapes():
    # 3 levels of 256 codewords, 32 wide.
    flops = quantization.quantize_flops(1, 32, 3, 256, "xla")
    assert flops == {"float32_highest": 49_152}


def test_codes_in_float64():
    codebooks = [np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 1.0]])]
    latents = np.array([[1.0, 0.9], [3.0, 0.2]])
    assert quantization.codes_in_float64(latents, codebooks).tolist() == [[0, 1], [1, 0]]
