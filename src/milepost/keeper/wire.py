"""Frames over a stream socket: a four-byte length, then that many bytes.

Every channel between our processes is made of these frames.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence

from milepost.errors import ChannelClosedError

_LENGTH = struct.Struct("<I")
# Below what malloc takes from the kernel and gives back each time, which costs more than reading.
_CHUNK = 1 << 16
#: How many descriptors may go with one frame; the kernel's bound is 253.
MOST_DESCRIPTORS = 200
_DESCRIPTOR = struct.Struct("i")
_SPACE_FOR_DESCRIPTORS = socket.CMSG_LEN(MOST_DESCRIPTORS * _DESCRIPTOR.size)


class Wire:
    """Sends and receives whole frames over a connected stream socket.

    Args:
        sock: the socket.
        takes_descriptors: whether frames come with descriptors; the kernel discards them otherwise.

    Attributes:
        descriptors: those that came with frames and were not taken yet, in the order of the frames.

    Concurrency: one thread may send while another receives; two threads must not do the same, and
    to ask whether it :attr:`is_quiet` is to receive.
    """

    def __init__(self, sock: socket.socket, *, takes_descriptors: bool = False) -> None:
        self.descriptors: deque[int] = deque()
        self._socket = sock
        self._takes_descriptors = takes_descriptors
        self._buffer = bytearray()
        self._ended = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 once closed."""
        return self._socket.fileno()

    def send(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one frame, waiting for room in the socket.

        Args:
            payload: the frame.
            descriptors: open files that the other end gets with it, :data:`MOST_DESCRIPTORS` at
                most.

        Raises:
            ChannelClosedError: if the other end is gone.
        """
        try:
            if descriptors:
                frame = _LENGTH.pack(len(payload)) + payload
                sent = socket.send_fds(self._socket, [frame], list(descriptors))
                if sent < len(frame):
                    self._socket.sendall(frame[sent:])
            elif len(payload) < _CHUNK:
                self._socket.sendall(_LENGTH.pack(len(payload)) + payload)
            else:  # do not copy what is large
                self._socket.sendall(_LENGTH.pack(len(payload)))
                self._socket.sendall(payload)
        except (BrokenPipeError, ConnectionError, OSError) as error:
            raise ChannelClosedError(f"cannot send: the other end is gone ({error})") from error

    def receive(self) -> bytes:
        """Wait for one frame.

        Raises:
            ChannelClosedError: if the other end is gone and no whole frame is left.
        """
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            if not self._fill(0):
                raise ChannelClosedError("the other end has closed the channel")

    def receive_one(self, timeout_s: float | None) -> bytes | None:
        """Wait for one frame, at most ``timeout_s`` seconds; None when none came whole.

        Raises:
            ChannelClosedError: if the other end is gone and no whole frame is left.
        """
        if timeout_s is None:
            return self.receive()
        deadline = time.monotonic() + timeout_s
        while (frame := self._take()) is None:
            left = deadline - time.monotonic()
            if self._ended:
                raise ChannelClosedError("the other end has closed the channel")
            if not self._poll.poll(max(0, int(left * 1000))):
                return None
            self._fill(socket.MSG_DONTWAIT)
        return frame

    def receive_available(self) -> list[bytes]:
        """All frames that are here already; never waits.

        After the other end has gone, the frames it sent are still returned; :attr:`ended` tells.
        """
        before = len(self._buffer)
        while self._fill(socket.MSG_DONTWAIT):
            if len(self._buffer) - before < _CHUNK:
                break  # that was all; if not, a selector says so
            before = len(self._buffer)
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since; to ask costs less than to receive nothing."""
        return not (self._ended or self._buffer or self._poll.poll(0))

    @property
    def ended(self) -> bool:
        """Whether the other end is known to be gone."""
        return self._ended

    def close(self) -> None:
        """Close the socket, and descriptors that nobody has taken; safe to call twice."""
        self._ended = True
        while self.descriptors:
            os.close(self.descriptors.pop())
        with contextlib.suppress(OSError):
            self._socket.close()

    def _fill(self, flags: int) -> bool:
        """Read what the socket has; False when it has nothing now or has ended."""
        if self._ended:
            return False
        try:
            if self._takes_descriptors:
                data = self._receive_with_descriptors(flags)
            else:
                data = self._socket.recv(_CHUNK, flags)
        except BlockingIOError:
            return False
        except (ConnectionError, OSError):
            data = b""
        if not data:
            self._ended = True
            return False
        self._buffer += data
        return True

    def _receive_with_descriptors(self, flags: int) -> bytes:
        # Not socket.recv_fds(), which in CPython 3.11 does not hand the flags on: it would wait,
        # and leave the descriptors open in children.
        flags |= socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = self._socket.recvmsg(_CHUNK, _SPACE_FOR_DESCRIPTORS, flags)
        for level, kind, carried in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(carried) - len(carried) % _DESCRIPTOR.size
                self.descriptors.extend(
                    each for (each,) in _DESCRIPTOR.iter_unpack(carried[:whole])
                )
        return data

    def _take(self) -> bytes | None:
        """Cut one whole frame off the buffer."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return frame
