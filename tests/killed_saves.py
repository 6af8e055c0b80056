"""Kills a process in each change that it makes to the folder of a checkpoint that it saves.

    python tests/killed_saves.py FOLDER [STRIDE]

Or in every STRIDE-th. The step that is then read back must be one that was saved, and whole. Prints
it for each kill.
"""

import itertools
import os
import pathlib
import shutil
import signal
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from genrec_jax import checkpoint

OLD, NEW = 10, 20
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")


def state(step):
    return {"w": jnp.full((200, 30), step, jnp.float32), "step": jnp.int32(step)}


def opened(folder):
    return checkpoint.Checkpoints(folder, "score", checkpoint.Policy(0.0, 1, 1, 0.0))


def save(folder, step, last_change=None):
    """Saves, and dies just before change number `last_change`."""
    numbers = itertools.count(1)

    def hook(event, args):
        is_write = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not (is_write or event in CHANGES) or str(folder) not in str(args[0]):
            return
        if next(numbers) == last_change:
            os.kill(os.getpid(), signal.SIGKILL)

    with opened(folder) as checkpoints:
        sys.addaudithook(hook)
        checkpoints.save(state(step), {"note": step}, {"score": step})


def check(folder):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), state(0)
    )
    with opened(folder) as checkpoints:
        step = checkpoints.latest_step()
        restored, progress = checkpoints.restore(step, shapes)
        jax.tree.map(np.testing.assert_array_equal, restored, state(step))
        assert progress == {"note": step}
        checkpoints.save(state(step + 1), {"note": step + 1}, {"score": step + 1})
    assert checkpoint.saved_steps(folder) == [step + 1]
    print(step, flush=True)


def in_a_process(function, *args):
    """Returns the exit status; forked before JAX has started, which is faster than importing it."""
    child = os.fork()
    if child == 0:
        try:
            function(*args)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    logging.set_verbosity(logging.FATAL)
    folder = pathlib.Path(sys.argv[1])
    for change in itertools.count(1, int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        shutil.rmtree(folder, ignore_errors=True)
        assert in_a_process(save, folder, OLD) == 0
        status = in_a_process(save, folder, NEW, change)
        assert status in (0, -signal.SIGKILL)
        assert in_a_process(check, folder) == 0
        if status == 0:
            break
