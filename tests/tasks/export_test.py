"""What is exported of a run, used by a process that has nothing of this project."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from pyarrow import parquet

from configs import export as config_file
from genrec_jax import checkpoint, hub, serving
from genrec_jax.errors import UserError
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import export
from tests.tasks.from_pytorch_test import (  # noqa: F401, files is a fixture
    HISTORIES,
    NUM_ITEMS,
    RQVAE,
    convert,
    files,
)

pytestmark = pytest.mark.once
HISTORY_IDS = [[f"i{item}" for item in history] for history in (*HISTORIES, [])]
USERS = [0, 1, 2, 5]
OUTSIDER = """
import json, sys
import serving
histories, users = json.load(sys.stdin)
found = serving.Recommender(".").recommend(histories, users)
print(json.dumps([found, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
OURS = {"genrec_jax", "absl", "flax", "grain", "ml_collections", "optax", "orbax", "pyarrow"}


@pytest.fixture(scope="module")
def exported(files, tmp_path_factory):  # noqa: F811
    """Returns the folders of a run and of what is exported of it."""
    run, folder = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("exported")
    convert(files, run, "rqvae", "decoder")
    config = config_file.get_config()
    config.run = str(run)
    assert export.run(config, folder)["data/num_items"] == NUM_ITEMS
    return run, folder


def test_an_outsider_recommends_what_the_python_api_does(exported):
    run, folder = exported
    command = [sys.executable, "-P", "-c", OUTSIDER]
    environment = os.environ | {"PYTHONPATH": str(folder), "XLA_FLAGS": ""}
    done = subprocess.run(
        command,
        input=json.dumps([HISTORY_IDS, USERS]),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, modules = json.loads(done.stdout)
    assert "jax" in modules and not OURS & set(modules)
    expected = Recommender.load(run).recommend(HISTORY_IDS, 10, users=USERS)
    for (item_ids, scores, titles), best in zip(found, expected, strict=True):
        assert item_ids == best.item_ids and titles == best.titles
        np.testing.assert_allclose(scores, best.scores, rtol=0, atol=1e-5)


def test_histories_of_the_loader(exported):
    recommender = serving.Recommender(exported[1])
    (expected,) = recommender.recommend(HISTORY_IDS[:1], USERS[:1])
    assert recommender.recommend([iter(HISTORY_IDS[0])], USERS[:1]) == [expected]
    assert recommender.recommend([], []) == []
    for histories, users, message in (
        (["i3"], [0], "'i3' is one item, not a history: pass a list of items"),
        ([["i3", "i9999"]], [0], "the catalogue lacks 'i9999'"),
        ([["i3"]], [0, 1], r"users of shape \(2,\) for 1 histories"),
        ([["i3"]], None, "this model has user tokens: pass users"),
    ):
        with pytest.raises(ValueError, match=message):
            recommender.recommend(histories, users)


def test_semantic_ids(exported):
    ids = RQVAE["cached_ids"].tolist()
    expected = [
        {"item_id": f"i{item}", "codes": ids[item], "title": f"Thing {item}"}
        for item in range(NUM_ITEMS)
    ]
    assert json.loads((exported[1] / "semantic_ids.json").read_text()) == expected
    assert parquet.read_table(exported[1] / "semantic_ids.parquet").to_pylist() == expected


@pytest.mark.parametrize("name, place", [("model", "."), ("tokenizer", "tokenizer")])
def test_parameters(exported, name, place):
    arrays, meta = checkpoint.load_export(exported[0] / place, ["state"])
    path = exported[1] / f"{name}.safetensors"
    tensors = safetensors.numpy.load_file(path)
    kernel = "encoder/blocks/1/feed_forward/up/kernel" if name == "model" else "codebooks"
    leaf = arrays["state"]["params"]
    for key in kernel.split("/"):
        leaf = leaf[key]
    np.testing.assert_array_equal(tensors[kernel], leaf)
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()["config"]) == hub.without_places(meta["config"])


def test_it_names_the_package_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)  # as if it were not installed
    config = config_file.get_config()
    config.run = "run"
    with pytest.raises(UserError, match=r"pip install 'safetensors>=0.5,<1'$"):
        export.run(config, tmp_path)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"run": ""}, "no --config.run: give the folder of a finished run"),
        ({"platforms": ("abacus",)}, r"platforms=\('abacus',\) must be some of cpu, cuda, rocm, t"),
        ({"length": 5}, "length=5 must be at least 20, which the model reads"),
    ],
)
def test_mistakes(exported, tmp_path, settings, message):
    config = config_file.get_config()
    config.update({"run": str(exported[0])} | settings)
    with pytest.raises(UserError, match=message):
        export.run(config, tmp_path)
