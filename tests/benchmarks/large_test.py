"""The problems in small."""

import json

import jax
import pytest
from absl import flags

from benchmarks import common, large
from genrec_jax.errors import UserError


@pytest.mark.once
def test_histories_on_the_device_and_on_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(flags.FLAGS["only"], "value", ["histories"])
    path = tmp_path / "report.json"
    common.run("large", large.cases, True, path, [])
    cases = json.loads(path.read_text())["cases"]
    places = [case["case"].split(" interactions on the ")[1] for case in cases]
    assert places == ["device", "host"]
    for case in cases:
        assert case["rate"] > 0 and case["facts"]["peak_bytes"] > 0


@pytest.mark.once
def test_the_codes_of_all_items():
    step, codes = large.PROBLEMS["tokenizer"](True)
    number = jax.device_count()
    assert step.name == f"step, 768-d, {number} x 1 devices"
    assert codes.name == "codes of 2 k items"
    assert codes.call().shape == (2_000, 3)


def test_an_unknown_problem(monkeypatch):
    monkeypatch.setattr(flags.FLAGS["only"], "value", ["model", "modell"])
    with pytest.raises(UserError, match="--only: no 'modell': choose of tokenizer, histories, mod"):
        next(large.cases(True))
