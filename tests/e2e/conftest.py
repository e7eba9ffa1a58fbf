"""Whole runs: real scripts in real processes, and what they must not leave behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside the tests

TOKEN = "MILEPOST_TEST_TOKEN"


#: Whole processes that import torch take their time on a busy machine of two cores.
PATIENCE_S = 150


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole runs more time than unit tests."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(PATIENCE_S + 30))


def processes_with(token: str) -> dict[int, str]:
    """Ids and commands of the live processes that carry a token in their environment."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
            command = Path("/proc", entry, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"{TOKEN}={token}".encode() in environment.split(b"\0"):
            found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def gone(token: str, within_s: float = 10.0) -> dict[int, str]:
    """Wait until no process carries the token; return those that stay."""
    deadline = time.monotonic() + within_s
    left = processes_with(token)
    while left and time.monotonic() < deadline:
        threading.Event().wait(0.02)
        left = processes_with(token)
    return left


class Place:
    """A directory in which scripts run as they would for a user.

    Attributes:
        path: the working directory of scripts.
        home: ``$HOME``, with the default storage path in it.
        scratch: ``$TMPDIR``; the node root lies in it.
        token: in the environment of every process that a script starts.
    """

    def __init__(self, root: Path, scratch: Path | None = None) -> None:
        self.path = root / "work"
        self.home = root / "home"
        self.scratch = scratch or root / "tmp"
        for directory in (self.path, self.home, self.scratch):
            directory.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(8)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TUNE_", "RAY_"))},
            TOKEN: self.token,
            "HOME": str(self.home),
            "TMPDIR": str(self.scratch),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        self.env.pop("MILEPOST_NODE_ROOT", None)

    def write(self, code: str, name: str = "script.py") -> Path:
        """Write a script."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    def start(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen:
        """Start Python with arguments, in a session of its own as a terminal would."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, given: str | None = None, code: int = 0) -> str:
        """Run Python with arguments to its end; return what it printed."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(given, timeout=PATIENCE_S)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out

    def script(self, text: str, code: int = 0) -> str:
        """Run a script to its end; return what it printed."""
        return self.run(str(self.write(text)), code=code)

    def experiments(self) -> list[Path]:
        """The experiments in the default storage path, oldest first."""
        store = self.home / "milepost_results"
        return sorted(store.iterdir(), key=lambda path: path.stat().st_ctime_ns)

    def processes(self) -> dict[int, str]:
        """Ids and commands of the live processes of scripts."""
        return processes_with(self.token)

    def wait_until_gone(self) -> dict[int, str]:
        """Wait until no process of a script lives; return those that stay."""
        return gone(self.token)

    def leftovers(self) -> list[str]:
        """Temporary files that a run left, but for the node root's own empty directories."""
        return sorted(
            str(path.relative_to(self.scratch))
            for path in self.scratch.rglob("*")
            if not path.is_dir()
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place for scripts; at the end no process of theirs may live."""
    # A short path: multiprocessing puts sockets there, whose paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="mp-") as scratch:
        made = Place(tmp_path, Path(scratch))
        yield made
        _end(made)


def _end(made: Place) -> None:
    left = gone(made.token)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"processes stayed behind: {left}"


@pytest.fixture
def leaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """A function that lists what has been added to this process since the test began."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    token = secrets.token_hex(8)
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv(TOKEN, token)
    threads = set(threading.enumerate())
    descriptors = _descriptors()

    def added() -> list[str]:
        found = [f"process {pid}: {command}" for pid, command in gone(token).items()]
        found += [f"thread {t.name}" for t in set(threading.enumerate()) - threads]
        found += [f"descriptor {d}" for d in sorted(_descriptors() - descriptors)]
        found += [f"temporary {path}" for path in scratch.rglob("*")]
        return found

    yield added
    for pid in gone(token, within_s=0.0):
        os.kill(pid, signal.SIGKILL)


def _descriptors() -> set[str]:
    """What this process has open, as numbers with targets."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


@pytest.fixture
def start(place: Place) -> Iterator[Callable[..., Any]]:
    """Starts scripts that are sent signals (:mod:`signalling`); at the end none lives."""
    from signalling import Driver

    with contextlib.ExitStack() as stack:

        def begin(script: str, **options: Any) -> Driver:
            driver = Driver(place, script, **options)
            stack.callback(driver.close)
            return driver

        yield begin
