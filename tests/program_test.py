"""The whole program, as a user runs it: in processes of its own, killed and started again."""

import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from genrec_jax import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
SHOP = [
    "--config.data.synthetic_shop.num_users=300",
    "--config.data.synthetic_shop.num_items=200",
]
STEPS = range(20, 101, 20)  # of evaluations and checkpoints, in both stages
TOKENIZER = {
    "num_steps": STEPS[-1],
    "eval_every": STEPS.step,
    "steps_per_call": 10,
    "batch_size": 64,
    "model.hidden_dims": "(32,)",
    "model.code_dim": 8,
    "model.codebook_size": 16,
    "embedder.dim": 16,
}
RETRIEVAL = {
    "num_steps": STEPS[-1],
    "eval_every": STEPS.step,
    "steps_per_call": 10,
    "batch_size": 32,
    "eval.batch_size": 64,
    "eval.max_users": 200,
    "model.dim": 16,
    "model.embedding_dim": 16,
    "model.num_encoder_layers": 1,
    "model.num_decoder_layers": 1,
    "model.hidden_dim": 16,
    "model.dropout": 0.1,
}
REPRODUCED = [  # of these, what the other recommenders have too
    "num_steps",
    "eval_every",
    "steps_per_call",
    "batch_size",
    "eval.batch_size",
    "eval.max_users",
]


def overrides(settings, prefix=""):
    return [f"--config.{prefix}{key}={value}" for key, value in settings.items()]


RQVAE_ARGUMENTS = ["--config=configs/rqvae.py:smoke", *SHOP, *overrides(TOKENIZER)]
RETRIEVAL_ARGUMENTS = [
    "--config=configs/retrieval.py:smoke",
    *SHOP,
    *overrides(RETRIEVAL),
    *overrides(TOKENIZER, "tokenizer_config."),
]


@pytest.fixture(scope="module")
def environment():
    """One device; compiled programs are kept between the runs, as by all tests."""
    four = "--xla_force_host_platform_device_count=4"
    return os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace(four, "").strip()}


def start(environment, arguments, workdir, file_size=None):
    """Starts a run, which may write files of `file_size` KiB at most."""
    command = [sys.executable, "-m", "genrec_jax.main", *arguments, f"--workdir={workdir}"]
    if file_size:
        command = ["bash", "-c", f'ulimit -f {file_size} && exec "$@"', "bash", *command]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(environment, arguments, workdir):
    """Runs to the end; returns the metrics and what was printed."""
    process = start(environment, arguments, workdir)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return metrics_of(workdir), out, err


def metrics_of(workdir):
    """Returns metrics.json without what depends on the clock."""
    metrics = json.loads((pathlib.Path(workdir) / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def kill_after(environment, arguments, workdir, checkpoint_folder, number=signal.SIGKILL):
    """Starts a run, sends it the signal once a checkpoint lies in the folder.

    Returns the step of the newest checkpoint that it leaves.
    """
    process = start(environment, arguments, workdir)
    deadline = time.monotonic() + 240
    while not any(path.name.isdigit() for path in checkpoint_folder.glob("*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate()
    step = max(int(path.name) for path in checkpoint_folder.glob("*") if path.name.isdigit())
    if number == signal.SIGTERM:
        assert process.returncode == 75
        expected = f"preempted: retrieval is saved at step {step}: the same command goes on from it"
        assert err.splitlines()[-1] == expected
    else:
        assert process.returncode == -number
    assert not (workdir / "metrics.json").exists()
    return step


@pytest.fixture(scope="module")
def retrieval(environment, tmp_path_factory):
    """Returns the workdir of a whole run, its metrics and what it printed."""
    workdir = tmp_path_factory.mktemp("retrieval")
    return workdir, *run(environment, RETRIEVAL_ARGUMENTS, workdir)


def test_the_metrics_that_scripts_rely_on(retrieval):
    workdir, metrics, out, _ = retrieval
    for name in (
        "train/loss",
        "tokenizer/unique_before",
        "tokenizer/level_0/usage",
        "valid/recall@10",
        "test/recall@10",
        "test/ndcg@10",
        "test_new/recall@10",
        "baseline/popularity/test/recall@10",
        "baseline/itemknn/test/recall@10",
        "reachable/test/recall@10",
    ):
        assert 0 <= metrics[name] < 50, name
        assert (
            name.removesuffix("/recall@10").removesuffix("/ndcg@10").removesuffix("/usage") in out
        )
    assert metrics["tokenizer/unique_after"] == 1
    assert metrics["data/num_users"] == 300
    for split in ("valid", "test", "test_new", "baseline/itemknn/test_new"):
        assert metrics[f"{split}/num_users"] == 200
    assert metrics["test/recall@1"] <= metrics["test/recall@5"] <= metrics["test/recall@20"]
    with_time = json.loads((workdir / "metrics.json").read_text())
    assert with_time["time/seconds"] > with_time["time/train_seconds"] > 0


def test_leaving_out_the_history_moves_targets_up(retrieval):
    _, metrics, _, _ = retrieval  # of a shop that never sells an item twice to one user
    for prefix in ("", "baseline/popularity/", "baseline/itemknn/"):
        assert metrics[f"{prefix}test/mrr@20"] < metrics[f"{prefix}test_new/mrr@20"]
        for cutoff in (1, 5, 10, 20):
            name = f"recall@{cutoff}"
            assert metrics[f"{prefix}test/{name}"] <= metrics[f"{prefix}test_new/{name}"]


def test_the_run_leaves_what_the_readme_lists(retrieval):
    workdir, _, out, err = retrieval
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *("cache", "checkpoints", "config.json", "examples.json", "export"),
        *("metrics.json", "metrics.jsonl", "ranks.parquet", "tensorboard", "tokenizer"),
    }
    steps = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "valid/recall@10" in row] == list(STEPS)
    assert [row["step"] for row in steps if "train/loss" in row] == list(range(10, 101, 10))
    examples = json.loads((workdir / "examples.json").read_text())
    assert len(examples) == 3 and all(len(example["recommended"]) == 10 for example in examples)
    assert all(f"User {example['user_id']}" in out for example in examples)
    assert {line.split()[0] for line in err.splitlines()} == {"tokenizer", "retrieval"}  # its own


def test_the_export_holds_what_a_recommender_needs(retrieval):
    workdir, metrics, _, _ = retrieval
    arrays, meta = checkpoint.load_export(workdir, ["state", "semantic_ids"])
    tokenizer, tokenizer_meta = checkpoint.load_export(
        workdir / "tokenizer", ["codebooks", "semantic_ids", "state"]
    )
    np.testing.assert_array_equal(arrays["semantic_ids"], tokenizer["semantic_ids"])
    assert tokenizer["codebooks"].shape == (3, 16, 8)
    assert arrays["semantic_ids"].shape == (200, 3)
    assert (arrays["semantic_ids"].max(axis=0) < meta["level_sizes"]).all()
    assert meta["corpus"] == tokenizer_meta["corpus"]
    assert meta["item_ids"][:2] == ["item-0", "item-1"]
    assert int(arrays["state"]["step"]) == metrics["train/best_step"]


def test_a_finished_run_prints_its_results_and_does_nothing(environment, retrieval):
    workdir, metrics, out, _ = retrieval
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    again, out_again, err = run(environment, RETRIEVAL_ARGUMENTS, workdir)
    assert again == metrics and out_again == out and "is finished" in err
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize(
    "stage, number", [("tokenizer", signal.SIGKILL), ("retrieval", signal.SIGTERM)]
)
def test_a_killed_run_ends_like_one_that_ran_through(
    environment, retrieval, tmp_path, stage, number
):
    folder = tmp_path / "tokenizer" if stage == "tokenizer" else tmp_path
    step = kill_after(environment, RETRIEVAL_ARGUMENTS, tmp_path, folder / "checkpoints", number)
    metrics, _, err = run(environment, RETRIEVAL_ARGUMENTS, tmp_path)
    evaluated = [int(n) for n in re.findall(rf"^{stage} step (\d+):", err, re.MULTILINE)]
    assert step < STEPS[-1]  # killed in the middle, and taken up from there:
    assert evaluated == [n for n in STEPS if n > step]
    workdir, expected, _, _ = retrieval
    assert metrics == expected
    assert metrics_of(tmp_path / "tokenizer") == metrics_of(workdir / "tokenizer")
    examples = [folder / "examples.json" for folder in (tmp_path, workdir)]
    assert examples[0].read_text() == examples[1].read_text()


@pytest.mark.once
def test_what_does_not_train_ends_at_once_when_it_is_preempted(environment, tmp_path):
    arguments = ["--config=configs/prepare.py", "--config.data.synthetic_shop.num_users=100000"]
    process = start(environment, arguments, tmp_path)
    while not (tmp_path / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (75, "")
    assert err == "preempted: the same command goes on from here\n"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["config.json"]


def parameters(workdir):
    """Returns what both stages export, by name."""
    arrays, _ = checkpoint.load_export(workdir, ["state"])
    tokenizer, _ = checkpoint.load_export(workdir / "tokenizer", ["state", "codebooks"])
    return {"retrieval": arrays, "tokenizer": tokenizer}


@pytest.mark.once
def test_killed_at_random_a_run_ends_with_the_same_parameters(environment, retrieval, tmp_path):
    """Once, or as often as GENREC_KILLS says, in either stage or between them."""
    workdir, metrics, _, _ = retrieval
    expected = parameters(workdir)
    seconds = json.loads((workdir / "metrics.json").read_text())["time/seconds"]
    arguments = [*RETRIEVAL_ARGUMENTS, "--config.checkpoint.every_minutes=0.001"]
    arguments.append("--config.tokenizer_config.checkpoint.every_minutes=0.001")
    rng = random.Random(0)
    folders = (tmp_path / str(number) for number in itertools.count())
    kills, again = [], next(folders)

    def check_the_same():
        assert metrics_of(again) == metrics
        jax.tree.map(np.testing.assert_array_equal, parameters(again), expected)

    while len(kills) < int(os.environ.get("GENREC_KILLS", "1")):
        process = start(environment, arguments, again)
        try:
            process.wait(timeout=rng.uniform(seconds / 3, 0.8 * seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        _, err = process.communicate(timeout=300)
        assert process.returncode in (0, 75, -signal.SIGKILL, -signal.SIGTERM), err
        if process.returncode:
            kills.append((process.returncode, err.splitlines()[-1:]))
        else:
            check_the_same()
            again = next(folders)
    print(*kills, sep="\n")
    run(environment, arguments, again)
    check_the_same()


def test_a_run_killed_after_its_last_step_only_evaluates(environment, retrieval, tmp_path):
    workdir, expected, _, _ = retrieval
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    for name in ("metrics.json", "examples.json", "tokenizer/metrics.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "export")
    metrics, _, err = run(environment, RETRIEVAL_ARGUMENTS, copy)
    assert metrics == expected
    assert metrics_of(copy / "tokenizer") == metrics_of(workdir / "tokenizer")
    assert " step " not in err
    assert (copy / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()
    assert (copy / "examples.json").read_text() == (workdir / "examples.json").read_text()
    checkpoint.load_export(copy, ["semantic_ids"])


@pytest.mark.once
@pytest.mark.parametrize("what", ["data", "checkpoint"])
def test_a_full_disk_ends_in_one_line_and_leaves_nothing_that_passes_for_whole(
    environment, retrieval, tmp_path, what
):
    workdir, expected, _, _ = retrieval
    if what == "data":
        arguments = ["--config=configs/prepare.py", *SHOP]
        expected = {
            key: value for key, value in expected.items() if key.startswith(("data/", "reachable/"))
        }
    else:  # data and embeddings are there already
        arguments = [*RETRIEVAL_ARGUMENTS, f"--config.cache_dir={workdir / 'cache'}"]
    # JAX warns of compiled programs that it cannot keep: it shall keep none, only read.
    limited = environment | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000000"}
    process = start(limited, arguments, tmp_path, file_size=12)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2 and out == ""
    *progress, line = err.splitlines()
    assert line.startswith("error: cannot write: File too large: make room, then give the same")
    assert [line for line in progress if not line.startswith("tokenizer ")] == []
    metrics, _, _ = run(environment, arguments, tmp_path)
    assert metrics == expected


def test_mistakes_on_the_command_line(environment, tmp_path):
    mistakes = {
        "unknown config key 'num_step'": [RQVAE_ARGUMENTS[0], "--config.num_step=3"],
        "no --config": [],
        "cannot be split": [*RQVAE_ARGUMENTS, "--config.accumulation=7"],
    }
    processes = {
        message: start(environment, arguments, tmp_path) for message, arguments in mistakes.items()
    }
    for message, process in processes.items():
        out, err = process.communicate(timeout=300)
        assert process.returncode == 2 and out == ""
        assert err.startswith("error: ") and message in err and err.count("\n") == 1


@pytest.mark.once
def test_tokenizer_and_retrieval_apart_give_the_same(environment, retrieval, tmp_path):
    _, expected, _, _ = retrieval
    tokenizer, _, _ = run(environment, RQVAE_ARGUMENTS, tmp_path / "tokenizer")
    assert tokenizer["tokenizer/unique_after"] == 1
    arguments = [*RETRIEVAL_ARGUMENTS, f"--config.tokenizer={tmp_path / 'tokenizer'}"]
    metrics, _, _ = run(environment, arguments, tmp_path / "retrieval")
    assert metrics == expected

    for setting, message in (
        ("synthetic_shop.seed=1", "is of another catalogue"),
        ("split=temporal", "saw other interactions than those for training here, perhaps"),
    ):
        process = start(environment, [*arguments, f"--config.data.{setting}"], tmp_path / "other")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2
        assert err.startswith("error: the tokenizer in ") and message in err
        assert err.count("\n") == 1


@pytest.mark.once
def test_another_tokenizer_serves_retrieval_and_the_report(environment, retrieval, tmp_path):
    embedder = {key: value for key, value in TOKENIZER.items() if key.startswith("embedder.")}
    cache = f"--config.cache_dir={tmp_path / 'cache'}"
    arguments = ["--config=configs/residual_kmeans.py:smoke", *SHOP, cache, *overrides(embedder)]
    arguments += ["--config.model.level_sizes=(16,8,8)", "--config.collisions=extra_code"]
    metrics, _, _ = run(environment, arguments, tmp_path / "ids")
    of_tokenizer = {key for key in retrieval[1] if key.startswith("tokenizer/")}
    assert of_tokenizer <= metrics.keys() and metrics["tokenizer/unique_after"] == 1
    again = ["--config=configs/retrieval.py:smoke", *SHOP, cache, *overrides(RETRIEVAL)]
    again += [f"--config.tokenizer={tmp_path / 'ids'}", "--config.tokens_from_codebooks=True"]
    found, _, _ = run(environment, again, tmp_path / "retrieval")
    assert (
        sum(key.startswith("train/level_") for key in found) == 4
    )  # one of them is the extra code
    assert found["tokenizer/unique_before"] == metrics["tokenizer/unique_before"] < 1
    report = ["--config=configs/tokenizer_report.py", f"--config.run={tmp_path / 'ids'}"]
    described, _, _ = run(environment, report, tmp_path / "report")
    error = (16 + 32 + 64) * described["reconstruction/prefix_3/error"]
    loss = metrics["tokenizer/reconstruction_loss"]
    assert error == pytest.approx(loss, rel=1e-6)


@pytest.mark.once
def test_recommending_to_others_as_often_as_asked(environment, retrieval, tmp_path):
    histories = tmp_path / "histories.jsonl"
    arguments = [
        "--config=configs/recommend.py",
        f"--config.run={retrieval[0]}",
        f"--config.histories={histories}",
        "--config.k=5",
    ]
    for users in (["Ada", 7], ["Bo"]):
        lines = [json.dumps({"user_id": user, "history": ["item-3", "item-5"]}) for user in users]
        histories.write_text("\n".join(lines))
        metrics, out, err = run(environment, arguments, tmp_path / "best")
        assert metrics == {"num_users": len(users), "num_skipped_items": 0}
        assert err == "" and all(f"User {user} " in out for user in users)
        lines = (tmp_path / "best" / "recommendations.jsonl").read_text().splitlines()
        assert [json.loads(line)["user_id"] for line in lines] == list(map(str, users))
        assert all(len(json.loads(line)["item_ids"]) == 5 for line in lines)


@pytest.mark.once
def test_reporting_on_the_tokenizer(environment, retrieval, tmp_path):
    workdir, expected, _, _ = retrieval
    arguments = ["--config=configs/tokenizer_report.py", f"--config.run={workdir}"]
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    metrics, out, err = run(environment, [*arguments, "--config.num_neighbours=5"], tmp_path)
    assert metrics["tokenizer/unique_before"] == expected["tokenizer/unique_before"]
    assert metrics["neighbours/chance_overlap"] == pytest.approx(5 / 199)
    assert err == "" and "tokenizer/level_2 " in out and "categories/depth_1/prefix_3 " in out
    assert "Items with equal codes, the largest groups first" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "metrics.json", "report.json"),
        *("usage.png", "categories.png", "tree.png"),
    }
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.once
def test_prepared_data_and_embeddings_are_shared(environment, tmp_path):
    cache = f"--config.cache_dir={tmp_path / 'cache'}"
    widths = {"dim": 16, "remainder_dim": 4, "collaborative_dim": 8}
    embedder = overrides(widths, "embedder.")
    metrics, _, _ = run(
        environment, ["--config=configs/prepare.py", *SHOP, cache], tmp_path / "prepare"
    )
    assert metrics["data/num_items"] == 200
    embed = ["--config=configs/embed.py:smoke", *SHOP, cache, *embedder]
    metrics, _, _ = run(environment, embed, tmp_path / "embed")
    assert metrics["embeddings/width"] == 28

    def written():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.npy")}

    before = written()
    assert len(before) == 2  # lsa and collaborative
    run(environment, [*RQVAE_ARGUMENTS, cache, *embedder], tmp_path / "rqvae")
    assert written() == before
    assert not (tmp_path / "rqvae" / "cache").exists()


@pytest.mark.once
def test_results_are_reproduced_by_one_command(environment):
    place = ROOT / "runs" / "reproduce-synthetic-smoke"
    assert not place.exists(), f"{place} is in the way of this test: move it"
    settings = {key: value for key, value in RETRIEVAL.items() if key in REPRODUCED}
    settings |= {"num_steps": 20, "num_examples": 0, "max_history": 5, "row_length": 16}
    command = [
        "launch/reproduce.sh",
        "synthetic,smoke",
        "--seeds",
        "1",
        *SHOP,
        *overrides(settings),
    ]
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        for stage in ("hybrid", "sasrec"):
            found = json.loads((place / stage / "metrics.json").read_text())
            of_seed = json.loads((place / f"{stage}-0" / "metrics.json").read_text())
            assert found["num_runs"] == 1
            assert found["mean/test/mrr@10"] == of_seed["test/mrr@10"]
            assert found["low/test/mrr@10"] <= of_seed["test/mrr@10"] <= found["high/test/mrr@10"]
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: no data set: launch/reproduce.sh beauty"),
        (["beauty", "--seeds", "0"], "error: --seeds '0' must be a whole number"),
    ],
)
def test_what_cannot_be_reproduced(arguments, message):
    done = subprocess.run(
        [ROOT / "launch" / "reproduce.sh", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith(message)
