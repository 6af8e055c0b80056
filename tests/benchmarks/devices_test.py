"""One device and all, by their samples."""

import itertools
import json

import jax
import pytest

from benchmarks import common, devices
from genrec_jax.errors import UserError


def test_one_device_beside_all(tmp_path):
    path = tmp_path / "report.json"

    def tokenizer_alone(smoke):
        return itertools.islice(devices.cases(smoke), 2)

    common.run("devices", tokenizer_alone, True, path, [], devices.compare)
    report = json.loads(path.read_text())
    one, both = report["cases"]
    number = jax.device_count()
    assert [one["case"], both["case"]] == [
        "tokenizer, 1 device",
        f"tokenizer, {number} devices",
    ]
    assert (one["count"], both["count"]) == (2 * 64, 2 * 64 * number)
    assert one["flops"] == both["flops"] and one["unit"] == "samples/s"  # of a device
    ratio = both["rate"] / one["rate"]
    assert report["comparisons"] == {f"tokenizer, {number} devices / 1": pytest.approx(ratio)}


def test_one_device_alone_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"one device alone, .* XLA_FLAGS=--xla_force_host"):
        next(devices.cases(True))
