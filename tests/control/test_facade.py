"""What users see of trials: the facade, records, and the list of all trials."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.api.resources import placement_group_of
from milepost.control.checkpoints import Checkpoint
from milepost.control.facade import Trial
from milepost.control.ledger import Ledger, LiveTrial
from milepost.control.outcome import Ended, RunFacts, TrialRecord, pack
from milepost.control.resources import request_of
from milepost.control.state import TrialState
from milepost.journal import experiment
from milepost.journal.objects import Objects
from milepost.storage import codec


class Requests:
    """Notes what is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def set_config(self, trial_id: str, config: dict[str, Any]) -> None:
        self.asked.append(("config", trial_id, config))

    def set_tag(self, trial_id: str, tag: str) -> None:
        self.asked.append(("tag", trial_id, tag))

    def set_resources(self, trial_id: str, resources: Any) -> None:
        self.asked.append(("resources", trial_id, resources.required_resources))

    def set_status(self, trial_id: str, status: str) -> None:
        self.asked.append(("status", trial_id, status))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The ledger of an experiment without trials."""
    path = str(tmp_path / "run")
    experiment.create(path, name="run", trainable="f")
    facts = RunFacts(path, "f", 1, "acc", "max", 2)
    return Ledger(facts, Objects(path))


def add(ledger: Ledger, number: int, requests: Requests | None = None) -> LiveTrial:
    """A live trial with two rows' worth of numbers and three checkpoints."""
    trial_id = f"t{number}"
    trial = LiveTrial(
        trial_id=trial_id,
        config={"lr": 0.1, "sizes": (1, 2)},
        evaluated={"lr": 0.1},
        tag=f"{number}_lr=0.1",
        resources=placement_group_of({"cpu": 2}),
        ledger=ledger,
    )
    trial.name, trial.dirname = f"f_{trial_id}", f"f_{trial_id}_dir"
    trial.raw_config, trial.raw_evaluated = (
        ledger.encoded(trial.config),
        ledger.encoded({"lr": 0.1}),
    )
    trial.state = TrialState(trial_id, number, trial.name, trial.dirname, request_of([{"CPU": 2}]))
    for index, acc in enumerate((0.9, 0.5, math.nan)):
        row = msgspec.Raw(codec.encode({"acc": acc, "training_iteration": index + 1}))
        trial.state.checkpoints[index] = Checkpoint(
            index=index, path=f"{trial.directory}/checkpoint_{index:06d}", iteration=index + 1,
            row=row, score=acc,
        )  # fmt: skip
    ledger.add(trial, Trial(trial, requests))
    return trial


def report(trial: LiveTrial, **row: Any) -> None:
    trial.last_row = {"trial_id": trial.trial_id, **row, "config": trial.config}
    trial.last_time = 5.0
    trial.metrics.add(trial.last_row)


def facts(trial: Trial) -> dict[str, Any]:
    """Everything that can be read."""
    names = [name for name in dir(Trial) if not name.startswith("_") and name != "logdir"]
    read = {name: getattr(trial, name) for name in names}
    return {
        name: repr(value)
        for name, value in read.items()
        if not callable(value) and name not in ("storage", "status")
    }


def test_a_trial_tells_the_same_before_and_after_its_end(ledger: Ledger) -> None:
    """The facade that a callback holds goes on working when the trial is packed away."""
    live = add(ledger, 0)
    report(live, acc=0.5, training_iteration=3, odd={1: (2, 3)}, done=True)
    trial = ledger[0]
    before = facts(trial)
    assert trial.last_result is live.last_row
    assert live.state is not None
    live.state.status = "TERMINATED"
    ledger.end("t0")
    assert ledger[0] is trial
    assert facts(trial) == before
    assert trial.status == "TERMINATED"
    assert trial.is_finished()
    assert trial.last_result["config"] == {"lr": 0.1, "sizes": (1, 2)}
    assert trial.last_result["odd"] == {1: (2, 3)}
    assert trial.storage.current_checkpoint_index == 2
    assert trial.relative_logdir == "f_t0_dir"
    assert trial.trainable_name == "f"


def test_checkpoints_are_ranked(ledger: Ledger) -> None:
    """The best is last, what has no valid score first; the latest is by number."""
    live = add(ledger, 0)
    assert [index for index, _, _ in live.checkpoints] == [2, 1, 0]
    assert live.latest is not None
    assert live.latest[0] == 2
    ledger.end("t0")
    (record,) = ledger.records()
    assert [index for index, _, _ in record.checkpoints] == [2, 1, 0]
    assert record.checkpoints[-1][2]["acc"] == 0.9
    assert record.checkpoints[-1][2]["config"] == live.config
    assert record.latest is not None
    assert record.latest[0] == record.latest_index == 2
    assert record.num_to_keep == 2


def test_trials_by_position_and_id(ledger: Ledger) -> None:
    """Live and ended ones together, in the order of their creation."""
    for number in range(3):
        add(ledger, number)
    ledger.end("t1")
    assert [trial.trial_id for trial in ledger] == ["t0", "t1", "t2"]
    assert [trial.trial_id for trial in ledger[1:]] == ["t1", "t2"]
    assert len(ledger) == 3
    assert ledger.find("t1") == ledger[1]
    assert ledger.find("t9") is None
    assert ledger[2] in ledger
    assert "t2" not in ledger


def test_what_can_be_asked_for() -> None:
    """Writing to a live trial asks the run to act."""
    requests = Requests()
    trial = Trial(_Facts(), requests)
    trial.config = {"lr": 1}
    trial.set_config({"lr": 2})
    trial.set_experiment_tag("new")
    trial.update_resources({"cpu": 3})
    trial.set_status("PAUSED")
    trial.status = "TERMINATED"
    trial.status = "PENDING"
    assert requests.asked == [
        ("config", "t", {"lr": 1}),
        ("config", "t", {"lr": 2}),
        ("tag", "t", "new"),
        ("resources", "t", {"CPU": 3.0}),
        ("status", "t", "PAUSED"),
        ("status", "t", "TERMINATED"),
    ]
    trial.rank = 3
    assert trial.rank == 3, "schedulers keep notes on trials"


class _Facts:
    """A trial that has only what must be."""

    def __init__(self) -> None:
        self.trial_id = "t"
        self.name = "f_t"
        self.directory = "/exp/dir"
        self.config: dict[str, Any] = {}
        self.evaluated: dict[str, Any] = {}
        self.tag = "0"
        self.status = "PENDING"
        self.last_row: dict[str, Any] = {"trial_id": "t"}
        self.checkpoints: list[Any] = []
        self.latest = None
        self.error = None
        self.analysis: dict[str, Any] = {}
        self.failures = 0
        self.num_to_keep = None


def test_nothing_can_be_asked_of_a_trial_that_has_ended() -> None:
    """The error says so, and in which status it ended."""
    trial = Trial(_Facts())
    with pytest.raises(RuntimeError, match=r"f_t has ended \(PENDING\); set_config\(\)"):
        trial.set_config({})


def test_unsupported_attributes_are_named() -> None:
    """Ray's internals say what to use instead; misspelt names have a close match."""
    trial = Trial(_Facts())
    with pytest.raises(AttributeError, match=r"run_metadata.*metric_analysis"):
        _ = trial.run_metadata
    with pytest.raises(AttributeError, match=r"'last_reslut'.*'last_result'"):
        _ = trial.last_reslut
    with pytest.raises(DeprecationWarning, match=r"Trial\.path"):
        _ = trial.logdir
    assert not hasattr(trial, "__wrapped__")


def test_a_trial_of_bare_facts() -> None:
    """What is read from storage has all attributes too."""
    trial = Trial(_Facts())
    assert (str(trial), repr(trial), hash(trial)) == ("f_t", "f_t", hash("t"))
    assert trial == Trial(_Facts())
    assert trial != "f_t"
    assert trial.checkpoint is None
    assert not trial.has_checkpoint()
    assert trial.error_file is None
    assert trial.get_error() is None
    assert trial.start_time is None
    assert trial.placement_group_factory == placement_group_of(None)


def test_records_are_small(ledger: Ledger) -> None:
    """A trial with a usual row takes well under a kilobyte and a half once it has ended."""
    live = add(ledger, 0)
    assert live.state is not None
    live.state.checkpoints.clear()
    report(
        live, loss=0.12345678, acc=0.987, training_iteration=1, time_total_s=0.0123,
        time_this_iter_s=0.0123, pid=12345, hostname="a-host-name", node_ip="127.0.0.1",
        date="2026-01-31_23-59-59", timestamp=1795304415, done=True, time_since_restore=0.01,
        iterations_since_restore=1, checkpoint_dir_name=None, experiment_tag="0_lr=0.1",
    )  # fmt: skip
    ledger.end("t0")
    assert len(ledger._packed["t0"]) < 1000


def test_errors_survive_packing(tmp_path: Path) -> None:
    """An exception stays one; one that cannot be pickled stays as its text."""
    base = Ended("t", "f_t", "d", "0", "ERROR", 1, b"{}", b"{}", None, (), {}, None, [], None, 0.0)
    run = RunFacts(str(tmp_path))
    raised = TrialRecord(pack(base._replace(error=pickle.dumps(ValueError("x")))), run)
    assert isinstance(raised.error, ValueError)
    assert TrialRecord(pack(base._replace(error="text")), run).error == "text"
    assert TrialRecord(pack(base), run).last_row == {"trial_id": "t"}
