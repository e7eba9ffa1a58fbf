"""What is written beside the training: checkpoints and processes wait for it, errors are told."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint.handle import Checkpoint
from milepost.worker import unfinished
from milepost.worker.protocol import Busy, Failed, Finished, Reply, Reported
from milepost.worker.session import report
from milepost.worker.trainable import Trainable


def write_slowly(directory: Any) -> Future[None]:
    """Begin to write a file, which is there only when somebody of ours has begun to wait for it."""
    from milepost.worker import unfinished

    waits, waiting = threading.Event(), unfinished.waiting

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        waits.set()
        with waiting():
            yield

    def write() -> None:
        waits.wait()
        Path(directory, "state").write_text("all")

    unfinished.waiting = told
    return unfinished.begin(str(directory), write)


def fail(directory: Any) -> Future[None]:
    """Write where nothing can be written."""
    from milepost.worker import unfinished

    return unfinished.begin(str(directory), lambda: os.mkdir("/proc/none"))


def test_report_waits(drive_with_keeper: Any, tmp_path: Path) -> None:
    """For the directory, and for those in it; that is no silence of the trial's."""

    def train(config: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as root:
            inner = Path(root, "a")
            inner.mkdir()
            write_slowly(inner)
            report({}, checkpoint=Checkpoint.from_directory(root))
        with tempfile.TemporaryDirectory() as root:
            beside, own = Path(f"{root}-beside"), Path(root, "link")
            own.symlink_to(root)
            fail(beside)
            write_slowly(own)
            report({}, checkpoint=Checkpoint.from_directory(root))
        unfinished.forget(str(beside))

    driver = drive_with_keeper(train)
    worker = driver.run(watched=True)
    assert worker.end == Finished("returned")
    driver.wait(lambda: len(driver.keeper_events) >= 2)
    found = tmp_path / "exp" / "t1"
    assert (found / "checkpoint_000000" / "a" / "state").read_text() == "all"
    assert (found / "checkpoint_000001" / "state").read_text() == "all"
    told = [m for m in worker.messages if isinstance(m, Busy | Reported)]
    assert told[:4] == [Busy(True), Busy(False)] * 2  # for the wait, and for the capture


def test_report_raises(drive_with_keeper: Any, tmp_path: Path) -> None:
    """Each time, with nothing reported, whoever else knows; until it is written anew."""

    def train(config: dict[str, Any]) -> str | None:
        directory = tempfile.mkdtemp()
        future = fail(directory)
        for _ in range(2):
            try:
                report({"bad": 1}, checkpoint=Checkpoint.from_directory(directory))
            except FileNotFoundError:
                assert future.exception() is not None
            else:
                return "reported"
        report({"no": "checkpoint"})
        write_slowly(directory)
        report({"good": 1}, checkpoint=Checkpoint.from_directory(directory))
        return None

    worker = drive_with_keeper(train).run()
    assert worker.end == Finished("returned")
    assert [row.get("good") for row in worker.rows] == [None, 1]


@pytest.mark.parametrize("how", ["returns", "raises", "fails", "both"])
def test_a_function_that_ends(drive: Any, tmp_path: Path, how: str) -> None:
    """What it has begun to write is written then; what could not be has failed the function."""

    def train(config: dict[str, Any]) -> None:
        if how in ("returns", "raises"):
            write_slowly(config["root"])
        else:
            fail(config["root"])
        if how in ("raises", "both"):
            raise KeyError("mine")

    worker = drive(train).run({"root": str(tmp_path)}, watched=True)
    waited = [message for message in worker.messages if isinstance(message, Busy)]
    assert waited == [Busy(True), Busy(False)]  # before the end is told
    if how == "returns":
        assert worker.end == Finished("returned")
    else:
        assert isinstance(worker.end, Failed)
        assert worker.end.kind == ("FileNotFoundError" if how == "fails" else "KeyError")
    if how in ("returns", "raises"):
        assert (tmp_path / "state").read_text() == "all"
    if how == "both":
        assert "a directory could not be written" in worker.stderr
        assert f"raised while {tmp_path} was written beside the training" in worker.stderr
    else:
        assert "could not be written" not in worker.stderr


class Saves(Trainable):
    """Its checkpoint comes late, and so does what it writes at its end."""

    def step(self) -> dict[str, Any]:
        return {}

    def cleanup(self) -> None:
        write_slowly(self.config["root"])

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        write_slowly(checkpoint_dir)

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise NotImplementedError


def test_classes(drive_with_keeper: Any, tmp_path: Path) -> None:
    """Their checkpoints are complete, and their process ends when all is written."""
    driver = drive_with_keeper(Saves, kind="class")
    driver.run({"root": str(tmp_path)}, decide=lambda row: Reply("stop", True))
    driver.wait(lambda: bool(driver.keeper_events))
    assert (tmp_path / "exp" / "t1" / "checkpoint_000000" / "state").read_text() == "all"
    assert (tmp_path / "state").read_text() == "all"


def test_an_error_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To whoever asks first; the future tells everybody."""
    future = fail(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        unfinished.raise_failed()
    assert caught.value.__notes__ == [
        f"raised while {tmp_path} was written beside the training; it is not complete"
    ]
    unfinished.raise_failed()
    with pytest.raises(FileNotFoundError):
        future.result()
    assert fail(tmp_path).exception() is not None
    unfinished.raise_failed()
    fail(tmp_path)
    unfinished.log_failed()
    unfinished.log_failed()
    assert [record.getMessage() for record in caplog.records] == [
        "a directory could not be written:"
    ]
    unfinished.forget(str(tmp_path))


SCRIPT = """
import os, sys, threading
from pathlib import Path
from milepost.worker import unfinished

def write():
    threading.main_thread().join()
    Path(sys.argv[1], "state").write_text("all")

unfinished.begin(sys.argv[1], write)
child = os.fork()
if child == 0:
    sys.exit(7)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_process_that_ends(tmp_path: Path, there: bool) -> None:
    """It waits until all is written, and logs what could not be; a child does not wait."""
    root = tmp_path if there else tmp_path / "none"
    command = [sys.executable, "-c", SCRIPT, str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == 0
    if there:
        assert (tmp_path / "state").read_text() == "all"
        assert ended.stderr == ""
    else:
        assert "FileNotFoundError" in ended.stderr
        assert ended.stderr.endswith("written beside the training; it is not complete\n")
