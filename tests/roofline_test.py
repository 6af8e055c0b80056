"""The device's ceilings, with times that are given, the floor and the clock."""

import jax
import jax.numpy as jnp

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


def test_the_floor_adds_the_precisions_and_takes_the_larger_of_arithmetic_and_traffic():
    ceilings = {"bfloat16": 8.0, "float32": 4.0, "copy": 2.0}
    flops = {"bfloat16": 16, "float32": 4}  # 2 + 1 seconds
    assert roofline.floor_seconds(flops, 4, ceilings) == 3
    assert roofline.floor_seconds(flops, 10, ceilings) == 5
    assert roofline.floor_seconds({}, 10, ceilings) == 5


def test_a_repeat_is_a_few_calls():
    called = []

    def call():
        called.append(1)
        return jnp.zeros(())

    assert len(roofline.measure(call, repeats=3, min_seconds=0.0)) == 3
    assert len(called) == 2 + 3
    called.clear()
    roofline.measure(call, repeats=2, min_seconds=1e9)
    assert len(called) == 2 + 2 * 20


def test_operations_are_added_by_precision():
    parts = {"bfloat16": 1, "float32": 2}, {"float32": 3}
    assert roofline.add_flops(*parts) == {"bfloat16": 1, "float32": 5}
