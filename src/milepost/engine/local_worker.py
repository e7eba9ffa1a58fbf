"""A worker process of this machine, as the driver sees it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Literal

from milepost.engine import messages
from milepost.engine.messages import Kill, Signal
from milepost.engine.protocol import WorkerSpec
from milepost.engine.server_process import ServerProcess
from milepost.errors import ChannelClosedError, WorkerStartError
from milepost.keeper.wire import Wire
from milepost.worker.channel import Channel

Stream = Literal["stdout", "stderr"]


class LocalWorker:
    """A worker's channel and pipes; implements :class:`milepost.engine.protocol.WorkerHandle`.

    Args:
        spec: what the worker is to be.
        server: the fork server that will make the process.

    Attributes:
        spec: as given.
        streams: the ends of its pipes that are read here.
        unsent: its own ends of channel and pipes, until the process exists.

    Raises:
        WorkerStartError: no more descriptors can be opened.
    """

    def __init__(self, spec: WorkerSpec, server: ServerProcess) -> None:
        self.spec = spec
        self._pid: int | None = None
        self._server = server
        opened: list[int] = []
        try:
            ours, theirs = (end.detach() for end in socket.socketpair())
            opened += ours, theirs
            opened += os.pipe()
            opened += os.pipe()
        except OSError as error:
            messages.close_all(opened)
            raise WorkerStartError(f"cannot start worker {spec.name!r}: {error}") from error
        ours, theirs, out, out_end, err, err_end = opened
        self._channel = Channel(Wire(socket.socket(fileno=ours)))
        self.streams: dict[int, Stream] = {out: "stdout", err: "stderr"}
        for fd in self.streams:
            os.set_blocking(fd, False)
        self.unsent: tuple[int, ...] = (theirs, out_end, err_end)  # kept until the process exists

    @property
    def worker_id(self) -> str:
        """The id of its spec."""
        return self.spec.worker_id

    @property
    def pid(self) -> int | None:
        """Its process id, which is its session's too; None until it is known."""
        return self._pid

    @property
    def channel(self) -> Channel:
        """Connected already; messages may be sent at once."""
        return self._channel

    def kill(self) -> None:
        """Kill the worker and every process that it started; safe when it has ended."""
        with contextlib.suppress(ChannelClosedError):  # the server's end kills it too
            self._server.send(Kill(self.worker_id))

    def signal(self, signum: int) -> None:
        """Send a signal to the worker process alone; safe when it has ended."""
        with contextlib.suppress(ChannelClosedError):
            self._server.send(Signal(self.worker_id, signum))

    def move_to(self, server: ServerProcess) -> None:
        """Start on another server."""
        self._server = server

    def exists(self, pid: int) -> None:
        """Take note that the process has been made; it has its descriptors."""
        self._pid = pid
        self.close_unsent()

    def close_unsent(self) -> None:
        """Close the worker's ends of its channel and pipes in this process."""
        messages.close_all(self.unsent)
        self.unsent = ()
