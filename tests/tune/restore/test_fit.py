"""Restored experiments that run: what goes on, what stays, and what may be different."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.errors import ExperimentExistsError, LeaseLostError

Written = Callable[..., Any]


def train(config: dict[str, Any]) -> None:
    """Count to ``steps`` with a checkpoint per step; leave a note of each step that is executed."""
    start = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as directory:
            start = json.loads(Path(directory, "state.json").read_text())
    for step in range(start + 1, config.get("steps", 4) + 1):
        with open("executed", "a") as file:
            file.write(f"{step}\n")
        if step == config.get("fails_at") and not Path(os.environ["REPAIRED"]).exists():
            raise ValueError("broken")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "state.json").write_text(json.dumps(step))
            tune.report(
                {"step": step, "x": config.get("x")},
                checkpoint=tune.Checkpoint.from_directory(directory),
            )


class Model(tune.Trainable):
    """Counts."""

    def setup(self, config: dict[str, Any]) -> None:
        self.step_number = 0

    def step(self) -> dict[str, Any]:
        self.step_number += 1
        return {"step": self.step_number}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"step": self.step_number}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.step_number = checkpoint["step"]


class Cut(tune.Callback):
    """Interrupts the run after some results, as Ctrl-C would: the trial stops at its next one."""

    def __init__(self, results: int) -> None:
        self.left = results

    def on_trial_result(self, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says that trials fail no more."""
    path = tmp_path / "repaired"
    monkeypatch.setenv("REPAIRED", str(path))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def fit(
    store: Path, trainable: Any = train, space: Any = None, cut: int = 0, **options: Any
) -> tune.ResultGrid:
    """Run an experiment named exp, one trial at a time; press Ctrl-C after so many results."""
    run = {"callbacks": [Cut(cut)] if cut else None, "verbose": 0, **options.pop("run", {})}
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(**{"max_concurrent_trials": 1, **options}),
        run_config=tune.RunConfig(name="exp", storage_path=str(store), **run),
    ).fit()


def restore(path: Path, trainable: Any = train, **options: Any) -> tune.Tuner:
    """Restore without what cut the run."""
    run = options.pop("run_config", tune.RunConfig())
    run.callbacks = run.callbacks or None
    return tune.Tuner.restore(path, trainable, run_config=run, **options)


def executed(result: tune.Result) -> list[int]:
    return [int(line) for line in Path(result.path, "executed").read_text().split()]


def iterations(grid: tune.ResultGrid) -> list[Any]:
    return [(result.metrics or {}).get("training_iteration") for result in grid]


def logged(result: tune.Result) -> list[int]:
    lines = Path(result.path, "result.json").read_text().splitlines()
    return [json.loads(line)["training_iteration"] for line in lines]


def test_a_run_goes_on(store: Path) -> None:
    """Finished trials stay, the cut one goes on from its checkpoint, the rest starts."""
    space = {"x": tune.grid_search([1, 2, 3])}
    cut = fit(store, space=space, cut=5)
    before = iterations(cut)
    assert before in ([4, 2], [4, 3]), "it may have said more before the signal was heard"
    tuner = restore(store / "exp")
    assert iterations(tuner.get_results()) == before
    grid = tuner.fit()
    assert iterations(grid) == [4, 4, 4]
    assert [result.config["x"] for result in grid] == [1, 2, 3]  # type: ignore[index]
    assert [result.path for result in grid][:2] == [result.path for result in cut]
    for result in grid:
        assert executed(result) == logged(result) == [1, 2, 3, 4]
    assert grid.num_terminated == 3
    assert iterations(tuner.get_results()) == [4, 4, 4]
    again = tuner.fit()
    assert iterations(again) == [4, 4, 4]
    assert executed(again[1]) == [1, 2, 3, 4]
    fresh = tune.ResultGrid(tune.ExperimentAnalysis(store / "exp"))
    assert iterations(fresh) == [4, 4, 4]


def test_a_class_goes_on(store: Path) -> None:
    """From a checkpoint that was made for the interruption."""
    cut = fit(store, Model, {"x": tune.grid_search([1, 2])}, cut=6, run={"stop": {"step": 5}})
    grid = restore(store / "exp", Model).fit()
    assert iterations(grid) == [5, 5]
    assert logged(grid[0]) == [1, 2, 3, 4, 5]
    assert grid[0].path == cut[0].path
    assert all(result.checkpoint is not None for result in grid)  # as a Tuner's class, at the end


@pytest.mark.chaos
def test_random_samples_are_those_of_the_uncut_run(store: Path) -> None:
    """The sequence of suggestions does not depend on where the run was cut."""
    from milepost.tune.search import BasicVariantGenerator

    space = {"x": tune.uniform(0, 1), "steps": 2}
    search = {"num_samples": 5}

    def drawn(grid: tune.ResultGrid) -> list[float]:
        return [result.config["x"] for result in grid]  # type: ignore[index]

    uncut = fit(
        store / "uncut", space=space, search_alg=BasicVariantGenerator(random_state=7), **search
    )
    cut = fit(store, space=space, cut=3, search_alg=BasicVariantGenerator(random_state=7), **search)
    assert 0 < len(cut) < 5 or iterations(cut)[-1] is None
    assert drawn(restore(store / "exp").fit()) == drawn(uncut)


@pytest.mark.chaos
def test_how_to_go_on_is_said(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After an interruption, with one line that can be pasted as it is."""
    fit(store, space={"x": 1}, cut=2)
    (line,) = re.findall(r"^ +(tune\.Tuner\.restore\(.*)$", caplog.text, re.MULTILINE)
    assert line == f"tune.Tuner.restore('{store / 'exp'}', train).fit()"
    grid = eval(line)
    assert iterations(grid) == [4]


@pytest.mark.chaos
def test_what_will_be_done_is_said(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, before anything starts; verbose=0 says nothing."""
    fit(store, space={"x": tune.grid_search([1, 2])}, cut=5)
    capsys.readouterr()
    restore(store / "exp", run_config=tune.RunConfig(verbose=1)).fit()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Going on with {store / 'exp'} (2 trials):"
    assert lines[1:3] == [
        "  1 finished: stay as they are",
        "  1 unfinished: go on from their latest checkpoint",
    ]
    restore(store / "exp", run_config=tune.RunConfig(verbose=0)).fit()
    assert capsys.readouterr().out == ""


@pytest.mark.chaos
def test_unfinished_trials_can_be_left(store: Path) -> None:
    """They end as they are, and stay ended."""
    fit(store, space={"x": tune.grid_search([1, 2])}, cut=5)
    grid = restore(store / "exp", resume_unfinished=False).fit()
    assert iterations(grid) == [4, 2]
    assert grid.num_terminated == 2
    assert iterations(restore(store / "exp").fit()) == [4, 2]


FAILING = {"x": tune.grid_search([1, 2]), "fails_at": 2}


@pytest.mark.chaos
def test_failed_trials_stay_by_default(store: Path) -> None:
    """With their errors in the results."""
    fit(store, space=FAILING)
    grid = restore(store / "exp").fit()
    assert grid.num_errors == 2
    assert isinstance(grid.errors[0], ValueError)
    assert [executed(result) for result in grid] == [[1, 2], [1, 2]]


@pytest.mark.chaos
def test_failed_trials_go_on(store: Path, repaired: Path) -> None:
    """From their checkpoint, under their id, in their directory."""
    failed = fit(store, space=FAILING)
    repaired.touch()
    grid = restore(store / "exp", resume_errored=True).fit()
    assert grid.num_errors == 0
    assert [result.path for result in grid] == [result.path for result in failed]
    for result in grid:
        assert result.error is None
        assert executed(result) == [1, 2, 2, 3, 4]
        assert logged(result) == [1, 2, 3, 4]


@pytest.mark.chaos
def test_failed_trials_start_again(store: Path, repaired: Path) -> None:
    """As new trials of the same configs, whose checkpoints count from 0; the old ones stay."""
    failed = fit(store, space=FAILING)
    repaired.touch()
    grid = restore(store / "exp", restart_errored=True).fit()
    assert len(grid) == 2
    assert grid.num_errors == 0
    assert [r.config for r in grid] == [r.config for r in failed]
    assert not {r.path for r in grid} & {r.path for r in failed}
    for new, old in zip(grid, failed, strict=True):
        assert executed(new) == [1, 2, 3, 4]
        assert (Path(new.path) / "checkpoint_000000").is_dir()
        assert executed(old) == [1, 2]
    assert len(tune.ExperimentAnalysis(store / "exp")) == 2
    assert iterations(restore(store / "exp", restart_errored=True).fit()) == [4, 4]


@pytest.mark.chaos
def test_more_retries(store: Path, repaired: Path) -> None:
    """The count of failures is kept, and max_failures may be raised."""
    fit(store, space={"fails_at": 2}, run={"failure_config": tune.FailureConfig(max_failures=1)})
    path = store / "exp"
    grid = restore(path, resume_errored=True).fit()
    assert grid.num_errors == 1  # no failure was left to it
    again = tune.RunConfig(failure_config=tune.FailureConfig(max_failures=4))
    grid = restore(path, resume_errored=True, run_config=again).fit()
    assert grid.num_errors == 1
    failures = Path(grid[0].path, "error.txt").read_text()
    assert failures.count("Failure # ") == 5
    assert "Failure # 5" in failures


def test_more_samples(store: Path) -> None:
    """A finished experiment gets further trials; those that exist stay."""
    space = {"x": tune.uniform(0, 1)}
    first = fit(store, space=space, num_samples=2)
    more = tune.TuneConfig(num_samples=4)
    grid = restore(store / "exp", tune_config=more).fit()
    assert len(grid) == 4
    assert [r.path for r in grid][:2] == [r.path for r in first]
    assert len({r.config["x"] for r in grid}) == 4  # type: ignore[index]
    assert len(restore(store / "exp").fit()) == 4  # what was set is recorded


@pytest.mark.chaos
def test_another_stop_condition(store: Path) -> None:
    """It counts for trials that go on and those to come."""
    space = {"x": tune.grid_search([1, 2, 3]), "steps": 100}
    fit(store, space=space, cut=4, run={"stop": {"step": 3}})
    grid = restore(store / "exp", run_config=tune.RunConfig(stop={"step": 5})).fit()
    assert iterations(grid) == [3, 5, 5]


@pytest.mark.chaos
def test_another_search_space(store: Path) -> None:
    """New trials are drawn from it; trials that exist keep their configs."""
    fit(store, space={"x": tune.uniform(0, 1)}, num_samples=2, cut=5)
    space = {"x": tune.uniform(10, 11), "y": 1}
    more = tune.TuneConfig(num_samples=4)
    grid = restore(store / "exp", param_space=space, tune_config=more).fit()
    configs = [result.config or {} for result in grid]
    assert [config["x"] > 5 for config in configs] == [False, False, True, True]
    assert [config.get("y") for config in configs] == [None, None, 1, 1]


@pytest.mark.parametrize("cut", [0, 3])
@pytest.mark.always("3")
@pytest.mark.chaos
def test_a_longer_grid(store: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its further values run, whether the run had ended or had proposed all it had; totals fit."""
    fit(store, space={"x": tune.grid_search([1, 2]), "steps": 2}, cut=cut)
    shown = tune.RunConfig(verbose=1)
    longer = {"x": tune.grid_search([1, 2, 3]), "steps": 2}
    grid = restore(store / "exp", param_space=longer, run_config=shown).fit()
    assert [result.config["x"] for result in grid] == [1, 2, 3]  # type: ignore[index]
    assert iterations(grid) == [2, 2, 2]
    said = capsys.readouterr().out
    assert "3 of 3 trials ended" in said
    assert "no new ones" not in said
    shorter = {"x": tune.grid_search([5]), "steps": 2}
    assert len(restore(store / "exp", param_space=shorter, run_config=shown).fit()) == 3
    said = capsys.readouterr().out
    assert "3 of 3 trials ended" in said
    assert "It has 1 trial in all, so there are no new ones; a larger num_samples" in said


@pytest.mark.chaos
def test_other_code(store: Path) -> None:
    """The trainable that is given runs."""
    fit(store, space={"x": tune.grid_search([1, 2])}, cut=5)

    def changed(config: dict[str, Any]) -> None:
        train({**config, "steps": 5})

    changed.__name__ = "train"
    assert iterations(restore(store / "exp", changed).fit()) == [4, 5]


@pytest.mark.chaos
def test_other_resources(store: Path) -> None:
    """They count for trials that go on, too."""
    fit(store, space={"x": tune.grid_search([1, 2])}, cut=2)

    def asking(config: dict[str, Any]) -> None:
        tune.report({"cpus": tune.get_context().get_trial_resources().head_cpus})

    asking.__name__ = "train"
    grid = restore(store / "exp", tune.with_resources(asking, {"cpu": 2})).fit()
    assert [result.metrics["cpus"] for result in grid] == [2, 2]  # type: ignore[index]


@pytest.mark.parametrize("how", ["moved", "copied"])
@pytest.mark.always("moved")
def test_another_directory(store: Path, tmp_path: Path, how: str) -> None:
    """All goes on where it is now; an original stays as it was, and can go on by itself."""
    fit(store, space={"x": tune.grid_search([1, 2])}, cut=5)
    here = tmp_path / "elsewhere" / "other name"
    here.parent.mkdir()
    if how == "moved":
        (store / "exp").rename(here)
    else:
        shutil.copytree(store / "exp", here)
    grid = restore(here).fit()
    assert iterations(grid) == [4, 4]
    assert grid.experiment_path == str(here)
    for result in grid:
        assert Path(result.path).parent == here
        assert result.checkpoint is not None
        assert Path(result.checkpoint.path).parent == Path(result.path)
    if how == "moved":
        assert not (store / "exp").exists()
    else:
        assert iterations(tune.ResultGrid(tune.ExperimentAnalysis(store / "exp"))) == [4, 2]
        assert iterations(restore(store / "exp").fit()) == [4, 4]


class Remembering(tune.Callback):
    """Counts results over restores."""

    def __init__(self) -> None:
        self.seen = 0
        self.calls: list[str] = []

    def setup(self, **info: Any) -> None:
        self.calls.append(f"setup after {self.seen}")

    def on_trial_result(self, **info: Any) -> None:
        self.seen += 1

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        Path(trials[0].path).parent.joinpath("seen").write_text(json.dumps([self.seen, self.calls]))

    def get_state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


@pytest.mark.chaos
def test_callbacks_remember(store: Path) -> None:
    """The recorded callback takes back its state before it is set up."""
    fit(
        store,
        space={"x": tune.grid_search([1, 2])},
        run={"callbacks": [Remembering(), Cut(5)]},
    )
    assert json.loads((store / "exp" / "seen").read_text()) == [6, ["setup after 0"]]
    tune.Tuner.restore(store / "exp", train).fit()
    assert json.loads((store / "exp" / "seen").read_text()) == [8, ["setup after 6"]]


@pytest.mark.chaos
def test_values_that_cannot_be_loaded_are_supplied(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial goes on with the value that param_space has at its key."""
    import sys

    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sizes.py").write_text(
        "class Size:\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __repr__(self): return f'Size({self.n})'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    import sizes  # type: ignore[import-not-found]

    def train(config: dict[str, Any]) -> None:
        for step in range(1, 4):
            tune.report({"step": step, "n": config["model"]["size"].n})

    fit(store, train, {"model": {"size": tune.grid_search([sizes.Size(1), sizes.Size(2)])}}, cut=4)
    monkeypatch.undo()
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    del sys.modules["sizes"]

    class Size(sizes.Size):  # type: ignore[misc, name-defined]
        """The same, and known to this test alone."""

    with pytest.raises(ValueError, match=r"model/size"):
        restore(store / "exp", train)
    space = {"model": {"size": tune.grid_search([Size(1), Size(2)])}}
    grid = restore(store / "exp", train, param_space=space).fit()
    assert [result.metrics["n"] for result in grid] == [1, 2]  # type: ignore[index]
    assert grid.num_errors == 0


def test_a_time_budget_is_used_up_once(store: Path) -> None:
    """What earlier runs have spent is spent; a larger total goes on."""

    def train(config: dict[str, Any]) -> None:
        while True:
            tune.report({"step": 1})

    fit(store, train, time_budget_s=1)
    more = tune.Tuner.restore(store / "exp", train, resume_errored=True)
    before = iterations(more.get_results())
    assert iterations(more.fit()) == before


class ThirdResult(tune.Stopper):
    """Ends the run at its third result."""

    def __init__(self) -> None:
        self.results = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.results += 1
        return False

    def stop_all(self) -> bool:
        return self.results >= 3


@pytest.mark.parametrize("by", ["budget", "stopper"])
@pytest.mark.always("stopper")
def test_trials_that_were_cut_short_with_their_run(store: Path, by: str) -> None:
    """They stay ended under what cut them short, and go on from their checkpoints without it."""

    def hesitant(config: dict[str, Any]) -> None:
        if config["x"] == 1 and not Path("executed").exists():
            train({**config, "steps": 1})
            while True:
                time.sleep(0.02)
                tune.report({"step": 1})
        train(config)

    space = {"x": tune.grid_search([1, 2])}
    if by == "budget":
        cut = fit(store, hesitant, space, time_budget_s=4)
        lifted: dict[str, Any] = {"tune_config": tune.TuneConfig(time_budget_s=600)}
    else:
        cut = fit(store, hesitant, space, run={"stop": ThirdResult()})
        lifted = {"run_config": tune.RunConfig(stop=None)}
    before = iterations(cut)
    assert len(before) == 1
    assert iterations(restore(store / "exp", hesitant).fit())[:1] == before
    grid = restore(store / "exp", hesitant, **lifted).fit()
    assert [result.metrics["step"] for result in grid] == [4, 4]  # type: ignore[index]
    if before[0]:  # it had come to its first checkpoint before the time was up
        assert executed(grid[0]) == [1, 2, 3, 4]
    assert grid[0].path == cut[0].path
    after = iterations(grid)
    assert iterations(restore(store / "exp", hesitant).fit()) == after


@pytest.mark.chaos
def test_a_second_driver_is_told_who_runs(written: Written, tmp_path: Path) -> None:
    """fit() on a live experiment raises with the holder, and changes nothing."""
    run = written(train, {"x": 1})
    run.trial({"x": 1})
    tuner = tune.Tuner.restore(run.path, train)
    before = sorted(p.name for p in (run.path / ".milepost" / "journal").iterdir())
    pattern = rf"in use by process {os.getpid()} on host {os.uname().nodename} since \d{{4}}-"
    with pytest.raises(LeaseLostError, match=pattern):
        tuner.fit()
    assert sorted(p.name for p in (run.path / ".milepost" / "journal").iterdir()) == before
    run.close()
    assert iterations(tuner.fit()) == [4]


@pytest.mark.chaos
def test_an_experiment_is_never_overwritten(store: Path) -> None:
    """A new Tuner of the same name names both ways out."""
    fit(store, space={"x": 1})
    path = re.escape(str(store / "exp"))
    with pytest.raises(ExperimentExistsError, match=rf"Tuner\.restore\('{path}', .*another"):
        fit(store, space={"x": 1})


@pytest.mark.chaos
def test_a_run_that_died_while_it_started(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to restore, and the name is free."""
    from milepost.journal import experiment as experiments
    from milepost.journal.log import Journal

    stored = experiments.create(str(store / "exp"), name="exp", trainable="train")
    Journal.open(stored).close("failed")
    with caplog.at_level(logging.INFO, "milepost.tune"):
        assert not tune.Tuner.can_restore(store / "exp")
    assert iterations(fit(store, space={"x": 1})) == [4]
