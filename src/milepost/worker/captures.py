"""The checkpoints of one attempt of a trial, from the worker's side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from milepost.errors import CheckpointFailedError
from milepost.worker.protocol import Busy, RunTrial

if TYPE_CHECKING:
    from milepost.checkpoint.manifest import DirName
    from milepost.keeper.capture import Capture, Capturer
    from milepost.worker.dialog import Dialog
    from milepost.worker.validation import Validation


def directory_name(index: int) -> str:
    """The name of a checkpoint's directory in its trial's."""
    return f"checkpoint_{index:06d}"


class Captures:
    """Numbers checkpoints, hands directories to the keeper and remembers failures.

    Nothing of the keeper is imported or connected before the first checkpoint.

    Args:
        run: the trial and attempt; its ``first_index`` is the first number handed out.
        dialog: with the controller, which is told when user code has to wait for us.
    """

    def __init__(self, run: RunTrial, dialog: Dialog) -> None:
        self._run = run
        self._dialog = dialog
        self._capturer: Capturer | None = None
        self._encode: Callable[..., bytes]
        self.next_index = run.first_index

    def take_index(self) -> int:
        """Return the next checkpoint's number; no number is ever used twice."""
        index = self.next_index
        self.next_index += 1
        return index

    def capture(
        self,
        directory: str,
        index: int,
        row: dict[str, Any],
        *,
        owned: bool,
        ranks: tuple[int, ...] = (0,),
        validation: Validation | None = None,
        name: str = "",
        in_place: bool = False,
    ) -> Capture:
        """Capture a directory as checkpoint ``index``; returns before it is durable.

        It is committed once it is announced (:meth:`announce`), or this process has ended.

        Args:
            directory: what to capture; it stays as it was unless ``owned``.
            index: from :meth:`take_index`.
            row: the result row it belongs to, without ``config``.
            owned: the directory is ours, so that it may be renamed away.
            ranks: of the trial's workers whose captures make up the checkpoint.
            validation: how it is to be validated, if it is.
            name: of the checkpoint's directory; empty for the usual one.
            in_place: the directory, which is ``owned``, lies below the trial's: it is moved or an
                error, and put back if it cannot be committed.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
            CaptureError: it could not be captured; nothing is left of it.
        """
        objects = {} if validation is None else dict(validation.objects)

        def put(data: bytes) -> str:
            from milepost.journal.objects import digest

            name = digest(data)
            objects[name] = data
            return name

        with self.busy():
            capturer = self._connected()
            return capturer.capture(
                directory,
                index,
                self._encode(row, put),
                objects,
                iteration=row.get("training_iteration", 0),
                owned=owned,
                announce=False,
                ranks=ranks,
                validation=None if validation is None else validation.task,
                dir_name=_own_name(index, name),
                in_place=in_place,
            )

    def announce(self) -> None:
        """Have what was captured committed; call it once the report has been answered.

        Raises:
            ChannelClosedError: the driver is gone; what was captured is found in staging.
        """
        if self._capturer is not None:
            self._capturer.announce()

    def new_directory(self) -> str:
        """Create an empty directory to fill and capture with ``owned=True``."""
        return self._connected().new_directory()

    def settled(self, index: int, name: str = "") -> str:
        """Wait for the commit of a checkpoint of this attempt and return its path.

        It may be one that other workers of the trial have captured.

        Args:
            index: its number.
            name: as for :meth:`capture`.

        Raises:
            CheckpointFailedError: it failed.
        """
        with self.busy():
            return self._connected().settled(
                index, elsewhere=self._run.world_size > 1, dir_name=_own_name(index, name)
            )

    def raise_failed(self) -> None:
        """Raise if an earlier checkpoint could not be committed; each is raised once.

        Raises:
            CheckpointFailedError: naming those that failed since the last call.
        """
        if self._capturer is None:
            return
        failures = self._capturer.failures()
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise CheckpointFailedError(_joined([str(error) for error in failures]))

    def close(self) -> None:
        """Leave the keeper; captured checkpoints will be committed without this process."""
        if self._capturer is not None:
            self._capturer.close()
            self._capturer = None

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Have the time that a block takes not counted as the trial's silence."""
        if not self._run.watched:
            yield
            return
        self._dialog.tell(Busy(True))
        try:
            yield
        finally:
            self._dialog.tell(Busy(False))

    def _connected(self) -> Capturer:
        if self._capturer is None:
            from milepost.keeper.capture import Capturer
            from milepost.storage.codec import encode

            self._encode = encode
            run, storage = self._run, self._run.storage
            self._capturer = Capturer(
                experiment_path=storage.experiment_path,
                experiment_uuid=storage.experiment_uuid,
                device=storage.device,
                inode=storage.inode,
                keeper_address=storage.keeper_address,
                node_root=storage.node_root,
                trial_id=run.trial_id,
                trial_dir=run.trial_dir,
                attempt=run.attempt,
                attempt_id=run.attempt_id,
                rank=run.rank,
                parent=run.parent,
                parent_dir_name=_parent_name(run),
            )
        return self._capturer


def _own_name(index: int, name: str) -> DirName:
    from milepost.checkpoint.manifest import checkpoint_name, own_name

    return own_name(index, name or checkpoint_name(index))


def _parent_name(run: RunTrial) -> DirName:
    number = (run.parent or "").rpartition("-")[2]
    if run.start_from is None or not number.isdecimal():
        return _own_name(0, "")
    return _own_name(int(number), os.path.basename(run.start_from))


def _joined(texts: list[str]) -> str:
    """Join messages; the sentences that end all of them are said once."""
    first, *others = texts
    at = first.find(". ")
    while at >= 0:
        advice = first[at:]
        if all(text.endswith(advice) for text in others):
            return "; ".join(text.removesuffix(advice) for text in texts) + advice
        at = first.find(". ", at + 1)
    return "; ".join(texts)
