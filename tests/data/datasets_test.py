"""From a name to a corpus."""

import pytest

from genrec_jax.data import datasets
from genrec_jax.errors import UserError

LEAVE_ONE_OUT = {"split": "leave_one_out", "valid_share": 0.1, "test_share": 0.1}
SHOP = {"seed": 0, "num_users": 20, "num_items": 100}


def write(folder):
    folder.mkdir(parents=True)
    (folder / "items.jsonl").write_text('{"item_id": "a", "title": "Soap"}\n')
    (folder / "sequences.txt").write_text("u a\n")


def load(cache, dataset, folder="", **changes):
    return datasets.load(
        cache, dataset=dataset, dir=str(folder), synthetic_shop=SHOP, **LEAVE_ONE_OUT | changes
    )


def test_the_synthetic_shop_needs_no_folder(tmp_path):
    corpus = load(tmp_path, "synthetic")
    assert (corpus.num_users, corpus.num_items) == (20, 100)


def test_a_folder_may_be_given(tmp_path):
    write(tmp_path / "mine")
    assert load(tmp_path, "files", tmp_path / "mine").titles == ["Soap"]
    assert load(tmp_path, "beauty", tmp_path / "mine").titles == ["Soap"]


def test_named_sets_are_found_in_the_environment(tmp_path, monkeypatch):
    write(tmp_path / "amazon2014-toys")
    monkeypatch.setenv("GENREC_DATA_DIR", str(tmp_path))
    assert load(tmp_path, "toys").titles == ["Soap"]
    with pytest.raises(UserError, match=r"no folder .*amazon2014-beauty"):
        load(tmp_path, "beauty")


def test_a_given_folder_comes_before_the_environment(tmp_path, monkeypatch):
    write(tmp_path / "mine")
    monkeypatch.setenv("GENREC_DATA_DIR", str(tmp_path / "nowhere"))
    assert load(tmp_path, "beauty", tmp_path / "mine").titles == ["Soap"]


def test_without_a_place_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("GENREC_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"beauty: .*--config.data.dir, or .*GENREC_DATA_DIR"):
        load(tmp_path, "beauty")
    with pytest.raises(UserError, match=r"files: give its folder by --config.data.dir$"):
        load(tmp_path, "files")
