"""An experiment whose journal is damaged is restored all the same, and that is said."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost import tune
from milepost.checkpoint import verify
from milepost.journal import epochs, replay
from milepost.journal import experiment as experiments
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.owner import await_predecessor

TRIALS, ITERATIONS = 4, 4

RUN = """
import json, os, signal, sys, tempfile
from milepost import tune

TRIALS, ITERATIONS = 4, 4


def train(config):
    first = 1
    found = tune.get_checkpoint()
    if found is not None:
        with found.as_directory() as directory:
            first = json.load(open(os.path.join(directory, "state")))["iteration"] + 1
    for iteration in range(first, ITERATIONS + 1):
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "state"), "w") as file:
                json.dump({"iteration": iteration}, file)
            tune.report(
                {"score": config["x"] * iteration, "iteration": iteration},
                checkpoint=tune.Checkpoint.from_directory(directory),
            )


class Kill(tune.Callback):
    # Once two trials have ended and two more checkpoints are committed.
    ended = seen = 0

    def on_trial_complete(self, **info):
        self.ended += 1

    def on_checkpoint(self, **info):
        self.seen += 1
        if self.ended >= 2 and self.seen >= 2 * ITERATIONS + 2:
            os.kill(os.getpid(), signal.SIGKILL)


def tuner(path, **more):
    return tune.Tuner(
        train,
        param_space={"x": tune.grid_search([1, 2, 3, 4])},
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(
            storage_path=path,
            name="run",
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            **more,
        ),
    )


if __name__ == "__main__":
    if sys.argv[2] == "run":
        tuner(sys.argv[1], callbacks=[Kill()]).fit()
    else:
        path = os.path.join(sys.argv[1], "run")
        space = {"x": tune.grid_search([1, 2, 3, 4])}
        grid = tune.Tuner.restore(path, train, param_space=space).fit()
        assert not grid.errors, grid.errors
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose driver was killed; two trials had ended."""
    root = tmp_path_factory.mktemp("damage")
    (root / "script.py").write_text(RUN)
    done = script(root, "run")
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = experiments.open(str(root / "storage" / "run"))
    reference = ExperimentRef(
        path=found.path, device=found.device, inode=found.inode, uuid=found.uuid
    )
    await_predecessor(str(root / "node"), reference, 30.0)
    return root


def script(root: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Run or restore in a process of its own."""
    return subprocess.run(
        [sys.executable, "script.py", "storage", what],
        cwd=root,
        env={**os.environ, "MILEPOST_NODE_ROOT": str(root / "node")},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def place(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(killed, tmp_path / "copy", ignore=shutil.ignore_patterns("node")))


def journal_of(place: Path) -> Path:
    (segment,) = epochs.segments(str(place / "storage" / "run"))
    return place / "storage" / "run" / ".milepost" / "journal" / segment.name


def restored(place: Path) -> tuple[str, str]:
    """Restore it; the experiment's path and what was logged."""
    done = script(place, "restore")
    assert done.returncode == 0, done.stderr
    return str(place / "storage" / "run"), done.stdout + done.stderr


def rows_of(trial: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(trial, "result.json").read_text().splitlines()]


def check(path: str, ended_before: set[str]) -> None:
    """All trials have ended with all of their rows, and no committed work was done again."""
    grid = tune.ResultGrid(tune.ExperimentAnalysis(path))
    assert grid.num_terminated == len(grid)
    by_config: Counter[int] = Counter()
    for result in grid:
        assert result.config is not None
        assert result.metrics is not None
        by_config[result.config["x"]] += 1
        assert result.metrics["score"] == result.config["x"] * ITERATIONS
        rows = rows_of(result.path)
        iterations = [row["iteration"] for row in rows]
        assert sorted(set(iterations)) == list(range(1, ITERATIONS + 1))
        if rows[0]["trial_id"] in ended_before:
            assert iterations == list(range(1, ITERATIONS + 1))
        assert verify.committed(result.path)[-1][1].iteration == ITERATIONS
    assert by_config == {1: 1, 2: 1, 3: 1, 4: 1}


def ended(path: str) -> set[str]:
    return {
        trial.trial for trial in replay.image(path).trials.values() if trial.status == "TERMINATED"
    }


def test_undamaged(place: Path) -> None:
    """The check of these tests holds for an ordinary restore."""
    before = ended(str(place / "storage" / "run"))
    assert 2 <= len(before) < TRIALS
    path, said = restored(place)
    check(path, before)
    assert "rebuilt" not in said


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit(seed: int, place: Path) -> None:
    """Somewhere in the middle: it is found, put right, and said."""
    before = ended(str(place / "storage" / "run"))
    journal = journal_of(place)
    data = bytearray(journal.read_bytes())
    draw = random.Random(seed)
    data[draw.randrange(len(data) - 1000)] ^= 1 << draw.randrange(8)
    journal.write_bytes(data)
    path, said = restored(place)
    check(path, before)
    assert "was damaged and has been rebuilt" in said
    assert "put right" in said


@pytest.mark.parametrize("kind", ["created", "launched", "reported", "committed", "changed"])
def test_a_lost_record(kind: str, place: Path) -> None:
    """The second of its kind cannot be read any more: the trials' files have the rest."""
    path = str(place / "storage" / "run")
    before = ended(path)
    journal = journal_of(place)
    lines = journal.read_bytes().splitlines(keepends=True)
    position = [n for n, line in enumerate(lines) if msgspec.json.decode(line)["type"] == kind][1]
    lines[position] = b"?" * (len(lines[position]) - 1) + b"\n"
    journal.write_bytes(b"".join(lines))
    _, said = restored(place)
    check(path, before)
    assert "was damaged and has been rebuilt" in said


@pytest.mark.parametrize("dropped", [1, 3, 8, 20])
def test_dropped_records(dropped: int, place: Path) -> None:
    """However many of the last ones are gone, what the files have counts."""
    path = str(place / "storage" / "run")
    journal = journal_of(place)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-dropped]))
    before = ended(path)
    restored(place)
    check(path, before)


def test_a_cut_in_the_last_record(place: Path) -> None:
    """Half a record is no record."""
    path = str(place / "storage" / "run")
    before = ended(path)
    journal = journal_of(place)
    os.truncate(journal, journal.stat().st_size - 7)
    restored(place)
    check(path, before)


@pytest.mark.parametrize("way", ["directory", "file", "empty", "zeros"])
def test_no_journal_at_all(way: str, place: Path) -> None:
    """The index is rebuilt from the trials' directories; what was set up is given again."""
    path = str(place / "storage" / "run")
    before = ended(path)
    journal = journal_of(place)
    if way == "directory":
        shutil.rmtree(Path(path, ".milepost", "journal"))
    elif way == "file":
        journal.unlink()
    else:
        size = journal.stat().st_size
        journal.write_bytes(b"" if way == "empty" else bytes(size))
    _, said = restored(place)
    assert any(text in said for text in ("taken from result files", "added to it", "rebuilt"))
    assert "gone or damaged" not in said
    assert re.search(r"checkpoint \d+ is lost", said) is None
    grid: Any = tune.ResultGrid(tune.ExperimentAnalysis(path))
    for result in grid:
        rows = rows_of(result.path)
        assert [row["iteration"] for row in rows] == [1, 2, 3, 4], "nothing was done again"
        if rows[0]["trial_id"] in before:
            assert verify.committed(result.path)[-1][1].iteration == ITERATIONS
