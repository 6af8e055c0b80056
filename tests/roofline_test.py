"""The device's ceilings, with times that are given; see also tests/benchmarks/common_test.py."""

import jax

from genrec_jax import roofline


def test_ceilings_are_work_by_the_median_time(monkeypatch):
    results = []

    def measure(call, repeats, min_seconds):
        results.append(jax.eval_shape(call))
        return [0.5, 0.25, 4.0]

    monkeypatch.setattr(roofline, "measure", measure)
    ceilings = roofline.ceilings(True, 3, 0.0)
    assert ceilings == {
        "bfloat16": 2 * 512**3 / 0.5,
        "float32": 2 * 512**3 / 0.5,
        "float32_highest": 2 * 512**3 / 0.5,
        "copy": 2 * 4 * 2**22 / 0.5,
    }
    assert [str(result.dtype) for result in results] == ["bfloat16", *["float32"] * 3]
    assert [result.shape for result in results] == [(512, 512)] * 3 + [(2**22,)]
