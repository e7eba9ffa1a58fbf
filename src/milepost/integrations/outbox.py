"""Calls to a service that may be slow or down, made by a thread so that no trial waits for them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

log = logging.getLogger("milepost.integrations")

#: How many calls may wait; results that come on top are dropped, and counted.
CAPACITY: Final = 10_000
#: After so many failures in a row the service is taken for dead, once nothing new comes.
_DEAD_AFTER: Final = 2
_SILENT_S: Final = 5.0


class _Call(NamedTuple):
    what: str
    act: Callable[[], None]
    release: Callable[[], None] | None


class Outbox:
    """Makes calls in the order in which they were handed in.

    A call that raises is skipped: the first one of a kind is logged with its reason, all are
    counted, and :meth:`close` tells the sum.

    Args:
        service: its name, for people.
        capacity: how many calls may wait.
    """

    def __init__(self, service: str, capacity: int = CAPACITY) -> None:
        self._service = service
        self._capacity = capacity
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._warned: set[str] = set()
        self._made = self._failed = self._dropped = 0
        self._failed_in_a_row = 0
        self._thread = threading.Thread(
            target=self._work, name=f"milepost-{service.lower().replace(' ', '-')}", daemon=True
        )
        self._thread.start()

    def send(
        self,
        what: str,
        act: Callable[[], None],
        *,
        release: Callable[[], None] | None = None,
        droppable: bool = False,
    ) -> None:
        """Have a call made.

        Args:
            what: names the call, for people.
            act: makes it.
            release: called when it was made, failed, or will never be made.
            droppable: leave it out if too many wait.
        """
        with self._changed:
            is_taken = not (droppable and len(self._waiting) >= self._capacity)
            if is_taken:
                self._waiting.append(_Call(what, act, release))
                self._changed.notify()
            else:
                self._dropped += 1
        if is_taken:
            return
        if release is not None:
            release()
        if what not in self._warned:
            self._warned.add(what)
            log.warning(
                "%s is slower than the trials: %d calls wait, so what comes now is left out there "
                "until it has caught up (%s). The experiment goes on; its own files have all.",
                self._service,
                self._capacity,
                what,
            )

    def close(self, patience_s: float) -> None:
        """Wait until all calls were made, as long as they succeed.

        Args:
            patience_s: how long to wait at most, in seconds.
        """
        with self._changed:
            self._closing = True
            if self._failed_in_a_row >= _DEAD_AFTER:
                self._give_up()
            self._changed.notify()
        self._thread.join(min(_SILENT_S, patience_s))
        if self._thread.is_alive() and patience_s > _SILENT_S:
            log.warning(
                "Waiting for %s to take what is left: %d calls, at most %.0f s. Ctrl-C twice "
                "leaves them out; the experiment itself is complete.",
                self._service,
                len(self._waiting) + 1,
                patience_s - _SILENT_S,
            )
            self._thread.join(patience_s - _SILENT_S)
        if self._thread.is_alive():
            with self._changed:
                self._dropped += 1  # the one that does not return
                self._give_up()
        if self._failed or self._dropped:
            log.warning(
                "%s lacks a part of this run: %d of %d calls failed or were left out. The "
                "experiment's own files have everything.",
                self._service,
                self._failed + self._dropped,
                self._made + self._dropped,
            )

    # --- the thread -------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                call = self._waiting.popleft()
            self._make(call)

    def _make(self, call: _Call) -> None:
        self._made += 1
        try:
            call.act()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - another library's, whatever it is
            self._note(call.what, error)
        else:
            self._failed_in_a_row = 0
        finally:
            if call.release is not None:
                call.release()

    def _note(self, what: str, error: BaseException) -> None:
        self._failed += 1
        self._failed_in_a_row += 1
        if what not in self._warned:
            self._warned.add(what)
            log.warning(
                "%s: could not %s (%s: %s). The experiment goes on; further failures of this kind "
                "are counted and told at its end.",
                self._service,
                what,
                type(error).__name__,
                error,
            )
            log.debug("The failure of %s:", self._service, exc_info=error)
        with self._changed:
            if self._closing and self._failed_in_a_row >= _DEAD_AFTER:
                self._give_up()

    def _give_up(self) -> None:
        """Leave out all that waits; the lock is held."""
        while self._waiting:
            call = self._waiting.popleft()
            self._dropped += 1
            if call.release is not None:
                call.release()
