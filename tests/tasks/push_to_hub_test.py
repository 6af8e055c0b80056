"""A run that is pushed to a hub on this machine and fetched from it recommends the same."""

import errno
import importlib
import json
import os

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from configs import push_to_hub as config_file
from configs import recommend as recommend_config
from genrec_jax import checkpoint, files
from genrec_jax.errors import UserError
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import push_to_hub, recommend
from genrec_jax.tasks.tokenizer import load_or_make
from tests.recommender_test import CONFIG, ITEM_IDS, NUM_ITEMS, World

pytestmark = pytest.mark.once
HISTORIES = [["100", "101"], []]
METRICS = {
    "data/num_items": NUM_ITEMS,
    "test/recall@5": 0.25,
    "test/recall@10": 0.5,
    "test/ndcg@10": 0.375,
    "baseline/popularity/test/recall@10": 0.25,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the folder of a run whose config names places of this machine."""
    folder = tmp_path_factory.mktemp("secret") / "run"
    shop = {"seed": 0, "num_users": 30, "num_items": 100}
    data = common.data("synthetic").to_dict() | {"dir": f"{folder}/shop", "synthetic_shop": shop}
    places = {"cache_dir": f"{folder}/cache", "tokenizer": f"{folder}/ids", "data": data}
    World(folder, CONFIG | {"name": "retrieval"} | places)
    files.write_json(folder / "metrics.json", METRICS)
    (folder / "examples.json").write_text("[]")  # of users, who are nobody's business
    return folder


def push(folder, workdir, **settings):
    config = config_file.get_config()
    config.update({"run": str(folder), "repo": "me/shop"} | settings)
    workdir.mkdir(exist_ok=True)
    return push_to_hub.run(config, workdir)


def test_a_run_goes_to_the_hub_and_back(hub, finished, tmp_path):
    counts = push(finished, tmp_path / "push", private=True)
    assert hub.private == {"me/shop"}
    pushed = hub.repos["me/shop"][-1]
    assert counts["num_files"] == len(pushed)
    assert counts["megabytes"] == pytest.approx(sum(map(len, pushed.values())) / 1e6)
    outside = {name for name in pushed if not name.startswith("export/")}
    assert outside == {"README.md", "config.json", "metrics.json"}

    there = Recommender.load("hf://me/shop")
    here = Recommender.load(finished)
    assert there.recommend(HISTORIES) == here.recommend(HISTORIES)
    assert there.titles == here.titles and there.interactions == here.interactions

    # Nothing that is pushed names a place of this machine.
    assert not any(b"secret" in data for data in pushed.values())
    assert not any(str(tmp_path).encode() in data for data in pushed.values())
    emptied = {"cache_dir": "", "tokenizer": "", "data": here.config["data"] | {"dir": ""}}
    assert there.config == here.config | emptied == json.loads(pushed["config.json"])
    assert json.loads(pushed["metrics.json"]) == METRICS

    card = pushed["README.md"].decode()
    assert card.startswith("---\nlibrary_name: genrec_jax\ntags:\n- recommendation\n")
    assert "# shop\n" in card and "data set\n`synthetic` with 30 items" in card
    assert "| test | 0.2500 |  | 0.5000 | 0.3750 |" in card
    assert 'Recommender.load("hf://me/shop")' in card and '[["100", "101"]]' in card
    assert "`baseline` is what counting gives" in card
    assert not any(word in card for word in ("exported", "`generated`", "`reachable`", "cold"))


def test_the_card_names_the_edition_and_explains_the_rankings():
    config = config_file.get_config()
    config.repo = "me/movies"
    data = {"dataset": "movielens", "edition": "ml-1m"}
    meta = {"config": {"task": "hybrid", "name": "hybrid", "data": data}, "item_ids": ["1"]}
    card = push_to_hub._card(config, meta, {"scored/test/recall@10": 0, "generated/x/recall@10": 0})
    assert "`movielens` (`ml-1m`) with 1 items" in card
    assert "questions.\n`generated` ranks by semantic IDs alone, `scored` by the items'" in card
    assert "ranking" not in push_to_hub._card(config, meta, {"data/num_items": 1})


def test_the_stages_take_its_name(hub, finished, tmp_path, monkeypatch):
    push(finished, tmp_path / "push")
    (tmp_path / "histories.txt").write_text("u1 100 101\nu2\n")
    config = recommend_config.get_config()
    config.update({"run": "hf://me/shop", "histories": str(tmp_path / "histories.txt")})
    recommend.run(config, tmp_path / "push")
    lines = (tmp_path / "push/recommendations.jsonl").read_text().splitlines()
    expected = Recommender.load(finished).recommend(HISTORIES)
    assert [json.loads(line)["item_ids"] for line in lines] == [best.item_ids for best in expected]

    # The data set is prepared in the workdir.
    monkeypatch.chdir(tmp_path)
    config.histories = ""
    with pytest.raises(UserError, match="the data set of hf://me/shop has changed since it was"):
        recommend.run(config, tmp_path / "push")
    assert (tmp_path / "push/cache").is_dir() and not (tmp_path / "hf:").exists()


def test_what_others_load_goes_along(hub, finished, tmp_path):
    push(finished, tmp_path / "push", exported=True, export_config={"k": 5, "platforms": ("cpu",)})
    pushed = hub.repos["me/shop"][-1]
    assert not any(b"secret" in data for data in pushed.values())
    assert {"exported/serving.py", "exported/semantic_ids.parquet"} < set(pushed)
    assert "exported/` has what" in pushed["README.md"].decode()
    catalogue = json.loads(pushed["exported/catalogue.json"])
    assert catalogue["k"] == 5 and catalogue["item_ids"] == ITEM_IDS


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"run": ""}, "no --config.run: give the folder of a finished run"),
        ({"run": "nowhere"}, "no finished run in nowhere: metrics.json is missing"),
        ({"run": "hf://me/shop"}, "hf://me/shop is on the hub, where a run has what recomm"),
        ({"repo": "shop"}, "--config.repo='shop' must be USER/NAME"),
        ({"repo": "me/"}, "--config.repo='me/' must be USER/NAME"),
        (
            {"exported": True, "export_config": {"length": 2}},
            "--config.export_config.length=2 must be at least 3",
        ),
    ],
)
def test_mistakes_leave_nothing(finished, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        push(finished, tmp_path, **settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["add_items", "report", "summary", "tokenizer_report"])
def test_other_stages_take_folders_alone(tmp_path, stage):
    config = importlib.import_module(f"configs.{stage}").get_config()
    key = "runs" if stage == "summary" else "run"
    config[key] = "hf://me/shop"
    with pytest.raises(UserError, match=r"hf://me/shop is on the hub, where .*: give the folder"):
        importlib.import_module(f"genrec_jax.tasks.{stage}").run(config, tmp_path)


def test_no_tokenizer_is_taken_from_the_hub(tmp_path):
    with pytest.raises(UserError, match=r"hf://me/shop is on the hub, where .*: give the folder"):
        load_or_make(ConfigDict({"tokenizer": "hf://me/shop"}), None, tmp_path, tmp_path)


def test_a_full_disk_leaves_nothing_half_written(finished, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_json", fill)  # after the export is written
    with pytest.raises(OSError, match="No space left"):
        push(finished, tmp_path)
    assert not any(tmp_path.iterdir())


def test_only_recommenders_are_pushed(tmp_path):
    checkpoint.export(
        tmp_path / "ids",
        {"state": {"params": np.ones(2)}, "semantic_ids": np.ones(2)},
        {"config": {"task": "tokenizer"}},
    )
    files.write_json(tmp_path / "ids/metrics.json", {})
    with pytest.raises(UserError, match="is a run of tokenizer, which recommends nothing"):
        push(tmp_path / "ids", tmp_path / "push")
