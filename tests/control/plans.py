"""Makes plans of small runs on real workers, a real keeper and a real journal."""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.resources import placement_group_of
from milepost.api.resume_config import ResumeConfig
from milepost.api.search_algorithm import SearchAlgorithm, TrialSpec
from milepost.api.session import ClusterResources
from milepost.control.controller import run
from milepost.control.outcome import RunOutcome
from milepost.control.plan import RunPlan
from milepost.journal import experiment
from milepost.tune.schedulers import FIFOScheduler


class Listed(SearchAlgorithm):
    """Proposes given configs, and notes what it is told."""

    def __init__(self, configs: list[dict[str, Any]], ahead: int = 10) -> None:
        self._left = iter([*enumerate(configs)])
        self._next: tuple[int, dict[str, Any]] | None = next(self._left, None)
        self._total = len(configs)
        self._ahead = ahead
        self.told: list[tuple[Any, ...]] = []

    @property
    def total_samples(self) -> int:
        return self._total

    @property
    def trials_ahead(self) -> int:
        return self._ahead

    def next_trial(self) -> TrialSpec | None:
        if self._next is None or self._finished:
            self.set_finished()
            return None
        number, config = self._next
        self._next = next(self._left, None)
        return TrialSpec(f"t{number}", config, dict(config), str(number))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.told.append(("result", trial_id, result["training_iteration"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        last = None if result is None else result.get("training_iteration")
        self.told.append(("complete", trial_id, last, error))


class Notes(Callback):
    """Notes hooks as ``(name, trial_id, ...)``."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def on_trial_start(self, trial: Any, **info: Any) -> None:
        self.said.append(("start", trial.trial_id, trial.status))

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.said.append(("result", trial.trial_id, result["training_iteration"]))

    def on_checkpoint(self, trial: Any, checkpoint: Any, **info: Any) -> None:
        self.said.append(("checkpoint", trial.trial_id, Path(checkpoint.path).name))

    def on_trial_save(self, trial: Any, **info: Any) -> None:
        self.said.append(("save", trial.trial_id))

    def on_trial_recover(self, trial: Any, **info: Any) -> None:
        self.said.append(("recover", trial.trial_id, trial.has_checkpoint()))

    def on_trial_complete(self, trial: Any, **info: Any) -> None:
        self.said.append(("complete", trial.trial_id, trial.status))

    def on_trial_error(self, trial: Any, **info: Any) -> None:
        self.said.append(("error", trial.trial_id, trial.status))

    def on_experiment_end(self, **info: Any) -> None:
        self.said.append(("end",))


_counter = itertools.count()


def plan(
    tmp_path: Path,
    trainable: Any,
    configs: list[dict[str, Any]] | None = None,
    *,
    cpus: float = 2,
    gpus: tuple[str, ...] = (),
    resources: Any = None,
    **fields: Any,
) -> RunPlan:
    """A plan with one trial per config; fields are those of :class:`RunPlan`."""
    path = tmp_path / f"run-{next(_counter)}"
    fields.setdefault("search", Listed([{}] if configs is None else configs))
    return RunPlan(
        **{
            "experiment": experiment.create(str(path), name=path.name, trainable="f"),
            "trainable": trainable,
            "trainable_name": "f",
            "kind": "class" if isinstance(trainable, type) else "function",
            "scheduler": FIFOScheduler(),
            "resources": resources or (lambda config: placement_group_of(None)),
            "cluster": ClusterResources(cpus, gpus),
            "name_of": lambda trial: f"f_{trial.trial_id}",
            "dirname_of": lambda trial: f"f_{trial.trial_id}",
            "projections": frozenset({"json"}),
            "verbose": 0,
            **fields,
        }
    )


def again(before: RunPlan, **fields: Any) -> RunPlan:
    """A plan that goes on with the experiment of another one.

    Searcher, scheduler, stopper and callbacks are new objects: give those that differ from the
    defaults of :func:`plan`.
    """
    defaults: dict[str, Any] = {
        "experiment": experiment.open(before.experiment.path),
        "resume": ResumeConfig(),
        "scheduler": FIFOScheduler(),
        "callbacks": [],
        "stopper": None,
    }
    return dataclasses.replace(before, **{**defaults, **fields})


def killed(plan: RunPlan) -> None:
    """Carry out a plan in a process of its own, which does not survive it."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(plan,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"it ended with {process.exitcode}"


class Dies(Callback):
    """Kills the driver at the n-th call of a hook, from 1."""

    def __init__(self, hook: str, number: int = 1, *, trial: str | None = None) -> None:
        self._left = number
        self._trial = trial
        setattr(self, hook, self._called)

    def _called(self, trial: Any = None, **info: Any) -> None:
        if self._trial is None or (trial is not None and trial.trial_id == self._trial):
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def run_plan(*args: Any, **fields: Any) -> RunOutcome:
    """Make a plan and carry it out."""
    return run(plan(*args, **fields))


# --- what runs ------------------------------------------------------------


def save(number: int) -> tune.Checkpoint:
    """A checkpoint that holds a number."""
    directory = tempfile.mkdtemp()
    Path(directory, "number").write_text(str(number))
    return tune.Checkpoint.from_directory(directory)


def saved() -> int | None:
    """The number in the checkpoint that this trial starts from."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as directory:
        return int(Path(directory, "number").read_text())


def count(config: dict[str, Any]) -> None:
    """Report 1, 2, 3 with a checkpoint each, going on where it was."""
    for number in range((saved() or 0) + 1, 4):
        tune.report({"number": number, "pid_": os.getpid()}, checkpoint=save(number))


def rows(record: Any) -> list[dict[str, Any]]:
    lines = Path(record.directory, "result.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


class CustomError(Exception):
    """An error of the user's."""


def fails_once(config: dict[str, Any]) -> None:
    """Fail after the second of three reports, the first time."""
    start = saved() or 0
    for number in range(start + 1, 4):
        tune.report({"number": number}, checkpoint=save(number))
        if number == 2 and not start:
            raise CustomError("once")
