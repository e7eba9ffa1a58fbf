"""Checkpoints of simulated runs: states in memory that commit at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
import xxhash

from milepost.control.verifying import Choice, Key
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.protocol import Committed, Deleted, Drained, KeeperEvent
from milepost.worker.captures import directory_name

_NO_ROW: Final = msgspec.Raw(b"{}")  # only drivers that never saw the report look at it


_T = TypeVar("_T")


class _Answers(Generic[_T]):
    """Answers that wait to be read; virtual time stands still meanwhile.

    Args:
        waits: called with 1 when there is something to read, and with -1 when it was read.
    """

    def __init__(self, waits: Callable[[int], None]) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waits = waits
        self._ready: list[_T] = []

    def fileno(self) -> int:
        """Readable when there are answers."""
        return self._fd

    def say(self, answer: _T) -> None:
        if not self._ready:
            os.eventfd_write(self._fd, 1)
            self._waits(1)
        self._ready.append(answer)

    def take(self) -> list[_T]:
        answers, self._ready = self._ready, []
        if answers:
            os.eventfd_read(self._fd)
            self._waits(-1)
        return answers

    def close(self) -> None:
        self.take()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class SimulatedKeeper:
    """Commits what simulated workers report, in no time.

    Attributes:
        states: directory of each committed checkpoint -> what is in it.
    """

    address = ""
    node_root = ""

    def __init__(self, waits: Callable[[int], None]) -> None:
        self.states: dict[str, Any] = {}
        self._answers: _Answers[KeeperEvent] = _Answers(waits)
        self._uuid = ""

    def own(self, experiment: ExperimentRef, epoch: int) -> None:
        """Serve an experiment."""
        self._uuid = experiment.uuid

    def commit(
        self, trial_id: str, trial_dir: str, attempt: int, index: int, iteration: int, state: Any
    ) -> None:
        """Commit a checkpoint."""
        path = os.path.join(trial_dir, directory_name(index))
        self.states[path] = state
        self._answers.say(
            Committed(
                uuid=self._uuid,
                trial_id=trial_id,
                attempt=attempt,
                index=index,
                iteration=iteration,
                path=path,
                nbytes=0,
                files=0,
                digest=_digest(path),
                row=_NO_ROW,
            )
        )

    def drain(self, trial_id: str, attempt: int | None) -> None:
        """Nothing ever waits to be committed."""
        self._answers.say(
            Drained(uuid=self._uuid, trial_id=trial_id, attempt=attempt, highest_index=-1)
        )

    def delete(self, trial_id: str, index: int, path: str) -> None:
        """Forget a state."""
        outcome = "gone" if self.states.pop(path, self) is self else "deleted"
        self._answers.say(Deleted(uuid=self._uuid, trial_id=trial_id, index=index, outcome=outcome))

    def fileno(self) -> int:
        """Readable when :meth:`events` has something."""
        return self._answers.fileno()

    def events(self) -> list[KeeperEvent]:
        """What happened since the last call."""
        return self._answers.take()

    def close(self, deadline_s: float = 0.0) -> None:
        """Release it; safe to call twice."""
        self._answers.close()


class SimulatedVerifier:
    """Finds every state good that is there."""

    def __init__(self, keeper: SimulatedKeeper, waits: Callable[[int], None]) -> None:
        self._keeper = keeper
        self._answers: _Answers[tuple[Key, Choice | None]] = _Answers(waits)

    def choose(self, key: Key, trial_dir: str, among: Mapping[str, int], *, contents: bool) -> None:
        """Choose the newest."""
        for name in sorted(among, key=among.__getitem__, reverse=True):
            path = os.path.join(trial_dir, name)
            if path in self._keeper.states:
                self._answers.say((key, Choice(among[name], _digest(path))))
                return
        self._answers.say((key, None))

    def fileno(self) -> int:
        """Readable when :meth:`chosen` has something."""
        return self._answers.fileno()

    def chosen(self) -> list[tuple[Key, Choice | None]]:
        """Answers since the last call."""
        return self._answers.take()

    def close(self, timeout_s: float | None = None) -> None:
        """Release it; safe to call twice."""
        self._answers.close()


def _digest(path: str) -> str:
    return xxhash.xxh3_128_hexdigest(os.fsencode(path))
