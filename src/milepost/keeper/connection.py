"""A worker's connection to the keeper, which outlives any one keeper.

The driver keeps the listening socket, so a connection can always be made while the driver lives;
who connects makes the driver start a keeper if none runs. When a keeper dies, the connection is
made anew, what is not settled is announced again, and unanswered requests are repeated.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence

from milepost.errors import ChannelClosedError
from milepost.keeper.address import connect
from milepost.keeper.guard import Guarded, release
from milepost.keeper.protocol import (
    Abandoned,
    Captured,
    Expected,
    Guard,
    Hello,
    Queued,
    Reserve,
    Reserved,
    Settled,
    WorkerReply,
    decode_reply,
    encode,
)
from milepost.keeper.wire import Wire

log = logging.getLogger("milepost.keeper")

_RECONNECT_S = 30.0
_RETRY_S = 0.05
_MARGIN = 4


class KeeperConnection:
    """Requests to the keeper, and its replies.

    Args:
        address: path of the keeper's socket.
        hello: who connects.
        unsettled: what to announce again to another keeper.
    """

    def __init__(
        self, address: str, hello: Hello, unsettled: Callable[[], Sequence[Captured | Expected]]
    ) -> None:
        self._address = address
        self._hello = hello
        self._unsettled = unsettled
        self._wire: Wire | None = None
        self._settled: list[Settled] = []
        self._pid: int | None = None
        self._free_bytes = 0

    def announce(self, capture: Captured | Expected) -> None:
        """Tell that a capture is complete, or expected; it counts as unsettled already.

        Raises:
            ChannelClosedError: there is no keeper, and no driver to start one.
        """
        if self._wire is None:
            self._connect()  # which announces it too
            return
        try:
            self._wire.send(encode(capture))
        except ChannelClosedError:
            self._connect()

    def keeper_with_room(self, nbytes: int) -> int | None:
        """The keeper's process id, when it surely has room; None when it must be asked.

        By what it had said by the last call of :meth:`settled`, with a wide margin, since it serves
        other workers too.
        """
        return self._pid if self._free_bytes >= _MARGIN * nbytes else None

    def hand_over(self, base: str, guards: list[Guarded], keeper_pid: int) -> None:
        """Give the keeper the leases on staged files.

        If it is not the one they were taken for any more, they end: the next one compares the
        files' times instead.

        Args:
            base: the capture's path in staging, without suffix.
            guards: the leases; emptied.
            keeper_pid: the keeper they were taken for.
        """
        if self._wire is not None and self._pid == keeper_pid:
            message = Guard(base=base, paths=tuple(guarded.path for guarded in guards))
            with contextlib.suppress(ChannelClosedError):  # announcing finds that too
                self._wire.send(encode(message), [guarded.fd for guarded in guards])
                while guards:
                    os.close(guards.pop().fd)
        while guards:
            release(guards.pop().fd)

    def abandon(self, message: Abandoned) -> None:
        """Tell that a capture failed. A keeper that is gone has forgotten it anyway."""
        if self._wire is not None:
            try:
                self._wire.send(encode(message))
            except ChannelClosedError:
                self._drop()

    def ask(
        self,
        request: Reserve,
        *,
        waiting: Callable[[float, int | None], float | None],
    ) -> Reserved | None:
        """Send a request and wait for its answer.

        Args:
            request: the request.
            waiting: called with the seconds waited so far, and with the bytes in staging if there
                is no room or None if no keeper has answered at all; returns the seconds until it
                is called again, or None to give up.

        Returns:
            The answer, or None when ``waiting`` gave up.

        Raises:
            ChannelClosedError: there is no keeper, and no driver to start one.
        """
        started = time.monotonic()
        payload = encode(request)
        while True:
            staged_bytes: int | None = None
            try:
                wire = self._wire or self._connect()
                wire.send(payload)
                pause = waiting(time.monotonic() - started, staged_bytes)
                while pause is not None:
                    reply = self._receive(wire, pause)
                    if isinstance(reply, Reserved):
                        self._pid, self._free_bytes = reply.pid, reply.free_bytes
                        return reply
                    if isinstance(reply, Settled):
                        self._note(reply)
                        continue
                    if isinstance(reply, Queued):
                        staged_bytes = reply.staged_bytes
                    pause = waiting(time.monotonic() - started, staged_bytes)
            except ChannelClosedError:
                self._connect()
            else:
                self._drop()  # so that a late answer is not taken for another's
                return None

    def wait(self, timeout_s: float) -> None:
        """Wait until something was settled, at most ``timeout_s`` seconds.

        Raises:
            ChannelClosedError: there is no keeper, and no driver to start one.
        """
        if self._settled:
            return
        try:
            reply = self._receive(self._wire or self._connect(), timeout_s)
        except ChannelClosedError:
            self._connect()
            return
        if isinstance(reply, Settled):
            self._note(reply)

    def settled(self) -> list[Settled]:
        """What was settled since the last call; never waits."""
        self._receive_settled()
        found, self._settled = self._settled, []
        return found

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._drop()

    def _receive_settled(self) -> None:
        if self._wire is None or self._wire.is_quiet:
            return
        for frame in self._wire.receive_available():
            reply = decode_reply(frame)
            if isinstance(reply, Settled):
                self._note(reply)
        if self._wire.ended:
            self._pid = None

    def _note(self, settled: Settled) -> None:
        self._settled.append(settled)
        self._free_bytes = settled.free_bytes

    def _receive(self, wire: Wire, timeout_s: float | None) -> WorkerReply | None:
        frame = wire.receive_one(timeout_s)
        return None if frame is None else decode_reply(frame)

    def _connect(self) -> Wire:
        self._drop()
        deadline = time.monotonic() + _RECONNECT_S
        while True:
            try:
                wire = Wire(connect(self._address))
                wire.send(encode(self._hello))
                for capture in self._unsettled():
                    wire.send(encode(capture))
            except (OSError, ChannelClosedError) as error:
                # A socket that is gone has no driver either. One that refuses is being torn down.
                if isinstance(error, FileNotFoundError) or time.monotonic() > deadline:
                    raise ChannelClosedError(
                        f"no keeper answers at {self._address} ({error}), so the driver of this "
                        "experiment has ended. Captured checkpoints stay in staging and are "
                        "committed when the experiment is restored"
                    ) from error
                time.sleep(_RETRY_S)
            else:
                self._wire = wire
                return wire

    def _drop(self) -> None:
        self._pid = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None
