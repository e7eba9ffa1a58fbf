"""What ``Tuner.restore`` reads, asks for and refuses, before anything is changed."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.errors import ExperimentExistsError, ExperimentNotFoundError, JournalError
from milepost.journal import experiment as experiments
from milepost.journal.log import Journal
from milepost.tune.stopper import MaximumIterationStopper

Written = Callable[..., Any]


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


def other(config: dict[str, Any]) -> None:
    """Do nothing else."""


def contents(directory: Path) -> dict[str, int]:
    """All files with the time of their last change."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in sorted(directory.rglob("*"))
    }


# --- the signature --------------------------------------------------------------------------------


def test_the_signature_is_rays_with_two_more() -> None:
    """All of Ray's arguments with their order and defaults; ours are by name only."""
    parameters = list(inspect.signature(tune.Tuner.restore).parameters.values())
    assert [(p.name, p.default) for p in parameters[:8]] == [
        ("path", inspect.Parameter.empty),
        ("trainable", inspect.Parameter.empty),
        ("resume_unfinished", True),
        ("resume_errored", False),
        ("restart_errored", False),
        ("param_space", None),
        ("storage_filesystem", None),
        ("_resume_config", None),
    ]
    assert {p.name for p in parameters[8:]} == {"tune_config", "run_config"}
    assert {p.kind for p in parameters[8:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert list(inspect.signature(tune.Tuner.can_restore).parameters) == [
        "path",
        "storage_filesystem",
    ]


def test_restore_is_called_on_the_class(written: Written) -> None:
    """A Tuner at hand has no restore(), which would not go on with *it*."""
    path = written(train).close()
    tuner = tune.Tuner.restore(path, train)
    with pytest.raises(AttributeError, match=r"Tuner\.restore\(path, trainable\)"):
        tuner.restore  # noqa: B018 - reading it is the test
    assert not hasattr(tuner, "restore")
    assert tuner.can_restore(str(path))


def test_misspelt_arguments(written: Written) -> None:
    """They are answered with the closest."""
    path = written(train).close()
    for flag in ("resume_unfinished", "resume_errored", "restart_errored"):
        with pytest.raises(TypeError, match=f"Tuner.restore.{flag} must be True or False"):
            tune.Tuner.restore("anywhere", print, **{flag: "yes"})
    with pytest.raises(TypeError, match="Did you mean 'resume_errored'"):
        tune.Tuner.restore(path, train, resume_error=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="run_config must be a RunConfig"):
        tune.Tuner.restore(path, train, run_config={"verbose": 0})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="_resume_config must be a ResumeConfig"):
        tune.Tuner.restore(path, train, _resume_config="skip")  # type: ignore[arg-type]


# --- finding it -----------------------------------------------------------------------------------


def test_nothing_is_changed_by_restore(written: Written) -> None:
    """restore(), get_results() and can_restore() only read; also where they may not write."""
    run = written(train, {"lr": tune.uniform(0, 1)})
    run.trial({"lr": 0.5})
    path = run.close()
    before = contents(path.parent)
    for directory, _, _ in os.walk(path, topdown=False):
        os.chmod(directory, 0o500)
    try:
        assert tune.Tuner.can_restore(path)
        tuner = tune.Tuner.restore(path, train)
        assert [result.metrics["trial_id"] for result in tuner.get_results()] == ["t_00000"]
    finally:
        for directory, _, _ in os.walk(path):
            os.chmod(directory, 0o700)
    assert contents(path.parent) == before


@pytest.mark.parametrize("kind", ["relative", "uri", "home", "link", "slash"])
def test_ways_to_say_where_it_is(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Each is made absolute when restore() is called."""
    path = written(train).close()
    said: Any
    if kind == "relative":
        monkeypatch.chdir(path.parent)
        said = "exp"
    elif kind == "uri":
        said = f"file://{path}"
    elif kind == "home":
        monkeypatch.setenv("HOME", str(path.parent))
        said = "~/exp"
    elif kind == "link":
        said = tmp_path / "link"
        said.symlink_to(path)
    else:
        said = f"{path}/"
    assert tune.Tuner.can_restore(said)
    tuner = tune.Tuner.restore(said, train)
    monkeypatch.chdir("/")
    assert Path(tuner.get_results().experiment_path).samefile(path)


@pytest.mark.parametrize("how", ["moved", "renamed", "copied"])
def test_another_place(written: Written, tmp_path: Path, how: str) -> None:
    """Name and storage path are those of the directory as it is now."""
    path = written(train).close()
    new = {
        "moved": tmp_path / "elsewhere" / "exp",
        "renamed": path.parent / "renamed",
        "copied": tmp_path / "copies" / "copy",
    }[how]
    new.parent.mkdir(exist_ok=True)
    if how == "copied":
        shutil.copytree(path, new)
    else:
        path.rename(new)
    tuner = tune.Tuner.restore(new, train)
    assert tuner._experiment.path == str(new)
    assert tuner._experiment.run_config.name == new.name
    assert tuner._experiment.run_config.storage_path == str(new.parent)


def _empty(place: Path) -> Path:
    (place / "empty").mkdir(parents=True)
    return place / "empty"


def _file(place: Path) -> Path:
    place.mkdir()
    (place / "file").write_text("mine")
    return place / "file"


def _rays(place: Path) -> Path:
    place.mkdir()
    (place / "tuner.pkl").write_text("")
    return place


def _unrecorded(place: Path) -> Path:
    stored = experiments.create(str(place), name="exp", trainable="train")
    Journal.open(stored).close("failed")
    return place


def _storage(place: Path) -> Path:
    experiments.create(str(place / "b"), name="b", trainable="train")
    experiments.create(str(place / "a"), name="a", trainable="train")
    return place


def _trial(place: Path) -> Path:
    experiments.create(str(place), name="exp", trainable="train")
    return place / "train_0"


NOTHING_THERE = [
    (lambda place: place, "there is no directory"),
    (_empty, r"there is no experiment in .*experiment\.json"),
    (_file, "is a file"),
    (_rays, "was written by Ray"),
    (_unrecorded, r"nothing was recorded .*RunConfig\(name='exp', storage_path="),
    (_storage, "it holds the experiments a, b: give the path of one"),
]


@pytest.mark.parametrize(("make", "says"), NOTHING_THERE)
def test_nothing_to_restore(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Any, says: str
) -> None:
    """The error says what is there instead; can_restore() is False and logs the same."""
    path = make(tmp_path / "exp")
    with pytest.raises(ExperimentNotFoundError, match=says) as caught:
        tune.Tuner.restore(path, train)
    assert isinstance(caught.value, FileNotFoundError)
    with caplog.at_level(logging.INFO, "milepost.tune"):
        assert tune.Tuner.can_restore(path) is False
    assert str(caught.value) in caplog.text


def test_the_directory_of_a_trial(tmp_path: Path) -> None:
    """The error names the experiment above it."""
    path = _trial(tmp_path / "exp")
    path.mkdir()
    with pytest.raises(ExperimentNotFoundError, match=f"give .*directory, {tmp_path / 'exp'}$"):
        tune.Tuner.restore(path, train)


def test_a_damaged_journal(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """What is left of it counts, with a warning; a setup that is gone has to be given."""
    run = written(train, {"lr": 0.1}, tune_config=tune.TuneConfig(num_samples=4))
    run.trial({"lr": 0.1})
    path = run.close()
    (journal,) = (path / ".milepost" / "journal").iterdir()
    opened, planned, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([opened, planned.replace(b"num_samples", b"0123456789"), *rest]))
    assert tune.Tuner.can_restore(path)
    assert "00000001.jsonl" in caplog.text
    with pytest.raises(ValueError, match=r"not known any more.*Give param_space"):
        tune.Tuner.restore(path, train)
    again = tune.TuneConfig(num_samples=4)
    tuner = tune.Tuner.restore(path, train, param_space={"lr": 0.1}, tune_config=again)
    assert len(tuner.get_results()) == 1
    with pytest.raises(ExperimentExistsError):
        tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=str(path.parent)))


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_lost_identity(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """The journal tells it; a new run of that name is refused before anything is written."""
    run = written(train, {"lr": 0.1})
    run.trial({"lr": 0.1})
    path = run.close()
    identity = path / ".milepost" / "experiment.json"
    uuid = json.loads(identity.read_text())["uuid"]
    identity.unlink()
    before = files_of(path)
    with pytest.raises(ExperimentExistsError, match="exists already"):
        tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=str(path.parent)))
    assert tune.Tuner.can_restore(path)
    assert len(tune.ResultGrid(tune.ExperimentAnalysis(str(path)))) == 1
    assert files_of(path) == before
    assert "experiment.json is missing" in caplog.text
    grid = tune.Tuner.restore(path, train).fit()
    assert not grid.errors
    assert json.loads(identity.read_text())["uuid"] == uuid


def test_only_trials_are_left(tmp_path: Path) -> None:
    """Without .milepost a directory is no experiment, but no new one is begun among its trials."""
    path = tmp_path / "exp"
    (path / "train_0").mkdir(parents=True)
    (path / "train_0" / "params.json").write_text("{}")
    (path / "train_0" / "result.json").write_text('{"training_iteration": 1}\n')
    (path / "data").mkdir()
    before = files_of(path)
    with pytest.raises(ExperimentExistsError, match=r"holds trials of an earlier.*another RunCon"):
        tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=str(path.parent)))
    assert files_of(path) == before
    shutil.rmtree(path / "train_0")
    tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=str(path.parent)))


def test_a_journal_of_a_newer_version(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """It is not touched: restore() raises, can_restore() is False and says why."""
    run = written(train)
    path = run.close()
    identity = path / ".milepost" / "experiment.json"
    identity.write_text(identity.read_text().replace('"format":1', '"format":9'))
    with pytest.raises(JournalError, match="Use a newer milepost"):
        tune.Tuner.restore(path, train)
    with caplog.at_level(logging.INFO, "milepost.tune"):
        assert tune.Tuner.can_restore(path) is False
    assert "Use a newer milepost" in caplog.text


def test_storage_that_cannot_be_used() -> None:
    """An object store is an error of restore(), and nothing to restore."""
    with pytest.raises(ValueError, match="s3://"):
        tune.Tuner.restore("s3://bucket/exp", train)
    assert tune.Tuner.can_restore("s3://bucket/exp") is False


def test_a_tuner_that_never_ran_leaves_nothing(tmp_path: Path) -> None:
    """Unlike in Ray, there is nothing to restore before fit()."""
    tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path)))
    assert tune.Tuner.can_restore(tmp_path / "exp") is False


def test_a_live_experiment_is_told_of(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """restore() and get_results() work while it runs; the log names the holder."""
    run = written(train)
    run.trial({})
    tuner = tune.Tuner.restore(run.path, train)
    assert f"in use by process {os.getpid()} on host" in caplog.text
    assert len(tuner.get_results()) == 1
    caplog.clear()
    run.close()
    tune.Tuner.restore(run.path, train)
    assert "in use" not in caplog.text


# --- the trainable --------------------------------------------------------------------------------


def test_a_trainable_of_another_name(written: Written) -> None:
    """The error has both names and the way out, and the way out works."""
    path = written(train).close()
    with pytest.raises(ValueError, match=r"'train', and 'other' was given.*register_trainable"):
        tune.Tuner.restore(path, other)
    tune.register_trainable("train", other)
    assert tune.Tuner.restore(path, "train")._experiment.target.trainable is other


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_trainable(written: Written, nothing: Any) -> None:
    """It has to be given: the record holds no code."""
    path = written(train).close()
    with pytest.raises(tune.TuneError, match="need to provide a trainable"):
        tune.Tuner.restore(path, nothing)


def lines_of(path: Path, trainable: Any = train, **given: Any) -> str:
    restoration = tune.Tuner.restore(path, trainable, **given)._restoration
    assert restoration is not None
    return "\n".join(restoration.lines())


def test_changed_code_is_said_and_recorded(written: Written) -> None:
    """With the places of both; going on with it is allowed, and the next record has all digests."""
    from milepost.tune import setup
    from milepost.tune.fingerprint import code_of

    path = written(train).close()
    assert "The code" not in lines_of(path)

    def changed(config: dict[str, Any]) -> None:
        tune.report({"loss": 1})

    changed.__name__ = "train"
    said = lines_of(path, changed)
    assert f"The code of train has changed since the last run. What runs now is {__file__}:" in said
    tuner = tune.Tuner.restore(path, changed)
    assert tuner._restoration is not None
    codes = tuner._restoration.recorded.codes
    code = setup.describe(tuner._experiment, codes_before=codes).said["code"]
    assert code == {**code_of(changed), "before": [code_of(train)["digest"]]}


def test_code_of_another_python(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte code of two versions says nothing; that is said."""
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "9", "1"))
    path = written(train).close()
    monkeypatch.undo()
    assert "Python 3.9, and this is" in lines_of(path, _renamed(other))


def _renamed(function: Any) -> Any:
    def renamed(config: dict[str, Any]) -> Any:
        return function(config)

    renamed.__name__ = "train"
    return renamed


def test_a_function_that_has_become_a_class(written: Written) -> None:
    """That is said: its checkpoints may not fit."""
    path = written(train).close()
    cls = type("train", (tune.Trainable,), {"step": lambda self: {}})
    assert "train was a function and is a class now" in lines_of(path, cls)


# --- settings -------------------------------------------------------------------------------------


class Counting(tune.Callback):
    """Has a setting."""

    def __init__(self, limit: int = 1) -> None:
        self.limit = limit


def test_everything_is_as_it_was_recorded(written: Written) -> None:
    """Values, objects, functions and the search space."""
    path = written(
        train,
        {"lr": tune.loguniform(0.1, 1), "opt": {"a/b": tune.choice([1, 2]), "c": (1, 2)}},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=7, trial_name_creator=lambda trial: "name"
        ),
        run_config=tune.RunConfig(
            stop=MaximumIterationStopper(3),
            callbacks=[Counting(5)],
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            log_to_file=("a", "b"),
        ),
        resources_per_trial={"cpu": 2},
    ).close()
    tuner = tune.Tuner.restore(path, train)
    experiment = tuner._experiment
    assert (
        str(experiment.space)
        == "{'lr': loguniform(0.1, 1), 'opt': {'a/b': choice([1, 2]), 'c': (1, 2)}}"
    )
    assert experiment.tune_config.num_samples == 7
    assert (experiment.tune_config.metric, experiment.tune_config.mode) == ("loss", "min")
    assert experiment.tune_config.trial_name_creator(None) == "name"  # type: ignore[misc]
    assert isinstance(experiment.run_config.stop, MaximumIterationStopper)
    assert [c.limit for c in experiment.run_config.callbacks] == [5]  # type: ignore[union-attr, attr-defined]
    assert experiment.run_config.failure_config == tune.FailureConfig(max_failures=2)
    assert experiment.run_config.checkpoint_config == tune.CheckpointConfig(num_to_keep=1)
    assert experiment.run_config.log_to_file == ("a", "b")
    assert experiment.resources_per_trial == {"cpu": 2}
    said = lines_of(path)
    assert "anew" not in said
    assert "changed" not in said


def test_objects_that_share_something_still_do(written: Written) -> None:
    """A callback that has the scheduler in hand is given that scheduler."""

    class Watching(tune.Callback):
        """Looks at a scheduler."""

        def __init__(self, scheduler: Any) -> None:
            self.scheduler = scheduler

    scheduler = tune.schedulers.FIFOScheduler()
    path = written(
        train,
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(callbacks=[Watching(scheduler)]),
    ).close()
    experiment = tune.Tuner.restore(path, train)._experiment
    (callback,) = experiment.run_config.callbacks or []
    assert callback.scheduler is experiment.tune_config.scheduler  # type: ignore[attr-defined]


def test_settings_given_anew(written: Written) -> None:
    """They replace recorded ones, are told, and nothing else changes."""
    path = written(
        train,
        tune_config=tune.TuneConfig(num_samples=2, max_concurrent_trials=3),
        run_config=tune.RunConfig(stop={"loss": 1}, verbose=0),
    ).close()
    given = {
        "tune_config": tune.TuneConfig(num_samples=5),
        "run_config": tune.RunConfig(
            stop={"loss": 2}, failure_config=tune.FailureConfig(max_failures=9)
        ),
    }
    experiment = tune.Tuner.restore(path, train, **given)._experiment
    assert experiment.tune_config.num_samples == 5
    assert experiment.tune_config.max_concurrent_trials == 3
    assert experiment.run_config.stop == {"loss": 2}
    assert experiment.run_config.verbose == 0
    assert experiment.failure_config.max_failures == 9
    said = lines_of(path, **given)
    for line in ("num_samples: 2 -> 5", "stop: {'loss': 1} -> {'loss': 2}", "max_failures: 0 -> 9"):
        assert f"  {line}" in said


class Halving(tune.schedulers.TrialScheduler):
    """Has a setting."""

    def __init__(self, factor: int) -> None:
        self.factor = factor


@pytest.mark.parametrize(
    ("old", "new", "anew"),
    [
        ({"scheduler": Halving(2)}, {"scheduler": Halving(2)}, set()),
        ({"scheduler": Halving(2)}, {"scheduler": Halving(3)}, {"scheduler"}),
        ({"scheduler": Halving(2)}, {"scheduler": None}, {"scheduler"}),
        ({}, {"scheduler": "fifo"}, set()),
        ({}, {"search_alg": "random"}, set()),
        ({"search_alg": "random"}, {"search_alg": None}, set()),
    ],
)
def test_parts_that_start_anew(
    written: Written, old: dict[str, Any], new: dict[str, Any], anew: set[str]
) -> None:
    """A scheduler that is set up as the recorded one takes its state back, another one does not."""
    path = written(train, tune_config=tune.TuneConfig(**old)).close()
    tuner = tune.Tuner.restore(path, train, tune_config=tune.TuneConfig(**new))
    assert tuner._restoration is not None
    assert tuner._restoration.anew == anew


class Suggesting(tune.search.Searcher):
    """Learns."""

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"lr": 0.1}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Learn nothing."""


def test_a_searcher_and_its_space(written: Written) -> None:
    """One of the same class goes on, unless its space is another one."""
    space = {"lr": tune.uniform(0, 1)}
    path = written(train, space, tune_config=tune.TuneConfig(search_alg=Suggesting())).close()

    def anew(**given: Any) -> Any:
        restoration = tune.Tuner.restore(path, train, **given)._restoration
        assert restoration is not None
        return restoration.anew

    again = tune.TuneConfig(search_alg=Suggesting())
    assert anew() == set()
    assert anew(tune_config=again) == set()
    assert anew(tune_config=again, param_space=space) == set()
    assert anew(tune_config=again, param_space={"lr": tune.uniform(0, 2)}) == {"search"}
    assert anew(tune_config=tune.TuneConfig(search_alg=None)) == {"search"}


def test_resources_given_anew(written: Written) -> None:
    """Resources on the trainable replace those of the run."""
    path = written(train, resources_per_trial={"cpu": 4}).close()
    assert tune.Tuner.restore(path, train)._experiment.resources_per_trial == {"cpu": 4}

    def asking(config: dict[str, Any]) -> None:
        """Do nothing."""

    asking.__name__ = "train"
    tuner = tune.Tuner.restore(path, tune.with_resources(asking, {"cpu": 1}))
    assert tuner._experiment.resources_per_trial is None


# --- the search space -----------------------------------------------------------------------------


def test_a_changed_space_is_shown(written: Written) -> None:
    """Key by key; the same space is no change."""
    path = written(train, {"lr": tune.uniform(0, 1), "depth": 3}).close()
    assert "search space" not in lines_of(path, param_space={"depth": 3, "lr": tune.uniform(0, 1)})
    said = lines_of(path, param_space={"lr": tune.uniform(0, 2), "width": 64})
    assert said.splitlines()[1:] == [
        "The search space has changed. Trials that exist keep their configs:",
        "  - depth: 3",
        "  ~ lr: uniform(0, 1) -> uniform(0, 2)",
        "  + width: 64",
    ]


# --- what cannot be had ---------------------------------------------------------------------------


class Locked(tune.Callback):
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_what_could_not_be_stored_is_asked_for_by_name(written: Written) -> None:
    """One error names every field and key; giving them, or None, is enough."""
    lock = threading.Lock()
    space = {"model": {"init": tune.sample_from(lambda config: lock.locked())}, "lr": 1}
    path = written(train, space, run_config=tune.RunConfig(callbacks=[Locked()])).close()
    with pytest.raises(ValueError, match="has only the text") as caught:
        tune.Tuner.restore(path, train)
    said = str(caught.value)
    assert "callbacks, which was [<" in said
    assert "cannot pickle '_thread.lock' object" in said
    assert "give RunConfig(callbacks=...)" in said
    assert "model/init in the search space, which was sample_from(" in said
    for callbacks in (None, [Counting()]):
        run_config = tune.RunConfig(callbacks=callbacks)
        tuner = tune.Tuner.restore(path, train, param_space=space, run_config=run_config)
        assert tuner._experiment.run_config.callbacks == callbacks


MODULE = """
from milepost import tune

class Mine(tune.Callback):
    pass

class Size:
    def __init__(self, n): self.n = n
    def __repr__(self): return f"Size({self.n})"

class Box:
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's, as long as ``forget`` is not called."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "users_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    import users_module  # type: ignore[import-not-found]

    def forget() -> None:
        monkeypatch.undo()
        sys.modules.pop("users_module", None)

    users_module.forget = forget
    yield users_module
    sys.modules.pop("users_module", None)


def test_what_cannot_be_loaded_takes_nothing_else_with_it(written: Written, module: Any) -> None:
    """Only the objects of the module that is gone are asked for."""
    path = written(
        train,
        {"lr": tune.uniform(0, 1)},
        run_config=tune.RunConfig(callbacks=[module.Mine()], stop=MaximumIterationStopper(3)),
    ).close()
    module.forget()
    with pytest.raises(ValueError, match="No module named 'users_module'") as caught:
        tune.Tuner.restore(path, train)
    assert str(caught.value).count("\n  - ") == 1
    tuner = tune.Tuner.restore(path, train, run_config=tune.RunConfig(callbacks=None))
    assert isinstance(tuner._experiment.run_config.stop, MaximumIterationStopper)
    assert str(tuner._experiment.space["lr"]) == "uniform(0, 1)"


def test_values_of_trials_are_taken_from_the_space(written: Written, module: Any) -> None:
    """Of a constant, of the one choice that looks the same, and from inside of a choice."""
    sizes = [module.Size(1), module.Size(2)]
    space = {
        "data": {"size": module.Size(9)},
        "pick": tune.choice(sizes),
        "grid": tune.grid_search(sizes),
        "either": tune.choice([{"kind": "a", "size": module.Size(4)}, {"kind": "b"}]),
    }
    run = written(train, space)
    config = {
        "data": {"size": module.Size(9)},
        "pick": module.Size(2),
        "grid": module.Size(1),
        "either": {"kind": "a", "size": module.Size(4)},
    }
    run.trial(config)
    run.trial(config, "TERMINATED")
    path = run.close()
    module.forget()

    class Size:
        """The same under another name."""

        def __init__(self, n: int) -> None:
            self.n = n

        def __repr__(self) -> str:
            return f"Size({self.n})"

    new = [Size(1), Size(2)]
    again = {
        "data": {"size": Size(9)},
        "pick": tune.choice(new),
        "grid": tune.grid_search(new),
        "either": tune.choice([{"kind": "a", "size": Size(4)}, {"kind": "b"}]),
    }
    with pytest.raises(ValueError, match="in the search space"):
        tune.Tuner.restore(path, train)
    tuner = tune.Tuner.restore(path, train, param_space=again)
    assert tuner._restoration is not None
    supply = tuner._restoration.supply
    error = ImportError("gone")
    assert supply("t", "data/size", "Size(9)", error) is again["data"]["size"]  # type: ignore[index]
    assert supply("t", "pick", "Size(2)", error) is new[1]
    assert supply("t", "grid", "Size(1)", error) is new[0]
    assert supply("t", "either/size", "Size(4)", error).n == 4


def test_values_that_nobody_has(written: Written, module: Any) -> None:
    """The error names each key and trial that needs it; finished trials need nothing."""
    run = written(train, {"lr": 1})
    finished = run.trial({"box": module.Box()}, "TERMINATED")
    failed = run.trial({"box": module.Box()}, "ERROR")
    unfinished = run.trial({"deep": {"box": module.Box()}, "list": [module.Size(3)]}, "RUNNING")
    path = run.close()
    module.forget()
    with pytest.raises(ValueError, match="No module named 'users_module'") as caught:
        tune.Tuner.restore(path, train)
    said = str(caught.value)
    assert f"deep/box of trial {unfinished}, which was <users_module.Box object" in said
    assert f"list/0 of trial {unfinished}, which was Size(3)" in said
    assert finished not in said
    assert failed not in said
    with pytest.raises(ValueError, match=f"box of trial {failed}"):
        tune.Tuner.restore(path, train, resume_errored=True)


def test_large_arrays_that_are_gone(written: Written) -> None:
    """They lie beside the journal; a missing one is asked for like any value."""
    import numpy as np

    array = np.arange(10_000)
    run = written(train, {"lr": 1})
    unfinished = run.trial({"weights": array})
    path = run.close()
    tune.Tuner.restore(path, train)
    for stored in (path / ".milepost" / "objects").iterdir():
        stored.unlink()
    with pytest.raises(ValueError, match=f"weights of trial {unfinished}, which was array"):
        tune.Tuner.restore(path, train)
    tuner = tune.Tuner.restore(path, train, param_space={"lr": 1, "weights": array})
    assert tuner._restoration is not None
    assert tuner._restoration.supply("t", "weights", "array", KeyError()) is array


# --- what will be done ----------------------------------------------------------------------------


SKIPPED = (
    "1 failed: stay as they are (resume_errored=True goes on with them, "
    "restart_errored=True starts them again)"
)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {},
            [
                "2 finished: stay as they are",
                SKIPPED,
                "2 unfinished: start at their beginning, they have no checkpoints yet",
                "1 not started yet: start",
            ],
        ),
        (
            {"resume_unfinished": False, "restart_errored": True},
            [
                "2 finished: stay as they are",
                "1 failed: start again as new trials",
                "2 unfinished: end as they are",
                "1 not started yet: end without a start",
            ],
        ),
        (
            {"_resume_config": tune.ResumeConfig(finished="restart", errored="resume")},
            [
                "2 finished: start again as new trials",
                "1 failed: go on from their latest checkpoint",
                "2 unfinished: start at their beginning, they have no checkpoints yet",
                "1 not started yet: start",
            ],
        ),
    ],
)
def test_the_outlook(written: Written, given: dict[str, Any], said: list[str]) -> None:
    """It tells for each group of trials what will be done."""
    run = written(train)
    for status in ("TERMINATED", "ERROR", "TERMINATED", "RUNNING", "PAUSED"):
        run.trial({}, status)
    run.trial({}, started=False)
    path = run.close()
    first, *groups = lines_of(path, **given).splitlines()
    assert first == f"Going on with {path} (6 trials):"
    assert groups == [f"  {line}" for line in said]


class Ends(tune.Stopper):
    """Ends the run."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return True


FINISHED = "1 finished: stay as they are"
FINISHED_OTHERWISE = (
    "1 finished: stay as they are, whatever the new stop condition says "
    '(_resume_config=ResumeConfig(finished="resume") goes on with them)'
)
BY_BUDGET = (
    "2 cut short by the time budget: stay as they are (a larger time_budget_s goes on with them)"
)
BY_STOPPER = "1 cut short by the stop condition: stay as they are (another one goes on with them)"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, [FINISHED, BY_BUDGET, BY_STOPPER, "time budget: 9 of 5 s are used up"]),
        (
            {"tune_config": tune.TuneConfig(time_budget_s=9)},
            [FINISHED, BY_BUDGET, BY_STOPPER, "time budget: 9 of 9 s are used up"],
        ),
        (
            {"tune_config": tune.TuneConfig(time_budget_s=10)},
            [
                FINISHED,
                BY_STOPPER,
                "1 unfinished: start at their beginning, they have no checkpoints yet",
                "1 not started yet: start",
                "time budget: 9 of 10 s are used up",
            ],
        ),
        (
            {
                "tune_config": tune.TuneConfig(time_budget_s=None),
                "run_config": tune.RunConfig(stop=None),
            },
            [
                FINISHED_OTHERWISE,
                "2 unfinished: start at their beginning, they have no checkpoints yet",
                "1 not started yet: start",
            ],
        ),
        (
            {"_resume_config": tune.ResumeConfig(finished="resume")},
            [
                "1 finished: go on from their latest checkpoint",
                "2 cut short by the time budget: go on from their latest checkpoint",
                "1 cut short by the stop condition: go on from their latest checkpoint",
                "time budget: 9 of 5 s are used up",
            ],
        ),
    ],
)
def test_the_outlook_after_a_run_that_was_cut_short(
    written: Written, given: dict[str, Any], said: list[str]
) -> None:
    """What cut trials short is told, and what it takes for them to go on."""
    run = written(
        train,
        tune_config=tune.TuneConfig(time_budget_s=5),
        run_config=tune.RunConfig(stop=Ends()),
    )
    run.trial({}, "TERMINATED")
    run.trial({}, "TERMINATED", cut_by="budget")
    run.trial({}, "TERMINATED", cut_by="budget", started=False)
    run.trial({}, "TERMINATED", cut_by="stopper")
    groups = [line.strip() for line in lines_of(run.path, **given).splitlines()[1:]]
    assert groups[: len(said)] == said
