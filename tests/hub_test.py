"""What is pushed to a hub on this machine, and fetched from it."""

import importlib
import pathlib
import sys
import tomllib

import pytest

from genrec_jax import files
from genrec_jax import hub as hub_lib
from genrec_jax.errors import UserError


def push(folder, private=False, **contents):
    """Pushes files, whose names have `__` for a slash, and digests of those in `export/`."""
    for name, text in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if (folder / "export").is_dir():
        files.write_digests(folder / "export", "**/*")
    return hub_lib.push(folder, "me/run", private=private)


def test_a_folder_is_itself():
    assert hub_lib.folder("runs/x") == pathlib.Path("runs/x")
    assert hub_lib.folder(pathlib.Path("hf://me/run")) == pathlib.Path("hf:/me/run")


def test_only_the_export_is_fetched(hub, tmp_path):
    contents = {"export__state__a": "1", "config.json": "{}", "serving.py": "raise", "x.pkl": "."}
    assert push(tmp_path / "run", **contents) == f"{hub.address}/me/run"
    fetched = hub_lib.folder("hf://me/run")
    there = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert there == {"config.json", "export/digests.json", "export/state/a"}
    assert not hub.private


def test_a_revision(hub, tmp_path, caplog):
    push(tmp_path / "run", export__a="old", README="old", notes="mine")
    push(tmp_path / "other", export__b="new", README="new")
    _, old, new = hub.names("me/run")
    with caplog.at_level("INFO", "genrec_jax"):
        assert (hub_lib.folder("hf://me/run") / "export/b").read_text() == "new"
    assert caplog.messages == [f"hf://me/run: commit {new}"]
    assert (hub_lib.folder(f"hf://me/run@{old}") / "export/a").read_text() == "old"
    # Nothing stays that a run consists of, and all else does.
    assert set(hub.repos["me/run"][2]) == {"export/b", "export/digests.json", "README", "notes"}
    assert hub_lib.folder("hf://me/run").name == new


def test_what_was_fetched_serves_without_a_network(hub, tmp_path, monkeypatch):
    push(tmp_path / "run", export__a="1")
    fetched = hub_lib.folder("hf://me/run")
    monkeypatch.setattr(hub, "answer", lambda *_: (503, {}, {}))
    assert hub_lib.folder("hf://me/run") == fetched


@pytest.mark.parametrize("name", ["export/a", "export/digests.json"])
def test_what_is_damaged(hub, tmp_path, name):
    push(tmp_path / "run", export__a="1")
    hub.repos["me/run"][-1][name] = b"2"
    with pytest.raises(UserError) as error:
        hub_lib.folder("hf://me/run")
    message = str(error.value)
    assert message.startswith("hf://me/run is no whole run of genrec_jax (/")
    assert f"{name} is damaged): name another, or delete {tmp_path}/hf_home/hub/models" in message


def test_of_what_is_no_run_nothing_is_fetched(hub, tmp_path):
    (tmp_path / "model/export").mkdir(parents=True)
    (tmp_path / "model/export/model.onnx").write_text("gigabytes")
    hub_lib.push(tmp_path / "model", "me/model", private=False)
    with pytest.raises(UserError, match=r"hf://me/model is no run of genrec_jax \(it has no expor"):
        hub_lib.folder("hf://me/model")
    assert not list((tmp_path / "hf_home").rglob("model.onnx"))


def test_what_is_not_there(hub, tmp_path):
    push(tmp_path / "run", export__a="1")
    remedy = r".*: check the name, the network, and who you are to the hub \(`hf auth login`, or HF"
    for name in ("hf://me/no", "hf://me/run@no", "hf://me/--"):
        with pytest.raises(UserError, match=name + ": " + remedy) as error:
            hub_lib.folder(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["hf://", "hf://run", "hf://me/run@", "hf://me/run/export"])
def test_malformed_names(name):
    with pytest.raises(UserError, match=f"{name} is no run on the hub: write hf://USER/NAME"):
        hub_lib.folder(name)


def test_another_page_in_its_place(hub, monkeypatch):
    monkeypatch.setattr(hub, "answer", lambda *_: (200, b"<html>Log in</html>", {}))
    with pytest.raises(UserError, match=r"hf://me/run: .*: check the name, the network"):
        hub_lib.folder("hf://me/run")


def test_bars_are_for_terminals(hub, tmp_path, capsys):
    push(tmp_path / "run", export__a="1")
    hub_lib.folder("hf://me/run")
    assert capsys.readouterr().err == ""
    from huggingface_hub import utils

    assert not utils.are_progress_bars_disabled()  # for others who use it


def test_who_may_not_push(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"me/run: .*401.*: check the name, .*`hf auth login`, or"):
        push(tmp_path / "run", a="1")
    assert not hub.repos


def test_what_must_be_private_is_not_public(hub, tmp_path):
    push(tmp_path / "run", a="1")
    with pytest.raises(UserError, match=r"me/run is there and is public: make it private on the"):
        push(tmp_path / "run", private=True, a="2")
    assert hub.repos["me/run"][-1] == {"a": b"1"}


def test_nobody_answers(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for ask in (lambda: push(tmp_path / "run", a="1"), lambda: hub_lib.folder("hf://me/run")):
        with pytest.raises(UserError, match=r"me/run: .*[^.]: check the name, the network"):
            ask()


def test_the_extra_is_that_of_the_project(monkeypatch):
    project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    (requirement,) = project["project"]["optional-dependencies"]["hub"]
    assert requirement in project["project"]["optional-dependencies"]["dev"]
    with pytest.raises(UserError) as error:
        hub_lib.folder("hf://me/run")
    expected = f"the Hugging Face hub needs the extra hub: pip install '{requirement}'"
    assert str(error.value) == expected


def test_settings_without_places():
    config = {
        "cache_dir": "cache",
        "data": {"dataset": "files", "dir": "shop", "text": "title", "items_file": "a.csv"},
        "tokenizer": "ids",
        "embedder": {"model": "~/t5", "path": "x.npy", "weights": [1, 2], "name": "lsa"},
        "other": {"a": "/home/me", "b": "./c", "model": "sentence-transformers/t5", "n": 3},
    }
    assert hub_lib.without_places(config) == {
        "cache_dir": "",
        "data": {"dataset": "files", "dir": "", "text": "title", "items_file": ""},
        "tokenizer": "",
        "embedder": {"model": "", "path": "", "weights": [1, 2], "name": "lsa"},
        "other": {"a": "", "b": "", "model": "sentence-transformers/t5", "n": 3},
    }


@pytest.mark.parametrize("name", ["hybrid", "retrieval", "sasrec"])
def test_every_place_in_a_config_is_known(name):
    def filled(tree):
        if isinstance(tree, dict):
            return {key: filled(value) for key, value in tree.items()}
        return "a/b" if tree == "" else tree

    config = filled(importlib.import_module(f"configs.{name}").get_config("files").to_dict())
    cleaned = files.flatten(hub_lib.without_places(config))
    kept = {key.removeprefix("tokenizer_config.") for key in cleaned if cleaned[key] == "a/b"}
    assert kept == {"data.text", "data.edition"}
    assert files.flatten(config)["data.dir"] == "a/b" and cleaned["data.dir"] == ""
