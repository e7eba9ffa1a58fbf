"""What a run needs of those who make and read checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from milepost.control.verifying import Choice, Key
    from milepost.keeper.intent import ExperimentRef
    from milepost.keeper.protocol import KeeperEvent


class KeeperLink(Protocol):
    """Commits and deletes checkpoints, as :class:`milepost.keeper.client.DriverLink` does."""

    address: str
    node_root: str

    def own(self, experiment: ExperimentRef, epoch: int) -> None:
        """Serve an experiment."""

    def drain(self, trial_id: str, attempt: int | None) -> None:
        """Settle all captures of an attempt, or of a trial; an event answers."""

    def delete(self, trial_id: str, index: int, path: str) -> None:
        """Delete a checkpoint; an event answers."""

    def fileno(self) -> int:
        """Readable when :meth:`events` has something."""

    def events(self) -> list[KeeperEvent]:
        """What happened since the last call."""

    def close(self, deadline_s: float = ...) -> None:
        """End it, once all is settled."""


class CheckpointVerifier(Protocol):
    """Chooses good checkpoints, as :class:`milepost.control.verifying.Verifier` does."""

    def choose(self, key: Key, trial_dir: str, among: Mapping[str, int], *, contents: bool) -> None:
        """Choose the newest good one; :meth:`chosen` answers."""

    def fileno(self) -> int:
        """Readable when :meth:`chosen` has something."""

    def chosen(self) -> list[tuple[Key, Choice | None]]:
        """Answers since the last call."""

    def close(self, timeout_s: float | None = None) -> None:
        """Release it."""
