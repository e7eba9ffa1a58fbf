"""A connection of the keeper's, which never makes the keeper wait."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable

from milepost.keeper.wire import Wire

_LENGTH = struct.Struct("<I")
_CREDENTIALS = struct.Struct("3i")


class Peer:
    """Sends what the socket takes now and keeps the rest until it takes more.

    Args:
        sock: the connected socket.
        want_writable: is called with whether :meth:`flush` should be called when the socket takes
            more.

    Attributes:
        wire: to receive from.
    """

    def __init__(self, sock: socket.socket, want_writable: Callable[[Peer, bool], None]) -> None:
        self.wire = Wire(sock, takes_descriptors=True)
        self._want_writable = want_writable
        self._socket = sock
        self._out: deque[memoryview] = deque()
        self._after: deque[tuple[int, Callable[[], None]]] = deque()
        self._behind = False
        self._queued = 0
        self._sent = 0

    def fileno(self) -> int:
        """Descriptor for a selector."""
        return self.wire.fileno()

    def process_id(self) -> int:
        """The process at the other end."""
        data = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(data)[0]
        return pid

    def send(self, payload: bytes, after: Callable[[], None] | None = None) -> None:
        """Send one frame, now or later.

        Args:
            payload: the frame.
            after: is called when it has been handed to the kernel, or the other end is gone.
        """
        frame = _LENGTH.pack(len(payload)) + payload
        self._out.append(memoryview(frame))
        self._queued += len(frame)
        if after is not None:
            self._after.append((self._queued, after))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        while self._out:
            data = self._out[0]
            try:
                sent = self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:  # the other end is gone; reading will find that too
                self._sent = self._queued
                self._out.clear()
                break
            self._sent += sent
            if sent < len(data):
                self._out[0] = data[sent:]
            else:
                self._out.popleft()
        if self._behind != bool(self._out):
            self._behind = not self._behind
            self._want_writable(self, self._behind)
        while self._after and self._after[0][0] <= self._sent:
            self._after.popleft()[1]()

    def close(self) -> None:
        """Close the connection; what waited for being sent is as good as sent."""
        self._out.clear()
        self._sent = self._queued
        self._behind = False
        self.flush()
        self.wire.close()
