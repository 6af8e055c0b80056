"""Processes that join, agree and end together; tests/local_cluster_test.py has whole runs."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from genrec_jax import checkpoint, distributed

ROOT = pathlib.Path(__file__).parents[1]
# What each of the processes runs: `program` in the cluster, then nothing for as long as it lives.
PROGRAM = """
import json, os, signal, sys, time
import jax
from genrec_jax import distributed
from genrec_jax.errors import UserError, exit_on_error
address, count, index, seconds, program = sys.argv[1:]
index = int(index)
jax.config.update("jax_num_cpu_devices", json.loads(os.environ["NUM_DEVICES"])[index])
def main():
    distributed.join(address, int(count), index, float(seconds))
    exec(program, globals())
with distributed.ending_together():
    exit_on_error(main)()
    sys.exit()
"""
WAIT = "distributed.from_first(lambda: time.sleep(600))"
AGREE = """
print(json.dumps([distributed.from_first(lambda: {"of": [index, 0.1]}), distributed.is_first()]))
calls = []
def call():
    time.sleep(0.3 * (1 - index))
    calls.append(time.time())
    return index
print(json.dumps([distributed.first_before_others(call), calls[0]]))
import numpy as np
from genrec_jax import sharding
meshes = [sharding.make_mesh(*sizes) for sizes in ((2, 1), (1, 2))]
shares = [sharding.share_of_rows(mesh) for mesh in meshes]
codebooks = sharding.put(meshes[1], {"codebooks": np.arange(8).reshape(1, 4, 2)})
(part,) = codebooks["codebooks"].addressable_shards
whole = sharding.on_host(codebooks)["codebooks"].ravel()
rows = sharding.on_host(sharding.spread_rows(meshes[0], np.arange(6)))
print(json.dumps([shares, part.data.ravel().tolist(), whole.tolist(), rows.tolist()]))
from genrec_jax import checkpoint
checkpoint.export(folder, {"state": codebooks, "ids": np.arange(3)}, {})
there, _ = checkpoint.load_export(folder, ["state", "ids"], meshes[1])
(part,) = there["state"]["codebooks"].addressable_shards
print(json.dumps([part.data.ravel().tolist(), there["ids"].tolist()]))
distributed.check_same("another config", {"a": 1}, "-")
distributed.check_same("other data", {"seed": index}, "let all share it")
time.sleep(600)
"""


def start(program, indices=(0, 1), address=None, seconds=60, num_devices=(1, 1)):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address or f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": "", "NUM_DEVICES": json.dumps(num_devices)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, "2", str(index), str(seconds), program],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in indices
    ]


def end(processes):
    """Returns of each process the status, and what it printed and said."""
    try:
        said = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, ours(out).splitlines(), ours(err))
        for process, (out, err) in zip(processes, said, strict=True)
    ]


def ours(text):
    """Returns the lines that are not what libraries in C++ say at their start."""
    theirs = re.compile(r"\[Gloo\]|WARNING: All log messages|[IW]\d{4} ")
    return "".join(line for line in text.splitlines(True) if not theirs.match(line))


def test_one_process_is_the_first_and_decides():
    assert distributed.is_first()
    assert distributed.from_first(lambda: (1, 2)) == (1, 2)
    assert distributed.first_before_others(lambda: "made") == "made"
    distributed.check_same("other data", object, "-")


def test_two_processes_agree_or_end(tmp_path):
    program = f"folder = {str(tmp_path)!r}\n{AGREE}"
    (status, out, err), (other_status, other_out, other_err) = end(start(program))
    assert json.loads(out[0]) == [{"of": [0, 0.1]}, True]
    assert json.loads(other_out[0]) == [{"of": [0, 0.1]}, False]
    (result, called), (other_result, other_called) = map(json.loads, (out[1], other_out[1]))
    assert (result, other_result) == (0, 1) and called < other_called
    shares, part, *wholes = json.loads(out[2])
    other_shares, other_part, *other_wholes = json.loads(other_out[2])
    assert (shares, other_shares) == ([[0, 2], [0, 1]], [[1, 2], [0, 1]])
    assert (part, other_part) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert wholes == other_wholes == [list(range(8)), list(range(6))]
    assert [json.loads(lines[3]) for lines in (out, other_out)] == [
        [[0, 1, 2, 3], [0, 1, 2]],
        [[4, 5, 6, 7], [0, 1, 2]],
    ]
    exported, _ = checkpoint.load_export(tmp_path, ["state"])
    np.testing.assert_array_equal(exported["state"]["codebooks"], np.arange(8).reshape(1, 4, 2))
    written = [tmp_path / "export" / "state" / f"ocdbt.process_{n}" / "d" for n in range(2)]
    assert all(any(folder.iterdir()) for folder in written)  # by each its own part
    assert status == other_status == 2
    reason = "process 1 has other data than process 0: let all share it"
    assert err == other_err == f"error: {reason}\n"


@pytest.mark.parametrize("index, how", [(0, signal.SIGKILL), (1, signal.SIGTERM)])
def test_a_process_that_is_killed_ends_the_other(index, how):
    killing = f"os.kill(os.getpid(), {int(how)})"  # SIGTERM JAX would take for itself
    processes = start(f"{killing} if index == {index} else {WAIT}")
    found = end(processes)
    assert found[index][0] == -how
    status, _, err = found[1 - index]
    name = f"process {index} of 2 (pid {processes[index].pid} on {socket.gethostname()})"
    line = f"error: {name} has died: so this one ends too\n"
    if index == 0:  # whose death JAX may notice first, in many words, and abort
        assert status in (1, -signal.SIGABRT)
        assert line in err or "the leader task was preempted/died/restarted unexpectedly" in err
    else:
        assert (status, err) == (1, line)


def test_a_defect_in_a_process_ends_the_other_that_has_nothing_to_do_any_more():
    (status, _, err), (other_status, _, other_err) = end(
        start("time.sleep(1 - index); assert index, 'a defect'")
    )
    assert status == 1 and "AssertionError: a defect" in err
    assert other_status == 1
    assert other_err.startswith("error: process 0 of 2 (pid ")
    assert other_err.endswith(") has ended with status 1 (a defect): so this one ends too\n")


def test_who_cannot_join_says_why_in_time():
    started = time.monotonic()
    (lone,) = start("", indices=[0], seconds=1)
    (lost,) = start("", indices=[1], address="127.0.0.1:9", seconds=1)
    (status, _, err), (lost_status, _, lost_err) = end([lone]) + end([lost])
    assert status == lost_status == 1
    assert err.startswith("error: not all of 2 processes have come to 127.0.0.1:")
    assert "within 1 s" in err and err.count("\n") == 1
    assert lost_err == (
        "error: process 1 cannot reach the coordinator 127.0.0.1:9 within 1 s: check this address, "
        "and that process 0 runs there\n"
    )
    assert time.monotonic() - started < 50


def test_a_process_that_cannot_save_ends_all(tmp_path):
    program = f"""
import resource
import numpy as np
from genrec_jax import checkpoint, sharding
tokens = np.random.default_rng(0).standard_normal((1_000, 16), np.float32)
tokens = sharding.put(sharding.make_mesh(1, 2), {{"tokens": tokens}})
with checkpoint.Checkpoints({str(tmp_path)!r}, None, checkpoint.Policy(0, 2, 2, 0)) as checkpoints:
    if index:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    checkpoints.save(tokens | {{"step": np.int32(1)}}, {{}}, None)
"""
    (status, _, err), (full_status, _, full_err) = end(start(program))
    assert full_status == 2 and "error: cannot write: File too large: make room" in full_err
    assert status == 2 and err.startswith("error: process 1 of 2 (pid ")
    assert ") has ended with status 2 (" in err and "File too large" in err


def test_processes_have_as_many_devices_each():
    for status, _, err in end(start("", num_devices=(1, 2))):
        assert status == 2 and err.count("\n") == 1
        assert err.endswith("as the others: process 0 has 1, process 1 has 2\n")
