"""Servers on loopback for the checks of resolvers and connectors that use sockets; all else here opens none.

>>> from mailtlspolicy.adapters.dns import DnsResolver
>>> from mailtlspolicy.testing.resolvers import nameserver, records_have_their_form
>>> with LoopbackNameserver(nameserver()) as server:
...     records_have_their_form(DnsResolver(nameservers=[server.address]))
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from mailtlspolicy.testing.nameserver import Nameserver

_HOST = "127.0.0.1"
_PATIENCE = 60.0  # seconds that a server waits for a client: longer than any has to, on a busy machine too
_TRIES = 50  # for a port that is free for both UDP and TCP


class LoopbackNameserver:
    """A nameserver on UDP and TCP, as long as the `with` statement lasts.

    Attributes:
        address: where it listens, as "127.0.0.1:49152".
    """

    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver
        self._udp, self._tcp = _both_sockets()
        self._at: tuple[str, int] = self._udp.getsockname()
        self.address = f"{_HOST}:{self._at[1]}"
        self._ending = False
        self._threads = [threading.Thread(target=serve) for serve in (self._serve_datagrams, self._serve_streams)]

    def _serve_datagrams(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65_535)
            if self._ending:
                return
            reply = self._nameserver.reply(query)
            if reply is not None:
                self._udp.sendto(reply, client)

    def _serve_streams(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                if self._ending:
                    return
                with contextlib.suppress(OSError):
                    self._serve_stream(connection)

    def _serve_stream(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        with connection.makefile("rb") as stream:
            while length := stream.read(2):
                reply = self._nameserver.reply(stream.read(int.from_bytes(length, "big")), stream=True)
                if reply is None:
                    return
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

    def __enter__(self) -> LoopbackNameserver:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._at)
        socket.create_connection(self._at).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


def _both_sockets() -> tuple[socket.socket, socket.socket]:
    for _ in range(_TRIES):
        tcp = socket.create_server((_HOST, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise OSError("no port is free for both UDP and TCP")
