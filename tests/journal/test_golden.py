"""Experiments that earlier versions wrote are read, and gone on with, by this one.

Each directory ``tests/golden/journal-v*`` holds an experiment and, in ``expected.json``, what it
amounts to. When the format changes, keep the old ones and add one:

    python tests/journal/test_golden.py tests/golden/journal-v2
"""

from __future__ import annotations

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.journal import compaction, epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.log import Journal
from milepost.journal.objects import Objects
from milepost.journal.projections import Projections
from milepost.storage import codec

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("journal-v*"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """A copy of a golden experiment, and what is expected of it."""
    copy = shutil.copytree(request.param / "experiment", tmp_path / "exp")
    return str(copy), json.loads((request.param / "expected.json").read_text())


def test_there_is_one_of_every_schema() -> None:
    """No schema is without its golden experiment."""
    assert [path.name for path in GOLDEN] == [f"journal-v{n}" for n in range(1, rec.SCHEMA + 1)]


def test_replay_gives_what_it_gave(golden: tuple[str, dict[str, Any]]) -> None:
    """State and records are those that the writing version saw."""
    path, expected = golden
    assert json.loads(msgspec.json.encode(replay.image(path))) == expected["image"]
    kinds = [type(record).__name__ for _, record in replay.records(path)]
    assert kinds == expected["kinds"]
    assert experiments.open(path).uuid == expected["image"]["uuid"]


def test_values_come_back(golden: tuple[str, dict[str, Any]]) -> None:
    """Tagged and pickled values of configs and rows are read."""
    path, _ = golden
    state = replay.image(path)
    get = Objects(path).get
    config = codec.decode(state.trials["t1"].config, get)
    assert config == {"lr": 0.1, "shape": (3, 4), "fraction": Fraction(1, 3), "names": {"a", "b"}}
    row = state.trials["t1"].row
    assert row is not None
    assert codec.decode(row, get)["inf"] == float("inf")
    assert codec.preview(state.trials["t1"].config)["fraction"] == "Fraction(1, 3)"


def test_a_new_driver_goes_on(golden: tuple[str, dict[str, Any]], make: Any) -> None:
    """Taking over, appending, compacting and completing result files all work."""
    path, expected = golden
    before = replay.image(path)
    journal = Journal.open(experiments.open(path))
    assert journal.epoch == expected["image"]["epoch"] + 1
    projections = Projections(journal, {"json", "csv"})
    journal.append(make.launched(attempt=9))
    journal.append(make.reported(iteration=100, attempt=9))
    projections.close()
    journal.rotate()
    compaction.compact(path, epochs.segments(path)[-1], keep_rows=False)
    journal.close("finished")
    after = replay.image(path)
    trial = after.trials["t1"]
    assert (trial.rows, trial.iteration) == (before.trials["t1"].rows + 1, 100)
    lines = Path(path, trial.directory, "result.json").read_text().splitlines()
    assert len(lines) == trial.rows


def write(target: Path) -> None:
    """Write a golden experiment: two epochs, two files, a snapshot, every kind of record."""
    experiment = experiments.create(str(target / "experiment"), name="golden", trainable="train")
    objects = Objects(experiment.path)

    def raw(value: object) -> msgspec.Raw:
        return msgspec.Raw(codec.encode(value, objects.put))

    def created(trial: str, order: int, config: object) -> rec.Created:
        return rec.Created(
            at=1.0,
            trial=trial,
            name=f"train_{trial}",
            directory=f"train_{trial}_dir",
            tag=str(order),
            order=order,
            config=raw(config),
            evaluated=raw({}),
            resources=raw([{"CPU": 1.0}]),
        )

    def report(trial: str, iteration: int, checkpoint: int | None = None) -> rec.Reported:
        row = {"training_iteration": iteration, "inf": float("inf"), "loss": 1 / iteration}
        return rec.Reported(
            at=3.0,
            trial=trial,
            attempt=0,
            iteration=iteration,
            row=raw(row),
            action="continue",
            checkpoint=checkpoint,
        )

    def launched(trial: str, attempt: int, first_index: int) -> rec.Launched:
        return rec.Launched(
            at=2.0, trial=trial, attempt=attempt, attempt_id="a", first_index=first_index
        )

    config = {"lr": 0.1, "shape": (3, 4), "fraction": Fraction(1, 3), "names": {"a", "b"}}
    committed = rec.Committed(
        at=4.0, trial="t1", attempt=0, index=0, iteration=1, nbytes=10, digest="0" * 32
    )
    journal = Journal.open(experiment)
    for record in (
        rec.Planned(at=1.0, setup=raw({"num_samples": 2})),
        created("t1", 0, config),
        created("t2", 1, {"lr": 0.2}),
        launched("t1", 0, 0),
        report("t1", 1, checkpoint=0),
        committed,
    ):
        journal.append(record)
    journal.rotate()
    compaction.compact(experiment.path, epochs.segments(experiment.path)[-1], keep_rows=True)
    for record in (
        rec.Saving(at=4.0, trial="t1", attempt=0, index=1),
        rec.Lost(at=4.0, trial="t1", attempt=0, index=1, reason="disk full"),
        rec.Reconfigured(at=4.0, trial="t2", config=raw({"lr": 0.3}), tag="1@perturbed"),
        rec.Searched(at=4.5, state=objects.put_value({"searcher": 1})),
    ):
        journal.append(record)
    journal.close("interrupted")
    journal = Journal.open(experiment)
    for record in (
        rec.Failure(
            at=5.0,
            trial="t1",
            attempt=0,
            failures=1,
            kind="ValueError",
            message="no",
            traceback="Traceback\nValueError: no",
            retried=True,
            error=objects.put_value(ValueError("no")),
        ),
        launched("t1", 1, 2),
        report("t1", 2, checkpoint=2),
        msgspec.structs.replace(committed, index=2, attempt=1),
        rec.Deleting(at=6.0, trial="t1", index=0, reason="not among the latest 1"),
        rec.Deleted(at=6.5, trial="t1", index=0),
        rec.Changed(at=7.0, trial="t2", status="PAUSED"),
        rec.Changed(at=7.0, trial="t1", status="RUNNING"),
    ):
        journal.append(record)
    newest = Path(epochs.journal_directory(experiment.path), "00000002.jsonl")
    journal.close(None)
    with open(newest, "ab") as file:
        file.write(b'{"crc":"12345678","seq":99,"ty')  # the torn end that a crash left
    expected = {
        "image": json.loads(msgspec.json.encode(replay.image(experiment.path))),
        "kinds": [type(record).__name__ for _, record in replay.records(experiment.path)],
    }
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
