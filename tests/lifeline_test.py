"""Connections between processes, here between objects of one."""

import contextlib
import queue
import socket

import pytest

from genrec_jax.lifeline import Lifeline, Notice


class Member:
    """A process: its lifeline, and what it hears of."""

    def __init__(self, name):
        self.heard = queue.Queue()
        self.lifeline = Lifeline(name, self.heard.put)

    def die(self):
        for connection in self.lifeline._connections:
            with contextlib.suppress(OSError):  # the other end is closed already
                connection.shutdown(socket.SHUT_WR)  # as the system does when a process ends


@pytest.fixture
def members():
    first, *others = [Member(name) for name in ("a", "b", "c")]
    invitation = first.lifeline.listen(2, ["nowhere.invalid", "127.0.0.1"])
    assert all(other.lifeline.connect(invitation) for other in others)
    return first, *others


def test_a_death_is_told_to_all(members):
    first, second, third = members
    second.die()
    assert first.heard.get(timeout=5) == Notice("b", None, "")
    assert third.heard.get(timeout=5) == Notice("b", None, "")


def test_the_death_of_the_first_is_noticed_by_all(members):
    first, second, third = members
    first.die()
    assert second.heard.get(timeout=5) == third.heard.get(timeout=5) == Notice("a", None, "")


@pytest.mark.parametrize("who", [0, 2])
def test_who_leaves_says_why(members, who):
    name = "abc"[who]
    members[who].lifeline.leave(2, "no such file")
    for other in {0, 1, 2} - {who}:
        assert members[other].heard.get(timeout=5) == Notice(name, 2, "no such file")


def test_the_end_of_a_run_is_no_failure(members):
    first, second, third = members
    for member, others in ((second, (first, third)), (first, (third,))):
        member.lifeline.leave(0, "")
        member.die()
        for other in others:
            with pytest.raises(queue.Empty):
                other.heard.get(timeout=0.2)


def test_strangers_do_not_count(members):
    first = Member("d")
    invitation = first.lifeline.listen(1, ["127.0.0.1"])
    with socket.create_connection(("127.0.0.1", invitation["port"])) as stranger:
        stranger.sendall(b'["guess", "x"]\n')
        assert stranger.recv(1) == b""
    assert Member("e").lifeline.connect(invitation)
    assert not Member("f").lifeline.connect(invitation)  # it listens no more
