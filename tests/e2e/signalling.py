"""Scripts with a run in them that tests send signals to, and the pipes by which they meet."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from milepost.checkpoint import verify
from milepost.journal import replay

#: For waits that end at once when all is well.
PATIENCE_S = 90

PRELUDE = """
import contextlib, ctypes, json, os, signal, subprocess, sys, tempfile, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever has started us

import milepost
from milepost import tune
from milepost.tune import Checkpoint

milepost.init(num_cpus=2)

def say(word):
    "Tell the test something; it has opened the pipe."
    with open(os.path.join(os.environ["GATES"], "said"), "w") as pipe:
        pipe.write(word + "\\n")

def wait(name):
    "Wait until the test lets us go on."
    pipe = os.open(os.path.join(os.environ["GATES"], name), os.O_RDONLY)
    os.read(pipe, 1)
    os.close(pipe)

def save(**state):
    directory = tempfile.mkdtemp(dir=os.environ["GATES"])
    with open(os.path.join(directory, "state.json"), "w") as file:
        json.dump(state, file)
    return Checkpoint.from_directory(directory)

def restored():
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return {}
    with checkpoint.as_directory() as directory:
        with open(os.path.join(directory, "state.json")) as file:
            return json.load(file)

def fit(trainable, space=None, samples=1, callbacks=None, **options):
    try:
        grid = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=samples),
            run_config=tune.RunConfig(name="exp", callbacks=callbacks, **options),
        ).fit()
        print("GRID", json.dumps([r.metrics.get("n") for r in grid]), grid.num_errors, flush=True)
        return grid
    finally:
        print("FINALLY", flush=True)

import atexit
atexit.register(print, "ATEXIT", flush=True)
"""


class Driver:
    """A script with a run in it, and the pipes by which it meets the test.

    Args:
        place: where it runs.
        script: what follows the prelude.
        terminal: run it in a pseudo-terminal of its own, whose Ctrl-C it gets.
    """

    def __init__(self, place: Any, script: str, *, terminal: bool = False, **env: str) -> None:
        self.place = place
        self.gates = Path(tempfile.mkdtemp(prefix="gates-", dir=place.scratch))
        self._pipes: dict[str, int] = {}
        self._descriptors = contextlib.ExitStack()
        self._said = b""
        self.output = ""
        self._pipe("said")
        path = place.write(PRELUDE + script)
        self._master, slave = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=place.path,
            env={**place.env, "GATES": str(self.gates), **env},
            stdin=slave if terminal else subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal if terminal else None,  # noqa: PLW1509 - no threads here
        )
        os.close(slave)
        self._descriptors.callback(os.close, self._master)

    def _pipe(self, name: str) -> int:
        if name not in self._pipes:
            os.mkfifo(self.gates / name)
            # For reading and writing, so that nobody waits for us to open it.
            pipe = os.open(self.gates / name, os.O_RDWR | os.O_NONBLOCK)
            self._pipes[name] = pipe
            self._descriptors.callback(os.close, pipe)
        return self._pipes[name]

    def heard(self, word: str, times: int = 1) -> None:
        """Wait until the script has said a word so many times."""
        lives = True
        while self.said.count(word) < times:
            assert lives, self._fate()
            ready = select.select([self._pipes["said"], self._master], [], [], PATIENCE_S)[0]
            assert ready, self._fate()
            lives = self._master not in ready or self._read()

    @property
    def said(self) -> list[str]:
        """The words that the script has said."""
        while select.select([self._pipes["said"]], [], [], 0)[0]:
            self._said += os.read(self._pipes["said"], 4096)
        return self._said.decode().split()

    def worker(self) -> int:
        """The process id that the only trial has said."""
        (pid,) = [int(word) for word in self.said if word.isdecimal()]
        return pid

    def gate(self, name: str) -> None:
        """Make a gate at which the script can wait."""
        self._pipe(name)

    def open(self, name: str, times: int = 1) -> None:
        """Let so many pass who wait at a gate."""
        os.write(self._pipe(name), b"x" * times)

    def send(self, signum: int) -> None:
        """Send a signal to the driver alone."""
        self.process.send_signal(signum)

    def press_control_c(self) -> None:
        """Press Ctrl-C at the terminal."""
        os.write(self._master, b"\x03")

    def printed(self, text: str) -> None:
        """Wait until the script has printed something."""
        while text not in self.output:
            assert self._read(), f"never printed {text!r}\n{self._fate()}"

    def prints_within(self, seconds: float) -> bool:
        """Whether it prints something new, or ends, in so many seconds."""
        return bool(select.select([self._master], [], [], seconds)[0])

    def _read(self) -> bool:
        assert select.select([self._master], [], [], PATIENCE_S)[0], self._fate()
        try:
            data = os.read(self._master, 65536)
        except OSError:  # a terminal that everybody has closed
            data = b""
        self.output += data.decode().replace("\r\n", "\n")
        return bool(data)

    def end(self, code: int | None = None) -> str:
        """Wait for the end, with this exit code unless it is None; return all output."""
        while self._read():
            pass
        ended = self.process.wait(PATIENCE_S)
        assert code is None or ended == code, self.output
        return self.output

    def _fate(self) -> str:
        return f"exit status {self.process.poll()}, said {self._said!r}:\n{self.output}"

    def again(self) -> str:
        """Run the script once more, to its end."""
        self.place.env["GATES"] = str(self.gates)
        return self.place.run(str(self.place.path / "script.py"))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._descriptors.close()

    def forget(self) -> None:
        """End it, and remove its results."""
        self.close()
        shutil.rmtree(self.place.home / "milepost_results", ignore_errors=True)

    # --- what is on disk ------------------------------------------------------------------------

    @property
    def image(self) -> Any:
        """What the journal says."""
        return replay.image(str(self.experiment))

    @property
    def experiment(self) -> Path:
        (path,) = self.place.experiments()
        return path

    def rows(self) -> list[dict[str, Any]]:
        """All rows of all trials, in the order of trials."""
        return [
            json.loads(line)
            for path in sorted(self.experiment.glob("*/result.json"))
            for line in path.read_text().splitlines()
        ]

    def states(self) -> list[dict[str, Any]]:
        """The states in the committed checkpoints, each of which is whole."""
        found = []
        for trial in sorted(path for path in self.experiment.iterdir() if path.is_dir()):
            for index, _ in [] if trial.name == ".milepost" else verify.committed(str(trial)):
                path = trial / f"checkpoint_{index:06d}"
                assert verify.check(str(path), digests=True) == []
                found.append(json.loads((path / "state.json").read_text()))
        return found

    def assert_closed(self, outcome: str = "interrupted") -> None:
        """The journal was closed in order, nothing has failed, nothing lives."""
        image = self.image
        assert image.closed is not None, self.output
        assert image.closed == outcome
        assert [trial.failures for trial in image.trials.values()] == [0] * len(image.trials)
        assert self.place.wait_until_gone() == {}


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


#: Trials that save when they are told; two run at once, a third one waits.
WATCHFUL = """
def train(config):
    n = restored().get("n", 0)
    tune.report({"n": n + 1})
    context = tune.get_context()
    assert not context.should_checkpoint() and context.get_preemption_info() is None
    say("training")
    pause = threading.Event()
    while not context.should_checkpoint():
        pause.wait(0.005)
    info = context.get_preemption_info()
    left = info.remaining_s
    tune.report(
        {"n": n + 2, "reason": info.reason, "left": left}, checkpoint=save(n=n + 2)
    )
    say("unreachable")

fit(train, {"x": tune.grid_search([1, 2, 3])})
"""

#: Trials that never report again.
STUBBORN = """
def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))
    say(str(os.getpid()))
    say("training")
    while True:
        threading.Event().wait(3600)

fit(train)
"""

#: What a script exits with after a signal.
ENDS = {signal.SIGINT: 0, signal.SIGUSR1: 0, signal.SIGTERM: 143}

Start = Callable[..., Driver]
