"""Mistakes and refusals that end a command in one line of text."""

import errno
import os
import sys
from collections.abc import Callable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LEAVE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class UserError(Exception):
    """A mistake that its message names together with the remedy.

    A command prints it as `error: ...` and exits with status 2. Anything else that is raised is a
    defect of the program and keeps its traceback, unless it is the system that refuses a file.
    """


class Preempted(BaseException):
    """The machine is taken back. Like a key press, no handler of mistakes stops it.

    A command prints it as `preempted: ...` and exits with status 75, which sysexits.h calls
    EX_TEMPFAIL: to be started again.
    """


def exit_on_error(function: Callable) -> Callable:
    """Returns `function` with mistakes and interruptions as one line and an exit status each.

    2 is a user's mistake, 75 a preemption and 130 a key press.
    """

    def guarded(*arguments):
        try:
            return function(*arguments)
        except KeyboardInterrupt:
            _say("interrupted: the same command goes on from here")
            sys.exit(130)
        except Preempted as notice:
            _say(f"preempted: {notice}")
            sys.exit(os.EX_TEMPFAIL)
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else refusal(error)
            if message is None:
                raise
            _say(f"error: {one_line(message)}")
            sys.exit(2)

    return guarded


def _say(line: str) -> None:
    """Prints a line at once, end included, for several processes may print to one terminal."""
    sys.stderr.write(f"{line}\n")


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def refusal(error: BaseException) -> str | None:
    """Returns what to tell the user if it is the system that refuses a file, None otherwise.

    Libraries that write in C++ have the system's words only in the text of their errors.
    """
    if isinstance(error, OSError) and error.errno in _NO_LEAVE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}: choose another path, or allow this one"
    while error is not None:
        for number in _NO_ROOM:
            if os.strerror(number) in str(error):
                return (
                    f"cannot write: {os.strerror(number)}: make room, then give the same command, "
                    "which goes on from what was saved"
                )
        error = error.__cause__ or error.__context__
    return None
