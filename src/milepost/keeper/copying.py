"""Copying captured files, several at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from milepost.storage import posix

THREADS = 4
_WORTH_THREADS_BYTES = 8 << 20


class Copier:
    """Copies regular files to new ones, by reflink where the file system has it.

    It remembers which file systems cannot, so that it asks each but once.
    """

    def __init__(self) -> None:
        self._no_reflink: set[int] = set()

    def copy(self, pairs: Sequence[tuple[str, str]], nbytes: int) -> list[str]:
        """Copy files.

        Args:
            pairs: source and target paths; no target exists.
            nbytes: bytes of all of them; many are copied by several threads.

        Returns:
            For each pair how it was done: "reflink" or "copied".

        Raises:
            OSError: the first failure; some targets may exist, whole or in part.
        """
        if len(pairs) < 2 or nbytes < _WORTH_THREADS_BYTES:
            return [self._copy_one(*pair) for pair in pairs]
        copies = _Copies(pairs, self._copy_one)
        copies.run(min(THREADS, len(pairs), (os.cpu_count() or 1) + 1))
        return copies.ways

    def _copy_one(self, source: str, target: str) -> str:
        device = os.stat(source).st_dev
        if device not in self._no_reflink:
            if posix.reflink(source, target):
                return "reflink"
            self._no_reflink.add(device)
        posix.copy_file(source, target)
        return "copied"


class _Copies:
    """Copies that threads take one by one; the first failure ends them all."""

    def __init__(
        self, pairs: Sequence[tuple[str, str]], copy_one: Callable[[str, str], str]
    ) -> None:
        self.ways = [""] * len(pairs)
        # The largest first, so that no thread begins it when the others are done.
        self._left = sorted(enumerate(pairs), key=lambda item: os.lstat(item[1][0]).st_size)
        self._copy_one = copy_one
        self._failure: OSError | None = None

    def run(self, threads: int) -> None:
        others = [
            threading.Thread(target=self._work, name="milepost-copy", daemon=True)
            for _ in range(threads - 1)
        ]
        for thread in others:
            thread.start()
        self._work()
        for thread in others:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while self._failure is None:
            try:
                number, pair = self._left.pop()
            except IndexError:
                return
            try:
                self.ways[number] = self._copy_one(*pair)
            except OSError as error:
                self._failure = error
