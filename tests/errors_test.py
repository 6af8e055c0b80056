"""What ends a command in one line, and what keeps its traceback."""

import errno
import sys
import types

import pytest

from genrec_jax import errors
from genrec_jax.errors import Preempted, UserError


@pytest.mark.parametrize(
    "error, status, line",
    [
        (UserError("no good:\n  try again"), 2, "error: no good: try again\n"),
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on from here\n"),
        (Preempted("saved at step 3"), 75, "preempted: saved at step 3\n"),
    ],
)
def test_mistakes_and_interruptions_end_in_one_line(monkeypatch, error, status, line):
    written = []  # of several processes that share a terminal, so each line in one piece
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(write=written.append))

    def ended(argv):
        raise error

    with pytest.raises(SystemExit) as exit:
        errors.exit_on_error(ended)([])
    assert exit.value.code == status
    assert written == [line]


def test_a_defect_keeps_its_traceback():
    def defective(argv):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        errors.exit_on_error(defective)([])


def test_what_the_system_refuses_is_told_apart_from_defects():
    full = OSError(errno.ENOSPC, "No space left on device", "a/b")
    in_the_text = ValueError("OUT_OF_RANGE: write() failed: File too large; at byte 8192")
    for error in (full, in_the_text):
        assert errors.refusal(error).endswith(
            "make room, then give the same command, which goes on from what was saved"
        )
    later = RuntimeError("while saving")
    later.__cause__ = full
    assert errors.refusal(later) == errors.refusal(full)
    denied = PermissionError(errno.EACCES, "Permission denied", "a/b")
    assert errors.refusal(denied).startswith("a/b: Permission denied: choose another path")
    assert errors.refusal(FileNotFoundError(errno.ENOENT, "No such file", "a/b")) is None
    assert errors.refusal(ValueError("ours")) is None
    while_denied = ValueError("ours")
    while_denied.__context__ = denied  # a defect in what was done about it
    assert errors.refusal(while_denied) is None


def test_a_full_disk_is_the_users_to_mend(capsys):
    def fill(argv):
        raise RuntimeError("while saving") from OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit) as exit:
        errors.exit_on_error(fill)([])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write: No space left on device: make room, then")
