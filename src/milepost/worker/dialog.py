"""A trial's talk with the controller: results and decisions, and what comes without being asked."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from milepost.errors import ChannelClosedError
from milepost.worker.channel import Channel
from milepost.worker.protocol import (
    Attend,
    Lent,
    Meet,
    Met,
    Preempt,
    Recorded,
    Reply,
    Reported,
    Shutdown,
    load,
)

if TYPE_CHECKING:
    from milepost.api.preemption import PreemptionInfo
    from milepost.worker.protocol import Borrow, FromWorker, ToWorker

A = TypeVar("A", "Met", "Lent")


class Dialog:
    """The worker's end of the conversation about one trial.

    Args:
        channel: to the controller. Nobody else receives from it while the trial runs.

    Attributes:
        shutdown: the controller wants the worker itself to end, or is gone.
        asks: user code has asked whether it is to save; so it will act on it.
        told: user code has been told to save, and has reported nothing since.
        awaits: the next report is to wait for its answer, even if nobody judges the results.
        preempted: ranks of the workers that lose their machine; None when all are to end.

    Concurrency: any thread may :meth:`poll`, signal handlers too; one thread at a time asks.
    """

    def __init__(self, channel: Channel) -> None:
        self.shutdown = False
        self.asks = False
        self.told = False
        self.awaits = False
        self.preempted: tuple[int, ...] | None = None
        self._channel = channel
        self._preemption: PreemptionInfo | None = None
        self._unrecorded = 0
        self._turn = threading.Lock()  # of whoever receives
        self._sending = threading.Lock()
        self._unsaid: deque[FromWorker] = deque()
        self._poller = 0
        self._pid = os.getpid()

    def tell(self, message: FromWorker) -> None:
        """Send what needs no answer.

        Raises:
            ChannelClosedError: the controller is gone.
        """
        self._send(message)

    def tell_soon(self, message: FromWorker) -> None:
        """Send what needs no answer, from a signal handler: it may have interrupted a sender.

        What cannot be sent at once goes out after what is being sent. It is lost when the
        controller is gone, as nobody is left to care.
        """
        self._unsaid.append(message)
        with contextlib.suppress(ChannelClosedError):
            self._catch_up_saying()

    def decision(self, on: Reported) -> Reply:
        """Send a result and wait for the decision; it is to stop when the controller is gone.

        A result that is not ``awaited`` is only sent: the decision is to go on.

        Raises:
            RuntimeError: called by a signal handler that has interrupted :meth:`poll`.
        """
        self._require_turn()
        self.told = False
        try:
            with self._turn:  # before the result is sent: a poll must not take the answer
                self._send(on)
                if not on.awaited:
                    self._unrecorded += 1
                    return Reply("continue")
                while not self.shutdown:
                    reply = self._take(self._channel.receive())
                    if isinstance(reply, Reply):
                        return reply
        except ChannelClosedError:  # this process will follow
            self.shutdown = True
        return Reply("stop")

    def catch_up(self) -> None:
        """Wait until all results that were sent are on record, or the controller is gone.

        Else a checkpoint could be committed although the driver never hears of the results before
        it: a restore would go on from there, and they would be missing for good.

        Raises:
            RuntimeError: as :meth:`decision`.
        """
        if not self._unrecorded:
            return
        self._require_turn()
        try:
            with self._turn:
                while self._unrecorded and not self.shutdown:
                    self._take(self._channel.receive())
        except ChannelClosedError:
            self.shutdown = True

    def meet(self, message: Meet) -> Met | None:
        """Wait until all workers of the trial do the same; None when this one is to end.

        Raises:
            CollectiveError: they do not.
            RuntimeError: as :meth:`decision`.
        """
        met = self._ask(message, Met)
        if met is not None and met.error:
            raise load(met.error)
        return met

    def borrow(self, message: Borrow) -> Lent | None:
        """Wait until there is room for the workers of a trainer; None when this process is to end.

        Raises:
            RuntimeError: as :meth:`decision`.
        """
        return self._ask(message, Lent)

    def _ask(self, message: Meet | Borrow, kind: type[A]) -> A | None:
        """Send what is answered when others have done something; None when this one is to end."""
        self._require_turn()
        try:
            with self._turn:
                self._send(message)
                while not self.shutdown:
                    answer = self._take(self._channel.receive())
                    if isinstance(answer, kind):
                        return answer
        except ChannelClosedError:
            self.shutdown = True
        return None

    @property
    def is_here(self) -> bool:
        """Whether this is the process that talks, and not one that it has forked."""
        return os.getpid() == self._pid

    def poll(self) -> PreemptionInfo | None:
        """What the trial is to know about the end of its run, for user code; never waits."""
        self.asks = True
        info = self.preemption()
        self.told = info is not None
        return info

    def agreed_preemption(self) -> PreemptionInfo | None:
        """What :meth:`poll` says, for user code of several workers that have just met.

        It is the same for all: each has taken in what was sent to all before they were told that
        they have met, and nothing since.
        """
        self.asks = True
        self.told = self._preemption is not None
        return self._preemption

    def preemption(self) -> PreemptionInfo | None:
        """The same, for ourselves."""
        # Whoever waits for an answer meanwhile takes note of everything that comes.
        if self.is_here and self._turn.acquire(blocking=False):
            self._poller = threading.get_ident()
            try:
                if not self._channel.is_quiet:
                    for message in self._channel.receive_available():
                        self._take(message)
            finally:
                self._poller = 0
                self._turn.release()
        return self._preemption

    def detach(self) -> None:
        """In a forked child: let go of the channel, so that it ends with the trial's process."""
        self._channel.close()

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            self._channel.send(message)
        if self._unsaid:
            self._catch_up_saying()

    def _catch_up_saying(self) -> None:
        """Send what a signal handler has left; whoever sends at the moment does it afterwards."""
        while self._unsaid and self._sending.acquire(blocking=False):
            try:
                self._channel.send(self._unsaid.popleft())
            finally:
                self._sending.release()

    def _require_turn(self) -> None:
        if self._poller == threading.get_ident():
            raise RuntimeError(
                "tune.report() was called by a signal handler inside of should_checkpoint(). Set a "
                "flag there, and report in the training loop."
            )

    def _take(self, message: ToWorker) -> Reply | Met | Lent | None:
        """Take note of a message; return it if it is an answer."""
        if isinstance(message, Reply | Met | Lent):
            return message
        if isinstance(message, Recorded):
            self._unrecorded -= message
            return None
        self.awaits = True
        if isinstance(message, Preempt):
            from milepost.api.preemption import PreemptionInfo

            self._preemption = PreemptionInfo(message.reason, message.deadline_ms)
            self.preempted = message.ranks
        elif isinstance(message, Shutdown):
            self.shutdown = True
        else:
            assert isinstance(message, Attend), message
        return None
