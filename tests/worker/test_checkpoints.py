"""Checkpoints of function trainables: each by a real worker and a real keeper."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint import manifest
from milepost.checkpoint.handle import Checkpoint
from milepost.errors import CheckpointFailedError
from milepost.worker.captures import _joined
from milepost.worker.protocol import Counters, Finished, Reported, load
from milepost.worker.session import get_checkpoint, report


class OwnCheckpoint(Checkpoint):
    """A subclass survives the way through storage."""


def save(directory: str, text: Any) -> str:
    with open(os.path.join(directory, "state"), "w") as file:
        file.write(str(text))
    return directory


def read(checkpoint: Checkpoint) -> str:
    with checkpoint.as_directory() as directory, open(os.path.join(directory, "state")) as file:
        return file.read()


# Sent by value: workers cannot import this module.
for each in (save, read, OwnCheckpoint):
    each.__module__ = "__main__"


def test_report_with_checkpoint(drive_with_keeper: Any, tmp_path: Path) -> None:
    """The directory may go as soon as report returns; the row names the checkpoint."""

    def train(config: dict[str, Any]) -> None:
        for i in range(3):
            with tempfile.TemporaryDirectory() as directory:
                checkpoint = Checkpoint.from_directory(save(directory, i))
                report({"i": i}, checkpoint=checkpoint if i != 1 else None)

    driver = drive_with_keeper(train)
    worker = driver.run()
    assert worker.end == Finished("returned")
    assert [row["checkpoint_dir_name"] for row in worker.rows] == [
        "checkpoint_000000",
        None,
        "checkpoint_000001",
    ]
    assert [row.get("should_checkpoint") for row in worker.rows] == [True, None, True]
    reported = [m for m in worker.messages if isinstance(m, Reported)]
    assert [m.checkpoint for m in reported] == [0, None, 1]
    assert [m.nbytes for m in reported] == [1, 0, 1]
    driver.wait(lambda: len(driver.keeper_events) >= 2)
    for index, text, iteration in ((0, "0", 1), (1, "2", 3)):
        path = tmp_path / "exp" / "t1" / f"checkpoint_00000{index}"
        assert (path / "state").read_text() == text
        assert manifest.read(path).iteration == iteration


def test_get_checkpoint(drive_with_keeper: Any, tmp_path: Path) -> None:
    """First the one to start from, then the one reported last, committed."""

    def train(config: dict[str, Any]) -> None:
        seen = []
        start = get_checkpoint()
        seen.append(start and read(start))
        for text in ("new", "newer"):
            report({}, checkpoint=OwnCheckpoint.from_directory(save(tempfile.mkdtemp(), text)))
            now = get_checkpoint()
            assert now is not None
            seen.append((os.path.basename(now.path), type(now).__name__, read(now)))
            report({"no": "checkpoint"})
            again = get_checkpoint()
            assert again is not None
            assert again.path == now.path
        report({"seen": seen})

    driver = drive_with_keeper(train)
    first = driver.run().rows[-1]["seen"]
    assert first == [
        None,
        ("checkpoint_000000", "OwnCheckpoint", "new"),
        ("checkpoint_000001", "OwnCheckpoint", "newer"),
    ]
    path = str(tmp_path / "exp" / "t1" / "checkpoint_000001")
    worker = driver.run(start_from=path, first_index=5, counters=Counters(4), attempt=1)
    assert worker.rows[-1]["seen"] == [
        "newer",
        ("checkpoint_000005", "OwnCheckpoint", "new"),
        ("checkpoint_000006", "OwnCheckpoint", "newer"),
    ]
    assert worker.rows[0]["training_iteration"] == 5


def test_committed_checkpoint_can_be_reported_again(drive_with_keeper: Any, tmp_path: Path) -> None:
    """Reporting what get_checkpoint() gave makes another checkpoint; the first stays whole."""

    def train(config: dict[str, Any]) -> None:
        report({"i": 0}, checkpoint=Checkpoint.from_directory(save(tempfile.mkdtemp(), "x")))
        report({"i": 1}, checkpoint=get_checkpoint())

    driver = drive_with_keeper(train)
    assert driver.run().end == Finished("returned")
    driver.wait(lambda: len(driver.keeper_events) >= 2)
    for index in (0, 1):
        path = tmp_path / "exp" / "t1" / f"checkpoint_00000{index}"
        found = manifest.read(path)
        assert (found.index, [entry.path for entry in found.files]) == (index, ["state"])
        assert (path / "state").read_text() == "x"


def test_changed_copy_of_a_committed_checkpoint(drive_with_keeper: Any, tmp_path: Path) -> None:
    """A copy with its manifest is an ordinary directory, whatever became of its files since."""

    def train(config: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            report({"i": 0}, checkpoint=Checkpoint.from_directory(save(directory, 0)))
        committed = get_checkpoint()
        copy = str(tmp_path / "copy")
        shutil.copytree(committed.path, copy)
        save(copy, "much longer than before")
        report({"i": 1}, checkpoint=Checkpoint.from_directory(copy))
        report({"i": 2, "state": read(get_checkpoint())})

    driver = drive_with_keeper(train)
    worker = driver.run()
    assert worker.end == Finished("returned")
    assert worker.rows[-1]["state"] == "much longer than before"


@pytest.mark.parametrize("kind", ["text", "directory", "newer", "lost link"])
@pytest.mark.parametrize("move", [False, True])
def test_a_strange_manifest_does_not_matter(
    drive_with_keeper: Any, tmp_path: Path, kind: str, move: bool
) -> None:
    """What is called as a manifest in a source directory is replaced, never read."""

    def train(config: dict[str, Any]) -> None:
        directory = tempfile.mkdtemp(dir=tmp_path)
        with open(os.path.join(directory, "weights"), "wb") as file:
            file.truncate(2 << 20)  # large enough to be moved or linked
        save(directory, "state")
        path = os.path.join(directory, ".milepost.json")
        if kind == "directory":
            os.makedirs(os.path.join(path, "with"))
        elif kind == "lost link":
            os.symlink("/nowhere/at/all", path)
        else:
            with open(path, "w") as file:
                file.write("no JSON" if kind == "text" else '{"format": 99}')
        report({"i": 0}, checkpoint=Checkpoint.from_directory(directory, move=move))
        report({"state": read(get_checkpoint())})

    driver = drive_with_keeper(train)
    worker = driver.run()
    assert worker.end == Finished("returned"), worker.end
    assert worker.rows[-1]["state"] == "state"


def test_directory_that_is_handed_over(drive_with_keeper: Any) -> None:
    """With ``move=True`` the source is gone after the report."""

    def train(config: dict[str, Any]) -> None:
        directory = save(tempfile.mkdtemp(), "x")
        report({}, checkpoint=Checkpoint.from_directory(directory, move=True))
        report({"left": os.path.exists(directory)})

    assert drive_with_keeper(train).run().rows[1]["left"] is False


def test_what_is_no_checkpoint(drive_with_keeper: Any, tmp_path: Path) -> None:
    """A wrong type, a missing directory and a file are errors at the call; nothing was reported."""

    def train(config: dict[str, Any]) -> None:
        here = tempfile.mkdtemp()
        file = os.path.join(save(here, "x"), "state")
        missing = os.path.join(here, "missing")
        for bad in (
            here,
            Checkpoint.from_directory(missing),
            Checkpoint.from_directory(file),
        ):
            try:
                report({"a": 1}, checkpoint=bad)  # type: ignore[arg-type]
            except (TypeError, OSError) as error:
                print(type(error).__name__, error)
        report({"b": 1}, checkpoint=Checkpoint.from_directory(here))

    worker = drive_with_keeper(train).run()
    lines = worker.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("TypeError")
    assert "Checkpoint.from_directory(path)" in lines[0]
    assert lines[1].startswith("FileNotFoundError")
    assert "missing" in lines[1]
    assert lines[2].startswith("NotADirectoryError")
    assert "state" in lines[2]
    (row,) = worker.rows
    assert row["b"] == 1
    assert row["training_iteration"] == 1


def test_captured_checkpoint_survives_its_worker(drive_with_keeper: Any, tmp_path: Path) -> None:
    """Killed right after report returned: the checkpoint is committed all the same."""

    def train(config: dict[str, Any]) -> None:
        report({}, checkpoint=Checkpoint.from_directory(save(tempfile.mkdtemp(), "x")))
        os.kill(os.getpid(), signal.SIGKILL)

    driver = drive_with_keeper(train)
    assert driver.run().exited.signal == signal.SIGKILL
    driver.wait(lambda: bool(driver.keeper_events))
    assert (tmp_path / "exp" / "t1" / "checkpoint_000000" / "state").read_text() == "x"


def test_failed_commit_is_raised_once(drive_with_keeper: Any, tmp_path: Path) -> None:
    """It raises in the next report, or in get_checkpoint; who catches it may go on."""

    def train(config: dict[str, Any]) -> None:
        for index, ask in ((0, True), (1, False)):
            blocker = os.path.join(os.getcwd(), f"checkpoint_00000{index}")
            os.mkdir(blocker)
            save(blocker, "in the way")
            report({}, checkpoint=Checkpoint.from_directory(save(tempfile.mkdtemp(), index)))
            try:
                if ask:
                    get_checkpoint()
                else:
                    while True:
                        report({"waiting": 1})
            except CheckpointFailedError as error:
                print(error)
            report({"went": "on"})

    worker = drive_with_keeper(train, timeout_s=40).run()
    assert worker.end == Finished("returned")
    lines = [line for line in worker.stdout.splitlines() if "could not be committed" in line]
    assert len(lines) == 2
    assert "checkpoint_000000" in lines[0]
    assert "checkpoint_000001" in lines[1]
    assert len([row for row in worker.rows if "went" in row]) == 2


def test_row_of_a_checkpoint_holds_what_was_reported(
    drive_with_keeper: Any, tmp_path: Path
) -> None:
    """The manifest carries the row, so that a checkpoint found without its report has it."""
    from milepost.storage import codec

    def train(config: dict[str, Any]) -> None:
        report(
            {"loss": float("nan"), "deep": {"t": (1, 2)}},
            checkpoint=Checkpoint.from_directory(save(tempfile.mkdtemp(), "x")),
        )

    driver = drive_with_keeper(train)
    (row,) = driver.run().rows
    driver.wait(lambda: bool(driver.keeper_events))
    kept = codec.decode(manifest.read(tmp_path / "exp" / "t1" / "checkpoint_000000").metrics)
    assert kept.pop("loss") != row.pop("loss")  # NaN
    assert kept == row


@pytest.mark.parametrize("where", ["report", "get_checkpoint"])
def test_child_process_cannot_capture(drive_with_keeper: Any, where: str) -> None:
    """A forked child of a trial that reports a checkpoint is told that it cannot."""

    def train(config: dict[str, Any]) -> None:
        report({}, checkpoint=Checkpoint.from_directory(save(tempfile.mkdtemp(), "x")))
        r, w = os.pipe()
        if os.fork() == 0:
            try:
                if where == "report":
                    report({}, checkpoint=Checkpoint.from_directory(tempfile.mkdtemp()))
                else:
                    get_checkpoint()
            except Exception as error:
                os.write(w, str(error).encode())
            os._exit(0)
        os.wait()
        report({"said": os.read(r, 1000).decode()})

    worker = drive_with_keeper(train).run()
    assert "child of" in worker.rows[1]["said"]
    assert load(worker.messages[-2].row)["training_iteration"] == 2


def test_advice_is_given_once() -> None:
    """Several failures are told one by one, and what to do about them once."""
    advice = ". Storage has no room. Free some space"
    texts = [f"checkpoint_00000{n} could not be committed: full: /{n}{advice}" for n in range(3)]
    assert _joined(texts) == "; ".join(text.removesuffix(advice) for text in texts) + advice
    assert _joined(["one. Do this", "two. Do that"]) == "one. Do this; two. Do that"
