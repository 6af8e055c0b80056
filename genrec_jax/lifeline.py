"""Connections by which processes notice at once that one of them has ended.

Process 0 has one to every other. Who leaves says with which status and why; a connection that
closes without a word is that of a process that died. Process 0 passes on what it notices.
"""

import json
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

_SECONDS_TO_CONNECT = 10.0
_LOOPBACK = ("127.0.0.1", "localhost")


class Notice(NamedTuple):
    """That a process has failed."""

    who: str
    status: int | None  # None if it died without a word
    reason: str


class Lifeline:
    """One process's connections."""

    def __init__(self, me: str, lost: Callable[[Notice], None]):
        """`me` names this process; `lost` is called, in another thread, when one has failed."""
        self._me, self._lost = me, lost
        self._connections: list[socket.socket] = []

    def listen(self, num_others: int, hosts: list[str]) -> dict[str, Any]:
        """Waits for the others in the background; returns what they need for `connect`.

        `hosts` are names of this host, or addresses, that others may know it by.
        """
        # Where all are on one machine, no other can connect.
        interface = next((host for host in hosts if host in _LOOPBACK), "")
        server = socket.create_server((interface, 0))
        invitation = {
            "who": self._me,
            "hosts": hosts,
            "port": server.getsockname()[1],
            "token": secrets.token_hex(16),
        }
        waiting = threading.Thread(
            target=self._accept, args=(server, num_others, invitation["token"]), daemon=True
        )
        waiting.start()
        return invitation

    def connect(self, invitation: dict[str, Any]) -> bool:
        """Returns whether process 0 could be reached, which gave the invitation."""
        for host in invitation["hosts"]:
            try:
                connection = socket.create_connection(
                    (host, invitation["port"]), timeout=_SECONDS_TO_CONNECT
                )
                _send(connection, [invitation["token"], self._me])
                if _receive(connection) != invitation["token"]:
                    continue  # another server
            except (OSError, ValueError):
                continue
            connection.settimeout(None)
            self._hold(connection, invitation["who"])
            return True
        return False

    def leave(self, status: int, reason: str) -> None:
        """Says that this process ends; 0 is no failure."""
        self._tell(Notice(self._me, status, reason))

    def _accept(self, server: socket.socket, num_others: int, token: str) -> None:
        with server:
            while len(self._connections) < num_others:
                connection, _ = server.accept()
                connection.settimeout(_SECONDS_TO_CONNECT)
                try:
                    given, who = _receive(connection)
                    if given != token:
                        raise ValueError("a stranger")
                    _send(connection, token)
                except (OSError, ValueError, TypeError):
                    connection.close()
                    continue
                connection.settimeout(None)
                self._hold(connection, who)

    def _hold(self, connection: socket.socket, who: str) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connections.append(connection)
        threading.Thread(target=self._follow, args=(connection, who), daemon=True).start()

    def _follow(self, connection: socket.socket, who: str) -> None:
        try:
            notice = Notice(*_receive(connection))
        except (OSError, ValueError):
            notice = Notice(who, None, "")
        if notice.status != 0:
            self._tell(notice)
            self._lost(notice)

    def _tell(self, notice: Notice) -> None:
        for connection in self._connections:
            try:
                _send(connection, notice)
            except OSError:
                pass  # that one has ended already


def _send(connection: socket.socket, message: Any) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket) -> Any:
    """Returns the next message; ValueError if the connection is closed instead."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise ValueError("closed")
        line += part
    return json.loads(line)
