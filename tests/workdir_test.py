"""A run's folder."""

import pytest

from genrec_jax import errors, files, workdir
from genrec_jax.errors import UserError

CONFIG = {"seed": 1, "model": {"dims": (4, 2), "dropout": 0.1}}


def fail():
    raise AssertionError("ran again")


def interrupt():
    raise KeyboardInterrupt


def test_a_finished_run_is_not_run_again(tmp_path):
    assert workdir.run_once(tmp_path / "a", CONFIG, lambda: {"x": 1.5}) == {"x": 1.5}
    assert files.read_json(tmp_path / "a" / "config.json")["model"]["dims"] == [4, 2]
    assert workdir.run_once(tmp_path / "a", CONFIG, fail) == {"x": 1.5}


def test_a_finished_run_is_run_again_on_demand(tmp_path):
    for number in (1, 2):
        values = {"x": number}
        assert workdir.run_once(tmp_path, CONFIG, lambda v=values: v, again=True) == values
        assert files.read_json(tmp_path / "metrics.json") == values


def test_running_again_may_change_the_config_but_not_the_task(tmp_path):
    config = CONFIG | {"task": "recommend"}
    workdir.run_once(tmp_path, config, lambda: {"x": 1}, again=True)
    with pytest.raises(KeyboardInterrupt):
        workdir.run_once(tmp_path, config | {"seed": 2}, interrupt, again=True)
    assert not (tmp_path / "metrics.json").exists()  # of yesterday
    assert files.read_json(tmp_path / "config.json")["seed"] == 2
    with pytest.raises(UserError, match="task is 'recommend' there and 'retrieval' here"):
        workdir.run_once(tmp_path, CONFIG | {"task": "retrieval"}, fail, again=True)


def test_one_process_at_a_time(tmp_path):
    def run():
        with pytest.raises(UserError, match=r"another process runs in .*: wait for its end, or"):
            workdir.run_once(tmp_path, CONFIG, fail)
        return {"x": 1}

    assert workdir.run_once(tmp_path, CONFIG, run) == {"x": 1}


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_damaged_files_are_named(tmp_path, name):
    workdir.run_once(tmp_path, CONFIG, lambda: {"x": 1})
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=rf"{name} is damaged .*: delete {tmp_path}, or choose"):
        workdir.run_once(tmp_path, CONFIG, fail)


def test_an_interrupted_run_is_run_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        workdir.run_once(tmp_path, CONFIG, interrupt)
    assert not (tmp_path / "metrics.json").exists()
    assert workdir.run_once(tmp_path, CONFIG, lambda: {"x": 2}) == {"x": 2}


def test_another_config_is_refused(tmp_path):
    workdir.run_once(tmp_path, CONFIG, lambda: {})
    other = {"seed": 1, "model": {"dims": (4, 2), "dropout": 0.2}, "new": True}
    with pytest.raises(UserError) as error:
        workdir.run_once(tmp_path, other, fail)
    message = str(error.value)
    assert "model.dropout is 0.1 there and 0.2 here" in message
    assert "new is 'absent' there and True here" in message
    assert "choose another --workdir" in message


def test_a_mistake_before_anything_is_saved_leaves_the_folder_to_the_corrected_command(tmp_path):
    def mistaken():
        raise UserError("no such file")

    with pytest.raises(UserError, match="no such file"):
        workdir.run_once(tmp_path, CONFIG, mistaken)
    assert list(tmp_path.iterdir()) == []
    assert workdir.run_once(tmp_path, CONFIG | {"seed": 2}, lambda: {"x": 1}) == {"x": 1}


def test_a_mistake_does_not_take_a_folder_with_checkpoints_from_its_config(tmp_path):
    def mistaken():
        (tmp_path / "checkpoints" / "100").mkdir(parents=True)
        raise UserError("the loss is nan")

    with pytest.raises(UserError, match="the loss is nan"):
        workdir.run_once(tmp_path, CONFIG, mistaken)
    with pytest.raises(UserError, match="seed is 1 there and 2 here"):
        workdir.run_once(tmp_path, CONFIG | {"seed": 2}, fail)


def test_a_read_only_folder_is_left_as_it_is(read_only):
    folder, locked = read_only
    with locked(), pytest.raises(PermissionError) as error:
        workdir.run_once(folder, CONFIG, fail)
    assert errors.refusal(error.value).startswith(f"{folder}/.config.json")
    assert errors.refusal(error.value).endswith("denied: choose another path, or allow this one")
    with locked(), pytest.raises(UserError, match=r"below as --workdir: Permission denied"):
        workdir.run_once(folder / "below", CONFIG, fail)
    assert list(folder.iterdir()) == []


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=rf"cannot use {path} as --workdir"):
            workdir.run_once(path, CONFIG, fail)
