"""SIGTERM, sent by this process to itself."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
from jax.sharding import AxisType

from genrec_jax import preemption
from genrec_jax.errors import Preempted

pytestmark = pytest.mark.usefixtures("listening")


def send():
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_ends_what_can_be_done_again():
    with pytest.raises(Preempted, match=r"^the same command goes on from here$"):
        send()


def test_no_handler_of_mistakes_stops_it():
    with pytest.raises(Preempted):
        try:
            send()
        except Exception:
            pytest.fail("a handler of mistakes has stopped it")


def test_where_python_drops_it_it_comes_again():
    class Sender:
        def __del__(self):  # what this raises is dropped
            send()

    with pytest.raises(Preempted, match="goes on from here"):
        Sender()
        time.sleep(20)


def test_a_block_is_told_and_decides():
    with pytest.raises(Preempted, match="saved"), preemption.deferred() as is_preempted:
        assert not is_preempted()
        send()
        send()
        assert is_preempted()
        raise Preempted("saved")
    with pytest.raises(Preempted, match="goes on from here"):  # as before
        send()


def test_a_block_that_ends_otherwise_only_delays_it():
    reached = False
    with pytest.raises(Preempted, match="goes on from here"), preemption.deferred():
        send()
        reached = True
    assert reached


def test_a_mistake_in_the_block_is_what_counts():
    with pytest.raises(KeyError), preemption.deferred():
        send()
        raise KeyError
    with preemption.deferred() as is_preempted:  # nothing is left of it
        assert not is_preempted()


def test_one_process_asks_nobody():
    wishes = iter([1, 2])
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,))
    agreed = preemption.agreement(mesh, lambda: next(wishes))
    assert [agreed(), agreed()] == [1, 2]  # of the time it is asked


@pytest.mark.once
def test_the_largest_wish_of_all_processes_counts():
    program = (
        "import sys, jax; address, number = sys.argv[1], int(sys.argv[2])\n"
        "jax.distributed.initialize(address, 2, number)\n"
        "from genrec_jax import preemption, sharding\n"
        "mesh = sharding.make_mesh()\n"
        "wishes = 0, number, 2 - number\n"
        "agreed = [preemption.agreement(mesh, lambda wish=wish: wish) for wish in wishes]\n"
        "print([ask() for ask in agreed])\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [text.splitlines()[-1] for text in said] == ["[0, 1, 2]"] * 2
