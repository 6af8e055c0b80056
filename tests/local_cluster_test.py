"""Whole runs in several real processes, by launch/local_cluster.sh."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from pyarrow import parquet

from configs import recommend as recommend_config
from genrec_jax import checkpoint
from genrec_jax.tasks import recommend

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 50
SETTINGS = {
    "data.synthetic_shop.num_users": 120,
    "data.synthetic_shop.num_items": 100,
    "num_steps": STEPS,
    "eval_every": STEPS,
    "steps_per_call": 1,
    "batch_size": 24,
    "eval.batch_size": 60,  # the last batch is not full
    "eval.num_beams": 20,
    "eval.max_users": 100,
    "model.dim": 8,
    "model.embedding_dim": 8,
    "model.num_encoder_layers": 1,
    "model.num_decoder_layers": 1,
    "model.hidden_dim": 8,
    "model.dropout": 0.0,  # how masks lie over packed rows depends on the number of devices
    "tokenizer_config.num_steps": STEPS,
    "tokenizer_config.eval_every": STEPS // 2,
    "tokenizer_config.steps_per_call": 1,
    "tokenizer_config.batch_size": 24,
    "tokenizer_config.model.hidden_dims": "(16,)",
    "tokenizer_config.model.code_dim": 4,
    "tokenizer_config.model.codebook_size": 8,
    "tokenizer_config.embedder.dim": 8,
}


def overrides(settings):
    return [f"--config.{key}={value}" for key, value in settings.items()]


ARGUMENTS = ["--config=configs/retrieval.py:synthetic,smoke", *overrides(SETTINGS)]


def environment(num_devices=1):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    four = "--xla_force_host_platform_device_count=4"
    return os.environ | {
        "PYTHON": sys.executable,
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace(four, flags),
    }


def start(num_processes, workdir, arguments=ARGUMENTS, env=None):
    return subprocess.Popen(
        ["launch/local_cluster.sh", str(num_processes), *arguments, f"--workdir={workdir}"],
        cwd=ROOT,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(num_processes, workdir, arguments=ARGUMENTS):
    process = start(num_processes, workdir, arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def lines_of(workdir):
    """Returns what was logged, by step, without what depends on the clock."""
    found = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values = {key: value for key, value in values.items() if not key.startswith("time/")}
        found[values["step"]] = found.get(values["step"], {}) | values
    return found


def metrics_of(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def check_same_losses(workdir, expected):
    found, wanted = lines_of(workdir), lines_of(expected)
    assert list(found) == list(wanted) == list(range(1, STEPS + 1))
    for step, values in wanted.items():
        assert found[step] == pytest.approx(values, rel=1e-5), step


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Returns the workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    run(1, workdir)
    return workdir


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns the workdir of a run in two processes, of which one was killed once."""
    workdir = tmp_path_factory.mktemp("pair")
    process = start(2, workdir)
    deadline = time.monotonic() + 240
    while not (workdir / "tokenizer" / "checkpoints" / str(STEPS // 2)).exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    (other,) = (
        pid
        for pid in children_of(process.pid)
        if "--process_id=1" in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    )
    os.kill(other, signal.SIGKILL)
    killed = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 20  # JAX alone would need 100 s
    assert process.returncode in (1, 128 + signal.SIGKILL)
    assert f"error: process 1 of 2 (pid {other} on " in err
    assert not (workdir / "tokenizer" / "metrics.json").exists()
    out, err = run(2, workdir)
    return workdir, out, err


def children_of(pid):
    return map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.once
def test_two_processes_train_like_one_device_even_if_one_is_killed(alone, pair):
    workdir, _, _ = pair
    check_same_losses(workdir / "tokenizer", alone / "tokenizer")
    check_same_losses(workdir, alone)
    assert metrics_of(workdir) == pytest.approx(metrics_of(alone), rel=1e-5)


@pytest.mark.once
def test_one_process_speaks_and_writes_for_all(pair, alone):
    workdir, out, err = pair
    assert out.count("All of it is in") == 1 and out.count("User user-") == 3
    assert "tokenizer step 50:" in err and "process 1: retrieval" not in err
    names = sorted(path.relative_to(alone) for path in alone.rglob("*.json*"))
    assert sorted(path.relative_to(workdir) for path in workdir.rglob("*.json*")) == names


@pytest.mark.once
def test_one_checkpoint_gives_equal_ranks_in_one_and_in_two_processes(pair, tmp_path):
    workdir, _, _ = pair
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "metrics.json").unlink()
    shutil.rmtree(copy / "export")
    _, err = run(1, copy)
    assert " step " not in err  # it only evaluates
    assert metrics_of(copy) == metrics_of(workdir)
    tables = [parquet.read_table(folder / "ranks.parquet") for folder in (copy, workdir)]
    assert tables[0].equals(tables[1]) and tables[0].num_rows == 100
    for name in ("state", "semantic_ids"):
        arrays = [checkpoint.load_export(folder, [name])[0] for folder in (copy, workdir)]
        jax.tree.map(np.testing.assert_array_equal, *arrays)


@pytest.mark.once
def test_a_model_that_is_split_over_two_processes_recommends_the_same(pair, tmp_path):
    workdir, _, _ = pair
    settings = {"run": str(workdir), "k": 5}
    arguments = ["--config=configs/recommend.py", *overrides(settings), "--config.mesh.model=2"]
    run(2, tmp_path, arguments)
    config = recommend_config.get_config()
    config.update(settings | {"output": str(tmp_path / "expected.jsonl")})
    recommend.run(config, tmp_path)
    names = "recommendations.jsonl", "expected.jsonl"
    found, expected = ((tmp_path / name).read_text().splitlines() for name in names)
    assert len(found) == len(expected) == 120
    for row, other in zip(map(json.loads, found), map(json.loads, expected), strict=True):
        assert row.pop("scores") == pytest.approx(other.pop("scores"), abs=1e-5)
        assert row == other


@pytest.mark.once
def test_four_processes_train_a_tokenizer_like_one_device(alone, tmp_path):
    prefix = "tokenizer_config."
    settings = {
        key.removeprefix(prefix): value
        for key, value in SETTINGS.items()
        if key.startswith(("data.", prefix))
    }
    arguments = ["--config=configs/rqvae.py:synthetic,smoke", *overrides(settings)]
    run(4, tmp_path, [*arguments, f"--config.cache_dir={alone / 'cache'}"])
    check_same_losses(tmp_path, alone / "tokenizer")
    wanted = metrics_of(alone / "tokenizer")
    assert metrics_of(tmp_path) == pytest.approx(wanted, rel=1e-5)


def fake_python(folder, script):
    """Writes an interpreter that runs `script` in bash, with the process's number in `id`."""
    path = folder / "python"
    path.write_text(
        "#!/usr/bin/env bash\n"
        f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\n'
        f"id=${{!#}} && id=${{id#--process_id=}}\n{script}\n"
    )
    path.chmod(0o755)
    return environment() | {"PYTHON": str(path)}


def test_the_status_is_that_of_the_first_that_fails_and_all_end(tmp_path):
    script = "echo said $id; sleep $id.5; if [ $id = 1 ]; then exit 7; fi; exec sleep 60"
    process = start(3, tmp_path, env=fake_python(tmp_path, script))
    started = time.monotonic()
    out, err = process.communicate(timeout=50)
    assert process.returncode == 7 and time.monotonic() - started < 30
    assert out == "said 0\n"
    assert sorted(err.splitlines()) == ["process 1: said 1", "process 2: said 2"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_all(tmp_path, how):
    script = (
        f"trap 'echo heard; exit 9' {how.name[3:]}; echo ready; while true; do sleep 0.05; done"
    )
    process = start(2, tmp_path, env=fake_python(tmp_path, script))
    assert process.stdout.readline() == "ready\n"
    assert process.stderr.readline() == "process 1: ready\n"
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (9, "heard\n", "process 1: heard\n")


def test_a_number_of_processes_is_needed(tmp_path):
    process = start("two", tmp_path)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2 and err.startswith("error: 'two' is no number of processes: ")


def test_a_dry_run_prints_the_commands():
    command = ["launch/local_cluster.sh", "--dry-run", "2", "--config=a b"]
    env = os.environ | {"PYTHON": "python"}
    out = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    line = r"python -u -m genrec_jax.main --config=a\ b --coordinator=127.0.0.1:PORT"
    assert out.stdout.splitlines() == [f"{line} --num_processes=2 --process_id={n}" for n in (0, 1)]
