"""Several processes that work on one run: they join, agree, and end together.

All run the same program on the devices of all. Process 0 alone decides what depends on files, and
writes them, but for checkpoints and exports, of which each process writes its part.
"""

import collections
import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from genrec_jax import clusters
from genrec_jax.errors import UserError, one_line
from genrec_jax.lifeline import Lifeline, Notice

_FAILED = 1  # the status of who could not join, or lost another
_SECONDS_TO_SPEAK = 0.5  # for who is told of an error to say the same of itself
_SECONDS_TO_LEARN = 1.0  # which process was lost, after an error that may come of it
_T = TypeVar("_T")
_lifeline: Lifeline | None = None
_is_leaving = False  # and has said why


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: float
) -> None:
    """Joins the other processes, if there are any; no device may have been used before.

    The arguments but the last are those of `clusters.find`. Ends the process, with a line that
    says why, if not all processes have come after `timeout` seconds.

    Raises:
        UserError: if the arguments make no sense, or the processes have not as many devices each.
    """
    arguments = clusters.find(
        os.environ, coordinator=coordinator, num_processes=num_processes, process_id=process_id
    )
    if arguments is None:
        return
    # It would take SIGTERM for itself, which then ended nothing.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX would say the same in a page, and abort.
    deadline = threading.Timer(timeout, _give_up, (arguments, timeout))
    deadline.daemon = True
    deadline.start()
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=round(2 * timeout) + 60)
        jax.devices()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {error}") from error
    finally:
        deadline.cancel()
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise UserError(
            "each process must have as many devices as the others: process "
            f"{min(counts, key=counts.get)} has {min(counts.values())}, process "
            f"{max(counts, key=counts.get)} has {max(counts.values())}"
        )
    _hold_on(arguments.get("coordinator_address"))


def _give_up(arguments: clusters.Arguments, timeout: float) -> None:
    address = arguments.get("coordinator_address")
    waited = f"within {timeout:g} s"
    if address is None:
        said = f"not all processes of this cluster have come {waited}: see what the others say"
    elif arguments["process_id"] and not _is_reachable(address):
        said = (
            f"process {arguments['process_id']} cannot reach the coordinator {address} {waited}: "
            "check this address, and that process 0 runs there"
        )
    else:
        said = (
            f"not all of {arguments['num_processes']} processes have come to {address} {waited}: "
            "see what the others say, and start so many, each with an index of its own"
        )
    _end(f"error: {said}", _FAILED)


def _is_reachable(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _hold_on(coordinator: str | None) -> None:
    """Connects the processes so that none outlives another; JAX alone needs 100 s to notice."""
    global _lifeline
    me = (
        f"process {jax.process_index()} of {jax.process_count()} "
        f"(pid {os.getpid()} on {socket.gethostname()})"
    )
    lifeline = Lifeline(me, _lost)
    invitation = from_first(lambda: lifeline.listen(jax.process_count() - 1, _hosts(coordinator)))
    if not is_first() and not lifeline.connect(invitation):
        print(
            f"{me} cannot reach port {invitation['port']} of {' or '.join(invitation['hosts'])}: "
            "it will notice only after 100 s if another dies",
            file=sys.stderr,
        )
    _lifeline = lifeline


def _hosts(coordinator: str | None) -> list[str]:
    """Returns names and addresses that others may know this host by, the surest first."""
    hosts = [coordinator.rsplit(":", 1)[0].strip("[]")] if coordinator else []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):  # there is no such route
            probe.connect(("10.255.255.255", 1))  # sends nothing
            hosts.append(probe.getsockname()[0])
    return [*hosts, socket.gethostname()]


def _lost(notice: Notice) -> None:
    """Ends this process because another has failed."""
    if notice.status is None:
        what, status = "has died", _FAILED
    else:
        time.sleep(_SECONDS_TO_SPEAK)
        reason = f" ({notice.reason})" if notice.reason else ""
        what, status = f"has ended with status {notice.status}{reason}", notice.status
        if _is_leaving:
            return
    _end(f"error: {notice.who} {what}: so this one ends too", status)


def _end(line: str, status: int) -> None:
    os.write(sys.stderr.fileno(), f"{line}\n".encode())
    os._exit(status)  # to wait for the others, as JAX would at an exit, could take minutes


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends all processes, soon, if the block ends this one with an error."""
    global _is_leaving
    try:
        yield
    except BaseException as error:
        if _lifeline is None:
            raise
        is_exit = isinstance(error, SystemExit)
        if is_exit and not error.code:
            jax.distributed.shutdown()  # waits for the others
            _lifeline.leave(0, "")
            raise
        status = error.code if is_exit else _FAILED
        cause = error.__context__ if is_exit else error
        if not is_exit:
            time.sleep(_SECONDS_TO_LEARN)
            traceback.print_exception(error)
        _is_leaving = True
        _lifeline.leave(status, one_line(cause) if cause else "")
        if is_first():
            time.sleep(2 * _SECONDS_TO_SPEAK)  # the others' JAX aborts once the coordinator is gone
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def is_first() -> bool:
    """Returns whether this is process 0, or the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(function: Callable[[], Any]) -> Any:
    """Returns what the function returns in process 0, where alone it is called, as JSON has it."""
    if not jax.distributed.is_initialized():
        return function()
    text = json.dumps(function()).encode() if is_first() else b""
    size = multihost_utils.broadcast_one_to_all(np.int32(len(text)))
    text = text or bytes(int(size))
    shared = multihost_utils.broadcast_one_to_all(np.frombuffer(text, np.uint8))
    return json.loads(np.asarray(shared, np.uint8).tobytes())


def first_before_others(function: Callable[[], _T]) -> _T:
    """Returns what the function returns, which the others call once process 0 has called it.

    So what it leaves in a shared cache is made once, and in folders of their own by each.
    """
    if not jax.distributed.is_initialized():
        return function()
    result = function() if is_first() else None
    multihost_utils.sync_global_devices("process 0 is first")
    return result if is_first() else function()


def check_same(what: str, value: Any, remedy: str) -> None:
    """Raises UserError, in all processes alike, unless the value, JSON, of all is the same."""
    if not jax.distributed.is_initialized():
        return
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))  # [processes, 32]
    differs = (digests != digests[0]).any(axis=1)
    if differs.any():
        raise UserError(f"process {np.argmax(differs)} has {what} than process 0: {remedy}")
