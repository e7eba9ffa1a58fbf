"""However a program is started, no worker imports or runs it again."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost.worker import session

Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
import os
print("top level", os.getpid(), flush=True)
from milepost.engine.local import LocalEngine
from milepost.testing.driver import TrialDriver
from milepost.worker.session import report

class Model:
    factor = 2

class MyError(Exception):
    pass

def helper(x):
    return Model.factor * x

def train(config):
    report({"y": helper(config["x"])})
    if config["x"] == 3:
        raise MyError("three")

with TrialDriver(LocalEngine(), train, os.getcwd()) as driver:
    for x in (1, 3):
        worker = driver.run({"x": x})
        print("row", worker.rows[0]["y"], type(worker.end).__name__, flush=True)
    from milepost.worker.protocol import load
    print("own class", type(load(worker.end.error)) is MyError, flush=True)
"""
EXPECTED = ["row 2 Finished", "row 6 Failed", "own class True"]


def check(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len([line for line in lines if line.startswith("top level")]) == 1
    assert lines[1:] == EXPECTED
    assert result.stderr == ""


def test_unguarded_script(tmp_path: Path, run_python: Run) -> None:
    """A script without ``if __name__ == "__main__"`` runs once."""
    (tmp_path / "script.py").write_text(PROGRAM)
    check(run_python("script.py"))


def test_command_line(run_python: Run) -> None:
    """``python -c`` works."""
    check(run_python("-c", PROGRAM))


def test_standard_input(run_python: Run) -> None:
    """A program that is piped into the interpreter works; workers read nothing of it."""
    check(run_python("-", stdin=PROGRAM))


def test_module(tmp_path: Path, run_python: Run) -> None:
    """``python -m package.module`` works, also with relative imports in it."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("FACTOR = 2\n")
    (package / "module.py").write_text(
        "from .other import FACTOR\n" + PROGRAM.replace("factor = 2", "factor = FACTOR")
    )
    check(run_python("-m", "package.module"))


def test_exec_in_notebook_style(run_python: Run) -> None:
    """Functions of code that was never in a file (a notebook's cells) work."""
    code = (
        "cells = compile("
        + repr(PROGRAM)
        + ", '<ipython-input-1>', 'exec'); exec(cells, globals())"
    )
    check(run_python("-c", code))


def test_function_of_a_user_module(tmp_path: Path, run_python: Run) -> None:
    """A function imported from a file beside the script is imported by the worker, fresh."""
    (tmp_path / "mine.py").write_text(
        "import os\nprint('import of mine', flush=True)\n"
        "from milepost.worker.session import report\n"
        "def train(config):\n    report({'file': os.path.basename(__file__)})\n"
    )
    (tmp_path / "script.py").write_text(
        "import os\nfrom mine import train\n"
        "from milepost.engine.local import LocalEngine\n"
        "from milepost.testing.driver import TrialDriver\n"
        "with TrialDriver(LocalEngine(), train, os.getcwd()) as driver:\n"
        "    for _ in range(2):\n"
        "        worker = driver.run()\n"
        "        print(worker.rows[0]['file'], repr(worker.stdout))\n"
    )
    result = run_python("script.py")
    assert result.stdout.splitlines() == [
        "import of mine",
        "mine.py 'import of mine\\n'",
        "mine.py 'import of mine\\n'",
    ], result.stderr


class Callable_:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, config: dict[str, Any]) -> None:
        session.report({"y": self.factor * config["x"]})


def with_factor(config: dict[str, Any], factor: int) -> None:
    session.report({"y": factor * config["x"]})


def make_closure(factor: int) -> Callable[[dict[str, Any]], None]:
    def train(config: dict[str, Any]) -> None:
        session.report({"y": factor * config["x"]})

    return train


@pytest.mark.parametrize(
    "trainable",
    [
        make_closure(3),
        lambda config: {"y": 3 * config["x"]},
        functools.partial(with_factor, factor=3),
        Callable_(3),
        Callable_(3).__call__,
    ],
    ids=["closure", "lambda", "partial", "object", "method"],
)
def test_kinds_of_callables(drive: Any, trainable: Any) -> None:
    """Closures, lambdas, partials, objects and bound methods travel."""
    worker = drive(trainable).run({"x": 2})
    assert [row["y"] for row in worker.rows] == [6]
    assert worker.exited.exit_code == 0
