"""Turns what the journal knows of trials into what a run keeps of them."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import msgspec

from milepost.api.numbers import bounded
from milepost.api.resources import PlacementGroupFactory
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import retention
from milepost.checkpoint.validation import merged
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.earlier_rows import EarlierRows
from milepost.control.ledger import LiveTrial
from milepost.control.metrics import RunningMetrics, flatten
from milepost.control.outcome import Ended, pack
from milepost.control.problems import recorded as recorded_error
from milepost.control.state import STATUSES
from milepost.errors import CheckpointError, TuneError
from milepost.journal.image import CheckpointImage, RunImage, TrialImage
from milepost.journal.records import Exploited, Reconfigured
from milepost.storage import codec, names

if TYPE_CHECKING:
    from milepost.control.run import Run


class Recorded:
    """All trials of an earlier run.

    Args:
        run: what they become part of.
        image: what the journal says.

    Attributes:
        supplied: ids of trials with values in their configuration that were given anew.
    """

    def __init__(self, run: Run, image: RunImage) -> None:
        self._run = run
        self.image = image
        self.supplied: set[str] = set()

    # --- trials that stay as they are -------------------------------------------------------

    def packed(self, trial: TrialImage) -> bytes:
        """A trial that has ended, as the ledger keeps it; nothing is decoded that can wait."""
        row = trial.row
        failure = trial.failure
        failed = trial.status == "ERROR" and failure is not None
        return pack(
            Ended(
                trial_id=trial.trial,
                name=trial.name,
                dirname=trial.directory,
                tag=trial.tag,
                status=trial.status,
                failures=trial.failures,
                config=bytes(trial.config),
                evaluated=bytes(trial.evaluated),
                row=None if row is None else bytes(row),
                checkpoints=self._ranked(trial),
                dir_names={
                    index: image.dir_name
                    for index, image in trial.committed.items()
                    if image.dir_name is not msgspec.UNSET
                },
                metrics=None,
                error=(
                    (failure.kind, failure.message, failure.traceback, failure.error)
                    if failed and failure is not None
                    else None
                ),
                resources=codec.preview(trial.resources),
                start_time=trial.first_launched or None,
                last_time=trial.changed,
                source=self._run.ledger.reference((self.fork(trial) or (None, None))[1]),
                is_recorded=True,
            )
        )

    def metric(self, trial: TrialImage, name: str) -> Any:
        """The last value of a flat metric; None if there is none."""
        return None if trial.row is None else _value(trial.row, name)

    def _ranked(self, trial: TrialImage) -> tuple[tuple[int, bytes], ...]:
        kept = self.checkpoints(trial)
        rows = {checkpoint.index: bytes(checkpoint.row) for checkpoint in kept}
        order = self._run.ledger.run.ranked(kept) if len(kept) > 1 else list(rows)
        return tuple((index, rows[index]) for index in order)

    def checkpoints(self, trial: TrialImage) -> list[Checkpoint]:
        """The committed checkpoints that stay, oldest first."""
        found = []
        for index in sorted(trial.committed):
            reported = self._row(trial, trial.committed[index])
            if index not in trial.deleting and reported is not None:
                row = merged(reported, trial.committed[index].outcome)
                found.append(
                    Checkpoint(
                        index=index,
                        path=self.path(trial, index),
                        iteration=trial.committed[index].iteration,
                        row=row,
                        score=self.score(row),
                        digest=trial.committed[index].digest,
                    )
                )
        return found

    def inflight(self, trial: TrialImage) -> dict[int, Capture]:
        """What was captured, and whose end is not on record."""
        return {
            index: Capture(image.iteration, row, self.score(row))
            for index, image in sorted(trial.captured.items())
            if (row := image.row) is not None
        }

    def directory(self, trial: TrialImage) -> str:
        """A trial's directory, absolute."""
        return names.trial_directory(self._run.plan.experiment.path, trial.directory)

    def path(self, trial: TrialImage, index: int) -> str:
        """A checkpoint's directory, absolute."""
        return os.path.join(self.directory(trial), trial.checkpoint_directory(index))

    def _row(self, trial: TrialImage, image: CheckpointImage) -> msgspec.Raw | None:
        """The row of a checkpoint; only its manifest has it when the report was never recorded."""
        if image.row is not None:
            return image.row
        try:
            return manifests.read(self.path(trial, image.index)).metrics
        except (OSError, CheckpointError):
            return None

    def score(self, row: msgspec.Raw) -> object:
        """What ranks a checkpoint with this row."""
        by = self._run.machine.settings.rank_by
        return None if by is None else bounded(_value(row, by))

    # --- trials that went on from others ----------------------------------------------------

    def fork(self, trial: TrialImage) -> tuple[str, Checkpoint] | None:
        """The checkpoint that a trial went on from and its owner, if it has none of its own since.

        None also if that one is not there any more.
        """
        last = trial.fork
        donor = None if last is None else self.image.trials.get(last.donor)
        if last is None or donor is None:
            return None
        found = (c for c in self.checkpoints(donor) if c.index == last.index)
        checkpoint = next(found, None)
        return None if checkpoint is None else (last.donor, checkpoint)

    def left(self, trial: TrialImage) -> list[Checkpoint]:
        """What an ended trial may have kept for the sake of others alone."""
        policy = self._run.machine.settings.retention
        wanted = self._given.get(trial.trial, set())
        if policy is None or not wanted:
            return []
        kept = self.checkpoints(trial)
        by = self._run.machine.settings.rank_by
        entries = [
            retention.Entry(c.index, c.iteration, metrics={} if by is None else {by: c.score})
            for c in kept
        ]
        drop = retention.plan(entries, policy).drop
        return [c for c in kept if c.index in drop and c.index in wanted]

    @functools.cached_property
    def _given(self) -> dict[str, set[int]]:
        """Which checkpoints of a trial others went on from; looked up once for all trials."""
        given: dict[str, set[int]] = {}
        for record in self.image.exploited:
            given.setdefault(record.donor, set()).add(record.index)
        return given

    def config_before(self, trial_id: str, record: Reconfigured | Exploited) -> dict[str, Any]:
        """The config that a trial had before it was given another one."""
        trial = self.image.trials[trial_id]
        raw = trial.first_config
        for earlier in trial.exploits:
            if isinstance(record, Exploited) and earlier.number < record.number:
                raw = earlier.config
        config: dict[str, Any] = codec.decode(raw, self._run.objects.get, codec.shown)
        return config

    # --- trials that go on ------------------------------------------------------------------

    def live(self, trial: TrialImage) -> LiveTrial:
        """A trial that goes on, with its values.

        Raises:
            TuneError: a value of its configuration cannot be loaded.
        """
        config = self.config(trial)
        live = self._live(trial, config, self._run.plan.resources(config))
        if trial.trial in self.supplied:
            live.raw_config = self._run.encoded(config)
        return live

    def past(self, trial: TrialImage) -> LiveTrial:
        """A trial as it was while it was live; what cannot be loaded is shown by its repr."""
        config = codec.decode(trial.config, self._run.objects.get, codec.shown)
        resources = PlacementGroupFactory(codec.preview(trial.resources) or [{}])
        return self._live(trial, config, resources)

    def _live(
        self, trial: TrialImage, config: dict[str, Any], resources: PlacementGroupFactory
    ) -> LiveTrial:
        run = self._run
        live = LiveTrial(
            trial_id=trial.trial,
            config=config,
            evaluated=self.evaluated(trial),
            tag=trial.tag,
            resources=resources,
            ledger=run.ledger,
        )
        live.name, live.dirname = trial.name, trial.directory
        live.recorded_status = STATUSES[trial.status]
        live.raw_config, live.raw_evaluated = trial.config, trial.evaluated
        live.start_time = trial.first_launched or None
        if trial.row is not None:
            row = run.decoded(trial.row)
            live.last_row = {**row, "config": config, "experiment_tag": trial.tag}
            live.last_time = trial.changed
            live.earlier = self._earlier(trial)
            live.metrics = RunningMetrics(live.earlier)
        failure = trial.failure
        if failure is not None:
            live.error = recorded_error(
                failure.kind, failure.message, failure.traceback, failure.error, run.objects.get
            )
        return live

    def evaluated(self, trial: TrialImage) -> dict[str, Any]:
        """The searched variables; what cannot be loaded is shown by its repr."""
        value: dict[str, Any] = codec.decode(trial.evaluated, self._run.objects.get, codec.shown)
        return value

    def _earlier(self, trial: TrialImage) -> EarlierRows:
        return EarlierRows(
            self._run.plan.experiment.path,
            trial.trial,
            self.directory(trial),
            trial.rows,
            self.image.seq,
            self._run.objects,
        )

    def config(self, trial: TrialImage) -> dict[str, Any]:
        """A trial's configuration.

        Raises:
            TuneError: a value of it cannot be loaded and is not supplied.
        """
        supply = self._run.plan.supply
        lacking: list[str] = []

        def missing(where: str, text: str, error: Exception) -> Any:
            if supply is not None:
                self.supplied.add(trial.trial)
                return supply(trial.trial, where, text, error)
            lacking.append(f"{where}, which was {text} ({type(error).__name__}: {error})")
            return None

        config: dict[str, Any] = codec.decode(trial.config, self._run.objects.get, missing)
        if lacking:
            raise TuneError(
                f"The configuration of trial {trial.trial} holds values that cannot be loaded:\n"
                + "\n".join(f"  {line}" for line in lacking)
                + "\nMake their modules importable, or give them again as param_space. Nothing "
                "was changed; the experiment can be restored again."
            )
        return config


def _value(row: msgspec.Raw, name: str) -> Any:
    decoded = codec.preview(row)
    return decoded[name] if name in decoded else flatten(decoded).get(name)
