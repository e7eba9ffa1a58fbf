"""One trial of the function API, from inside: what ``report`` and ``get_checkpoint`` act on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal

from milepost.errors import ChannelClosedError
from milepost.worker import metrics as checks
from milepost.worker import unfinished
from milepost.worker.agreeing import Agreeing
from milepost.worker.agreement import Agreement
from milepost.worker.captures import Captures
from milepost.worker.dialog import Dialog
from milepost.worker.placing import Placing
from milepost.worker.protocol import Reported, RunTrial, dump, load
from milepost.worker.row import RowBuilder

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.worker.validation import Validation


class TrialEnded(SystemExit):  # a SystemExit, so that ``except Exception`` does not see it
    """Unwinds user code after the decision to stop or pause its trial."""

    def __init__(self) -> None:
        super().__init__(0)


_AS_USUAL = Placing()


class TrialSession:
    """The state of a running function trial.

    Args:
        run: the trial.
        dialog: with the controller.

    Attributes:
        run: the trial.
        ended: "stop" or "pause" once that was decided, else None.

    Concurrency: any thread of the process may report; one at a time gets through.
    """

    def __init__(self, run: RunTrial, dialog: Dialog) -> None:
        self.run = run
        self.ended: Literal["stop", "pause"] | None = None
        self._dialog = dialog
        self._rows = RowBuilder(run.trial_id, run.counters)
        self._captures = Captures(run, dialog)
        self._agreeing = Agreeing(run, dialog, self._captures)
        self._lock = threading.RLock()
        self._reporting = False
        # Those that an earlier trial of this process has left running.
        own = threading.current_thread()
        self._strangers = {weakref.ref(each) for each in threading.enumerate() if each is not own}
        self._over = False
        self._pid = os.getpid()
        self._since = time.monotonic()
        self._checkpoint: Checkpoint | None = None
        self._unsettled: tuple[int, str, type[Checkpoint] | None] | None = None
        if run.start_from is not None:
            from milepost.checkpoint.handle import Checkpoint

            self._checkpoint = Checkpoint(run.start_from)

    def report(
        self,
        metrics: dict[str, Any],
        checkpoint: Checkpoint | None = None,
        call: str = "tune.report",
        placing: Placing = _AS_USUAL,
        validation: Validation | None = None,
    ) -> str:
        """Send one result and obey the answer; see :func:`milepost.worker.session.report`.

        Args:
            metrics: see there.
            checkpoint: see there.
            call: what user code has called.
            placing: where the checkpoint goes.
            validation: how the checkpoint is to be validated, if it is.

        Returns:
            The directory that became the checkpoint without a copy; empty if there is none.
        """
        took_s = time.monotonic() - self._since
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{call}() was called in process {os.getpid()}, a child of the trial's "
                f"process {self._pid}. Only the trial's own process can report: send the metrics "
                "to it, through a multiprocessing queue or as the child's result."
            )
        checks.check(metrics, f"{call}(metrics)")
        if checkpoint is not None:
            checks.check_checkpoint(checkpoint, call)
        with self._lock:
            if self.ended is not None:
                raise TrialEnded
            self._check_turn(call)
            self._reporting = True
            try:
                return self._report(metrics, checkpoint, took_s, call, placing, validation)
            finally:
                self._reporting = False

    def finish(self) -> None:
        """Let a report of another thread get through, and refuse those that come later."""
        with self._lock:
            self._over = True

    def get_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint; waits until it is committed.

        Raises:
            CheckpointFailedError: it could not be committed.
        """
        with self._lock:
            if self._unsettled is not None:
                from milepost.checkpoint.handle import Checkpoint

                (index, name, kind), self._unsettled = self._unsettled, None
                self._checkpoint = (kind or Checkpoint)(self._captures.settled(index, name))
            return self._checkpoint

    @property
    def newest_index(self) -> int:
        """Number of the last checkpoint; before the first of all it is -1."""
        return self._captures.next_index - 1

    def close(self) -> None:
        """Leave the keeper."""
        self._captures.close()

    def _check_turn(self, call: str) -> None:
        """Refuse a report of a thread that has nothing to say in this trial at this time."""
        if self._reporting:
            raise RuntimeError(
                f"{call}() was called inside another {call}() of the same thread, by a "
                "signal handler or a finalizer. Set a flag there, and report in the training loop."
            )
        thread = threading.current_thread()
        if self._over:
            raise RuntimeError(
                f"{call}() was called in thread {thread.name!r} after the trial's function "
                "had returned. Wait for the thread before returning."
            )
        if self._strangers and weakref.ref(thread) in self._strangers:
            raise RuntimeError(
                f"{call}() was called in thread {thread.name!r} of an earlier trial that ran "
                "in this process. End a trial's threads before its function returns."
            )

    def _report(
        self,
        metrics: dict[str, Any],
        checkpoint: Checkpoint | None,
        took_s: float,
        call: str,
        placing: Placing,
        validation: Validation | None,
    ) -> str:
        self._captures.raise_failed()
        if checkpoint is not None:
            self._dialog.catch_up()
            if self._dialog.shutdown:
                self.ended = "stop"
                raise TrialEnded
            unfinished.wait_for(checkpoint.path)
        agreed = self._agreeing.agree(
            checkpoint,
            placing,
            call,
            awaits=lambda: self._awaits_answer(metrics),
            metrics=lambda: self._dumped(metrics, metrics),
        )
        if agreed is None:
            self.ended = "stop"
            raise TrialEnded
        before = vars(self._rows).copy()
        try:
            message = self._row_message(metrics, checkpoint, took_s, agreed, validation)
        except BaseException:
            vars(self._rows).update(before)  # nothing was reported
            raise
        reply = self._dialog.decision(message)
        with contextlib.suppress(ChannelClosedError):  # what was captured is found in staging
            self._captures.announce()
        if reply.action != "continue":
            self.ended = reply.action
            raise TrialEnded
        self._since = time.monotonic()
        return agreed.path

    def _awaits_answer(self, metrics: dict[str, Any]) -> bool:
        """Whether the decision on a result may be another than to go on."""
        if self.run.judged or metrics.get("done"):
            return True
        self._dialog.preemption()  # takes note of whatever has come
        return self._dialog.awaits

    def _row_message(
        self,
        metrics: dict[str, Any],
        checkpoint: Checkpoint | None,
        took_s: float,
        agreed: Agreement,
        validation: Validation | None,
    ) -> Reported:
        index = agreed.checkpoint
        fields = {
            **metrics,
            "timestamp": 0,  # its place among the columns; filled by the builder
            "checkpoint_dir_name": None if index is None else agreed.name,
        }
        if index is not None:
            fields["should_checkpoint"] = True
        row = self._rows.next(fields, took_s, overwrite_timestamp=True)
        data = self._dumped(row, metrics)
        asks = self._dialog.asks
        kind = None if checkpoint is None else type(checkpoint)
        if checkpoint is None or index is None or self.run.rank not in agreed.ranks:
            if index is not None:
                self._unsettled = index, agreed.name, kind
            return Reported(data, asks=asks, awaited=self._is_awaited(metrics, agreed))
        if agreed.metrics:
            ours = {key: value for key, value in row.items() if key not in metrics}
            row = ours | load(agreed.metrics)
        capture = self._captures.capture(
            agreed.path or os.path.abspath(checkpoint.path),
            index,
            row,
            owned=checkpoint._move or bool(agreed.path),
            ranks=agreed.ranks,
            validation=validation,
            name=agreed.name,
            in_place=bool(agreed.path),
        )
        self._unsettled = index, agreed.name, kind
        awaited = self._is_awaited(metrics, agreed)  # it may have been told so during the capture
        return Reported(data, index, capture.nbytes, capture.waited_s, asks, awaited)

    def _is_awaited(self, metrics: dict[str, Any], agreed: Agreement) -> bool:
        return self._awaits_answer(metrics) if agreed.awaits is None else agreed.awaits

    @staticmethod
    def _dumped(value: dict[str, Any], metrics: dict[str, Any]) -> bytes:
        try:
            return dump(value)
        except Exception as error:
            raise checks.unpicklable(metrics, error) from error
