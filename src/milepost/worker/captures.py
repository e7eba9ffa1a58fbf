"""The checkpoints of one attempt of a trial, from the worker's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.errors import CheckpointFailedError
from milepost.worker.protocol import Busy, RunTrial

if TYPE_CHECKING:
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

        self._say_busy(True)
        try:
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
            )
        finally:
            self._say_busy(False)

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

    def settled(self, index: int) -> str:
        """Wait for the commit of a checkpoint of this attempt and return its path.

        It may be one that other workers of the trial have captured.

        Raises:
            CheckpointFailedError: it failed.
        """
        self._say_busy(True)
        try:
            return self._connected().settled(index, elsewhere=self._run.world_size > 1)
        finally:
            self._say_busy(False)

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

    def _say_busy(self, busy: bool) -> None:
        """Have the time until it is taken back not counted as the trial's silence."""
        if self._run.watched:
            self._dialog.tell(Busy(busy))

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
            )
        return self._capturer


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
