"""The end of the journal is lost, and what it told of is still in the trials' files."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plans import Dies, Listed, again, killed, plan, rows, save, saved

from milepost import tune
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.control.controller import run
from milepost.control.plan import RunPlan
from milepost.journal import epochs, lines, replay
from milepost.journal import experiment as experiments
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.owner import await_predecessor
from milepost.keeper.place import node_root
from milepost.tune.schedulers import FIFOScheduler

REPORTS = 5
CONFIGS: list[dict[str, Any]] = [{"x": 1}, {"x": 2}]
LOSSES = range(1, 32)


def counts(config: dict[str, Any]) -> None:
    """Report 1 to 5 with a checkpoint each, going on where it was."""
    for number in range((saved() or 0) + 1, REPORTS + 1):
        tune.report({"number": number}, checkpoint=save(number))


class Steps(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.number = 0

    def step(self) -> dict[str, Any]:
        self.number += 1
        return {"number": self.number, "done": self.number == REPORTS}

    def save_checkpoint(self, directory: str) -> None:
        Path(directory, "number").write_text(str(self.number))

    def load_checkpoint(self, directory: str | None) -> None:
        assert directory is not None
        self.number = int(Path(directory, "number").read_text())


class Looks(FIFOScheduler):
    """Notes which results it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def on_trial_result(self, trial_runner: Any, trial: Any, result: dict[str, Any]) -> str:
        self.seen.append((trial.trial_id, result["training_iteration"]))
        return self.CONTINUE


TRAINABLES = {"function": counts, "class": Steps}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunPlan]:
    """Runs that were killed when one trial had ended and the other had saved three times."""
    made = {}
    for kind, trainable in TRAINABLES.items():
        made[kind] = plan(
            tmp_path_factory.mktemp(kind),
            trainable,
            CONFIGS,
            cpus=1,
            checkpoint=CheckpointConfig(checkpoint_frequency=1 if kind == "class" else 0),
            callbacks=[Dies("on_checkpoint", REPORTS + 3)],
        )
        killed(made[kind])
        found = made[kind].experiment
        reference = ExperimentRef(
            path=found.path, device=found.device, inode=found.inode, uuid=found.uuid
        )
        await_predecessor(node_root(), reference, 30.0)
    return made


def copied(lived: RunPlan, tmp_path: Path) -> RunPlan:
    """The plan of a copy."""
    path = shutil.copytree(lived.experiment.path, tmp_path / "copy")
    return dataclasses.replace(lived, experiment=experiments.open(str(path)))


def cut(path: str, lost: int) -> None:
    """Take the last records away."""
    (segment,) = epochs.segments(path)
    journal = Path(epochs.journal_directory(path), segment.name)
    there = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(there[: max(len(there) - lost, 1)]))


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("kind", TRAINABLES)
@pytest.mark.always("function-4", "function-12", "function-23", "class-5", "class-14", "class-24")
def test_each_row_comes_once(
    kind: str, lost: int, lived: dict[str, RunPlan], tmp_path: Path
) -> None:
    """Wherever the journal ends: rows, results that are told, and checkpoints are those of a run
    that was never cut.
    """
    first = copied(lived[kind], tmp_path)
    path = first.experiment.path
    cut(path, lost)
    search, scheduler = Listed(CONFIGS), Looks()
    outcome = run(again(first, search=search, scheduler=scheduler))
    for record in outcome.trials:
        assert record.status == "TERMINATED"
        there = rows(record)
        assert [row["number"] for row in there] == [*range(1, REPORTS + 1)]
        assert [row["training_iteration"] for row in there] == [*range(1, REPORTS + 1)]
        assert record.last_row["training_iteration"] == REPORTS
        kept = {index: row["number"] for index, _, row in record.checkpoints}
        assert sorted(kept.values()) == [*range(1, REPORTS + 1)]
        for index, checkpoint, row in record.checkpoints:
            assert int(Path(checkpoint, "number").read_text()) == row["number"], index
    image = replay.image(path)
    assert image.closed == "finished"
    assert [trial.rows for trial in image.trials.values()] == [REPORTS, REPORTS]
    assert all(not trial.captured and not trial.lost for trial in image.trials.values())
    seen = Counter(scheduler.seen)
    told = Counter(entry[1:] for entry in search.told if entry[0] == "result")
    for found in (seen, told):
        assert not [entry for entry, times in found.items() if times > 1]
        for trial in outcome.trials:
            of_trial = [iteration for name, iteration in found if name == trial.trial_id]
            assert of_trial == sorted(of_trial)
            assert {*range(1, REPORTS)} <= {*of_trial}


@pytest.mark.parametrize("kind", TRAINABLES)
def test_a_checkpoint_of_a_row_on_record_is_only_added(
    kind: str, lived: dict[str, RunPlan], tmp_path: Path
) -> None:
    """The journal may have rows without knowing what was saved with them: a keeper that was killed
    too commits that during the restore.
    """
    first = copied(lived[kind], tmp_path)
    path = first.experiment.path
    (segment,) = epochs.segments(path)
    journal = Path(epochs.journal_directory(path), segment.name)
    changed, number = [], 0
    for line in journal.read_bytes().splitlines():
        record = msgspec.json.decode(line)
        of_saves = record.get("trial") == "t1" and record.get("index", 0) >= 1
        if of_saves and record["type"] in ("saving", "committed"):
            continue
        if record["type"] == "reported" and record["trial"] == "t1" and record["iteration"] > 1:
            record["checkpoint"] = None
        number += 1
        for field in ("crc", "seq"):
            del record[field]
        changed.append(lines.make(number, msgspec.json.encode(record)))
    journal.write_bytes(b"".join(changed))
    image = replay.image(path).trials["t1"]
    assert (image.rows, len(image.committed), len(image.captured)) == (len(rows_in(first)), 1, 0)
    search, scheduler = Listed(CONFIGS), Looks()
    outcome = run(again(first, search=search, scheduler=scheduler))
    record = outcome.trials[1]
    assert [row["training_iteration"] for row in rows(record)] == [*range(1, REPORTS + 1)]
    assert [row["number"] for _, _, row in record.checkpoints] == [*range(1, REPORTS + 1)]
    for _, checkpoint, row in record.checkpoints:
        assert int(Path(checkpoint, "number").read_text()) == row["number"]
    assert max(Counter(scheduler.seen).values()) == 1
    assert max(Counter(search.told).values()) == 1


def rows_in(first: RunPlan) -> list[str]:
    return Path(first.experiment.path, "f_t1", "result.json").read_text().splitlines()
