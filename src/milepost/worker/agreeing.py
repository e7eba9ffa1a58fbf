"""How the workers of a trial come to agree upon a report, before any of them captures its part."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from milepost.errors import CaptureError
from milepost.worker.agreement import Agreement, Part, bringing, decode
from milepost.worker.captures import Captures, directory_name
from milepost.worker.dialog import Dialog
from milepost.worker.placing import Names, Placing, check_name, inside, uploaded
from milepost.worker.protocol import Meet, RunTrial

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint


class Agreeing:
    """One worker's side of it. A worker that is alone agrees with itself, without a word.

    Args:
        run: the trial.
        dialog: with the controller, through which workers meet.
        captures: hands out the numbers of checkpoints.
    """

    def __init__(self, run: RunTrial, dialog: Dialog, captures: Captures) -> None:
        self._run = run
        self._dialog = dialog
        self._captures = captures
        self._names = Names(run.trial_dir, is_first=run.attempt == 0)
        self._alone = run.world_size == 1

    def agree(
        self,
        checkpoint: Checkpoint | None,
        placing: Placing,
        call: str,
        *,
        awaits: Callable[[], bool],
        metrics: Callable[[], bytes],
    ) -> Agreement | None:
        """Return what a report is; None when the trial is to end instead.

        Args:
            checkpoint: this worker's part, if it has one.
            placing: where the checkpoint goes.
            call: what user code has called.
            awaits: whether this worker waits for the decision.
            metrics: of this worker, pickled.

        Raises:
            CollectiveError: the others do something else.
            CaptureError: the part of another one does not come.
            ValueError: a directory cannot become a checkpoint where it is.
            Exception: of the user's function that was to bring it there.
        """
        if self._alone and checkpoint is None:
            return Agreement()
        mine, wanted = self._own_part(checkpoint, placing, call)
        data, parts = b"", [mine]
        if not self._alone:
            mine = mine._replace(awaits=awaits())
            if self._run.rank == 0 and checkpoint is None:
                data = metrics()  # whoever has a part needs the row, which is that of rank 0
            captures = mine.brings and not mine.uploads
            met = self._dialog.meet(Meet(f"{call}()", data, mine.encode(), captures=captures))
            if met is None:
                return None
            data, parts = met.data, [decode(note) for note in met.notes]
        awaited = None if self._alone else any(part.awaits for part in parts)
        if not any(part.brings for part in parts):
            return Agreement(metrics=data, awaits=awaited)
        index = self._captures.next_index
        name = parts[0].name or directory_name(index)
        if any(part.uploads for part in parts):
            uploads = self._upload(checkpoint, name, mine, placing, call)
            if uploads is None:
                return None
            parts = uploads
        ranks = bringing(parts)
        if self._run.rank == 0:
            self._names.use(name, index, wanted)
        path = parts[self._run.rank].path if self._run.rank in ranks else ""
        return Agreement(self._captures.take_index(), name, ranks, path, data, awaited)

    def _own_part(
        self, checkpoint: Checkpoint | None, placing: Placing, call: str
    ) -> tuple[Part, str]:
        """What this worker has to say, and the name that it would like best."""
        path = ""
        if placing.stays and checkpoint is not None:
            path = inside(checkpoint.path, self._run.trial_dir, f"{call}(checkpoint=...)")
        wanted = name = ""
        if self._run.rank == 0:
            wanted = placing.name or ""
            if path and not wanted:
                wanted = check_name(os.path.basename(path), f"the name of {path}, which is kept,")
            index = self._captures.next_index
            name = self._names.free(index, wanted, path)
            if name == directory_name(index):
                name = ""
        brings = checkpoint is not None
        uploads = brings and placing.upload is not None
        return Part(brings, uploads=uploads, name=name, path=path), wanted

    def _upload(
        self, checkpoint: Checkpoint | None, name: str, mine: Part, placing: Placing, call: str
    ) -> list[Part] | None:
        """Have user code bring its parts to the run's directory; what all workers say then."""
        error: Exception | None = None
        self._names.look()
        if checkpoint is not None and placing.upload is not None:
            try:
                with self._captures.busy():
                    path = uploaded(placing.upload, checkpoint, name, self._run.trial_dir)
                mine = mine._replace(path=path)
            except Exception as problem:  # noqa: BLE001 - raised below, when all know of it
                error = problem
                mine = mine._replace(error=f"{type(problem).__name__}: {problem}")
        parts = [mine]
        if not self._alone:
            what = f"{call}(), after checkpoint_upload_fn"
            met = self._dialog.meet(Meet(what, b"", mine.encode(), captures=mine.brings))
            if met is None:
                return None
            parts = [decode(note) for note in met.notes]
        if error is not None:
            raise error
        for rank, part in enumerate(parts):
            if part.error:
                raise CaptureError(
                    f"checkpoint_upload_fn of rank {rank} failed ({part.error}), so no worker "
                    "reported anything; earlier checkpoints are intact"
                )
        return parts
