"""Chooses the checkpoints that trials start from, beside the controller's loop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from milepost.checkpoint import verify

#: A trial, and the number of its question.
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """A checkpoint to start from: its number, and its id for the lineage."""

    index: int
    id: str


class Verifier:
    """Reads checkpoints on threads of its own: comparing contents takes as long as reading them."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._chosen: deque[tuple[Key, Choice | Exception | None]] = deque()
        self._threads: set[threading.Thread] = set()

    def fileno(self) -> int:
        """Readable when :meth:`chosen` has something."""
        return self._wake

    def choose(self, key: Key, trial_dir: str, among: Mapping[str, int], *, contents: bool) -> None:
        """Find the newest good checkpoint; bad ones go to quarantine, each with a line in the log.

        Args:
            key: handed back with the answer.
            trial_dir: the directory of the trial whose checkpoints they are.
            among: directory names of those that may be chosen, with their numbers.
            contents: compare every byte, not only sizes.
        """
        thread = threading.Thread(
            target=self._choose,
            args=(key, trial_dir, dict(among), contents),
            name=f"milepost-verify-{key[0]}",
            daemon=True,
        )
        self._threads.add(thread)
        thread.start()

    def chosen(self) -> list[tuple[Key, Choice | None]]:
        """Answers since the last call, each with its key; None when none is good.

        Raises:
            Exception: what went wrong with reading one.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        answers: list[tuple[Key, Choice | None]] = []
        while self._chosen:
            key, answer = self._chosen.popleft()
            if isinstance(answer, Exception):
                raise answer
            answers.append((key, answer))
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        return answers

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for what is being read; what takes longer goes on without an effect."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake)

    def _choose(self, key: Key, trial_dir: str, among: dict[str, int], contents: bool) -> None:
        answer: Choice | Exception | None
        try:
            best = verify.newest_good(trial_dir, digests=contents, quarantine=True, among=among)
            answer = None if best is None else Choice(best[0], best[1].id)
        except Exception as error:  # noqa: BLE001 - raised in the loop
            answer = error
        self._chosen.append((key, answer))
        os.eventfd_write(self._wake, 1)
