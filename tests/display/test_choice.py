"""Which surface shows a run, and what is said about single trials."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.api.progress import ProgressReporter
from milepost.display import notebook
from milepost.display.choice import choose
from milepost.display.custom import Custom
from milepost.display.events import ResultLines, TrialLines
from milepost.display.notebook import Notebook
from milepost.display.plain import Plain
from milepost.display.surface import Silent


class FacadeTrial(SimpleNamespace):
    """A trial as callbacks see it."""

    def __str__(self) -> str:
        return "train_1a2b3_00000"


def facade(**changes: Any) -> Any:
    given = {
        "trial_id": "1a2b3_00000",
        "config": {"lr": 0.01, "momentum": 0.9},
        "evaluated_params": {"lr": 0.01},
        "last_result": {},
        "checkpoint": None,
        "path": "/results/digits/train_1a2b3_00000",
        "status": "RUNNING",
    }
    return FacadeTrial(**{**given, **changes})


def test_a_file_gets_lines_about_each_trial() -> None:
    """Not a terminal: plain lines, with starts and ends of trials."""
    display = choose(1)
    assert type(display.surface) is Plain
    assert [type(callback) for callback in display.callbacks] == [TrialLines]


def test_more_detail_adds_results() -> None:
    """verbose=2 tells each result and checkpoint; only then is a hook called per result."""
    assert [type(c) for c in choose(2).callbacks] == [ResultLines]
    assert "on_trial_result" not in vars(TrialLines)


def test_silence_has_no_callbacks() -> None:
    """verbose=0 shows nothing about the run."""
    display = choose(0)
    assert (type(display.surface), display.callbacks) == (Silent, [])


def test_a_notebook_gets_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a kernel the table goes into the cell, and tells of the trials."""
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    display = choose(1)
    assert (type(display.surface), display.callbacks) == (Notebook, [])
    assert [type(callback) for callback in choose(2).callbacks] == [ResultLines]


def test_ipython_on_a_terminal_is_no_notebook() -> None:
    """Only a kernel can show HTML."""
    shell = SimpleNamespace(kernel=None)
    for current, expected in ((None, False), (shell, False), (SimpleNamespace(kernel=1), True)):
        module = SimpleNamespace(get_ipython=lambda current=current: current)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "IPython", module)
            assert notebook.in_notebook() is expected


def test_what_is_said_of_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    """From its start to its end a trial is told with parameters, metrics and checkpoint."""
    (lines,) = choose(2, metric="loss").callbacks
    row = {"training_iteration": 2, "time_total_s": 1.25, "accuracy": 0.9, "loss": 0.1, "pid": 3}
    about: dict[str, Any] = {"iteration": 1, "trials": []}
    checkpoint = SimpleNamespace(path="/results/digits/train_1a2b3_00000/checkpoint_000001")
    lines.on_trial_start(trial=facade(), **about)
    lines.on_trial_result(trial=facade(), result=row, **about)
    lines.on_checkpoint(trial=facade(), checkpoint=checkpoint, **about)
    lines.on_trial_complete(trial=facade(last_result=row), **about)
    assert capsys.readouterr().out.splitlines() == [
        "Trial train_1a2b3_00000 started with lr=0.01",
        "Trial train_1a2b3_00000 reported at iteration 2 (1.2 s): loss=0.1, accuracy=0.9",
        "Trial train_1a2b3_00000 has checkpoint_000001 in /results/digits/train_1a2b3_00000",
        "Trial train_1a2b3_00000 ended at iteration 2 (1.2 s): loss=0.1, accuracy=0.9",
    ]


def test_what_is_said_of_a_trial_that_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A restart tells the checkpoint; an end without any result says so."""
    (lines,) = choose(1).callbacks
    checkpoint = SimpleNamespace(path="/results/digits/t/checkpoint_000004")
    about: dict[str, Any] = {"iteration": 1, "trials": []}
    lines.on_trial_start(trial=facade(checkpoint=checkpoint), **about)
    lines.on_trial_complete(trial=facade(), **about)
    assert capsys.readouterr().out.splitlines() == [
        "Trial train_1a2b3_00000 goes on from checkpoint_000004",
        "Trial train_1a2b3_00000 ended without a result",
    ]


class Recording(ProgressReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("setup", kwargs["total_samples"], kwargs["metric"], kwargs["mode"]))

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return done or len(trials) > 1

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        self.calls.append(("report", len(trials), done, *sys_info))


def test_a_users_reporter_shows_the_run(view: Any) -> None:
    """It is set up once, asked at each step, and told what the run uses."""
    reporter = Recording()
    display = choose(1, reporter=reporter, metric="loss", mode="min")
    assert type(display.surface) is Custom
    (calls,) = display.callbacks
    calls.setup(stop=None, num_samples=2, total_num_samples=4)
    calls.on_step_end(iteration=1, trials=[facade()])
    display.surface.update(view)
    calls.on_step_end(iteration=2, trials=[facade(), facade()])
    calls.on_experiment_end(trials=[facade(), facade()])
    used = ("Resources in use: 2/4 CPU", "Checkpoints: 12 committed (3.0 MiB), 1 on the way")
    assert reporter.calls == [
        ("setup", 4, "loss", "min"),
        ("report", 2, False, *used),
        ("report", 2, True, *used),
    ]


def test_nothing_heavy_is_imported_for_plain_lines() -> None:
    """Choosing lines loads neither rich nor IPython nor numpy."""
    code = (
        "import sys; from milepost.display.choice import choose; choose(1).surface.close();"
        "import milepost.display.reporters;"
        "print(sorted({'rich', 'IPython', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
