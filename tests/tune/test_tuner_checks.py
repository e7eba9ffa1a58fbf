"""What ``Tuner(...)`` refuses, before any trial starts and with nothing left on disk."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost import tune
from milepost.errors import ExperimentExistsError, StorageError
from milepost.journal import experiment as experiments
from milepost.journal import records
from milepost.journal.log import Journal


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


def make(tmp_path: Path, trainable: Any = train, **run: Any) -> tune.Tuner:
    run.setdefault("storage_path", str(tmp_path / "store"))
    return tune.Tuner(trainable, run_config=tune.RunConfig(**run))


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_no_trainable(nothing: Any) -> None:
    """A missing trainable is a TuneError that says what is expected."""
    with pytest.raises(tune.TuneError, match="need to provide a trainable"):
        tune.Tuner(nothing)


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    """A name that nobody registered is named."""
    with pytest.raises(tune.TuneError, match="no_such_trainable"):
        make(tmp_path, "no_such_trainable")


@pytest.mark.parametrize("wrong", [7, object(), type("Plain", (), {})])
def test_what_cannot_be_tuned_is_a_type_error(tmp_path: Path, wrong: Any) -> None:
    """Neither a function nor a Trainable class: TypeError."""
    with pytest.raises(TypeError, match=r"Trainable"):
        make(tmp_path, wrong)


def needs_two(config: Any, data: Any) -> None:
    """Take one argument too many."""


def takes_none() -> None:
    """Take no argument."""


@pytest.mark.parametrize(
    ("function", "advice"),
    [(needs_two, "data"), (takes_none, "first argument for the config")],
)
def test_the_signature_must_take_one_argument(
    tmp_path: Path, function: Callable[..., None], advice: str
) -> None:
    """A function that cannot be called with a config alone is a ValueError that says how to."""
    with pytest.raises(ValueError, match=advice):
        make(tmp_path, function)
    make(tmp_path, functools.partial(needs_two, data=1))


def test_unpicklable_captures_are_named(tmp_path: Path) -> None:
    """The TypeError names the captured variables that are to blame, also inside objects."""
    gate = threading.Lock()
    settings = {"deep": {"pipe": threading.Event()}}
    fine = [1, 2, 3]

    def guilty(config: dict[str, Any]) -> Any:
        return gate, settings, fine

    with pytest.raises(TypeError) as caught:
        make(tmp_path, guilty)
    message = str(caught.value)
    assert "variable 'gate' captured by guilty" in message
    assert "variable 'settings' captured by guilty -> ['deep'] -> ['pipe']" in message
    assert "fine" not in message
    with pytest.raises(TypeError, match="partial argument 'gate'"):
        make(tmp_path, functools.partial(needs_two, data=0, gate=gate))  # type: ignore[call-arg]


def test_unpicklable_methods_and_objects_are_named(tmp_path: Path) -> None:
    """Callable objects and bound methods that hold a lock say which attribute holds it."""

    class Model:
        def __init__(self) -> None:
            self.gate = threading.Lock()

        def __call__(self, config: dict[str, Any]) -> None:
            """Train."""

    with pytest.raises(TypeError, match=r"attribute \.gate"):
        make(tmp_path, Model())
    with pytest.raises(TypeError, match=r"the method's object -> attribute \.gate"):
        make(tmp_path, Model().__call__)


@pytest.mark.parametrize("space", [[1], 3, "lr", {"lr"}])
def test_param_space_must_be_a_dict(space: Any) -> None:
    """Anything but a dict (or something with to_dict) is a ValueError with the value."""
    with pytest.raises(ValueError, match="param_space must be a dict, got"):
        tune.Tuner(train, param_space=space)


def test_param_space_must_be_picklable() -> None:
    """An entry that no worker can be sent is named with its place in the space."""
    with pytest.raises(TypeError, match=r"param_space .*\n.*\['data'\] -> \['gate'\]: _thread"):
        tune.Tuner(train, param_space={"lr": 1, "data": {"gate": threading.Lock()}})


def test_functions_of_the_space_stay_in_the_driver(tmp_path: Path) -> None:
    """sample_from is called here, so what it refers to need not be picklable."""
    gate = threading.Lock()
    tune.Tuner(
        train,
        param_space={"x": [{"y": tune.sample_from(lambda config: gate.locked())}]},
        run_config=tune.RunConfig(storage_path=str(tmp_path)),
    )


def test_param_space_may_have_to_dict(tmp_path: Path) -> None:
    """Config objects with to_dict() are taken."""

    class Space:
        def to_dict(self) -> dict[str, Any]:
            return {"lr": 1}

    tuner = tune.Tuner(
        train,
        param_space=Space(),  # type: ignore[arg-type]
        run_config=tune.RunConfig(storage_path=str(tmp_path)),
    )
    assert tuner._experiment.space == {"lr": 1}


def test_configs_of_the_wrong_kind(tmp_path: Path) -> None:
    """A dict or the other config in place of a config is a TypeError that says what to write."""
    with pytest.raises(TypeError, match=r"tune_config must be a TuneConfig.*TuneConfig\(\*\*"):
        tune.Tuner(train, tune_config={"num_samples": 2})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="run_config must be a RunConfig"):
        tune.Tuner(train, run_config=tune.TuneConfig())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Did you mean 'num_samples'"):
        tune.TuneConfig(num_sample=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("option", [{"checkpoint_frequency": 3}, {"checkpoint_at_end": True}])
def test_functions_decide_themselves_when_to_save(tmp_path: Path, option: dict[str, Any]) -> None:
    """Options of the class API on a function are a ValueError that says what to do instead."""
    with pytest.raises(ValueError, match=r"function trainable 'train'.*tune\.report"):
        make(tmp_path, checkpoint_config=tune.CheckpointConfig(**option))
    make(tmp_path, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False))


def test_a_file_in_the_way_of_storage(tmp_path: Path) -> None:
    """A storage path that is a file, or lies below one, is a StorageError that names the file."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(StorageError, match=r"file is a file") as caught:
            make(tmp_path, storage_path=str(path))
        assert isinstance(caught.value, OSError)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_in_the_way_of_the_experiment(tmp_path: Path) -> None:
    """A file with the experiment's name is left alone and reported."""
    (tmp_path / "exp").write_text("mine")
    with pytest.raises(StorageError, match="a file of that name is in the way"):
        make(tmp_path, storage_path=str(tmp_path), name="exp")
    assert (tmp_path / "exp").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_storage_without_permission(tmp_path: Path) -> None:
    """A directory that may not be written is a StorageError that names it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for path in (closed, closed / "below"):
        with pytest.raises(StorageError, match="may not write to"):
            make(tmp_path, storage_path=str(path))


def test_read_only_storage(tmp_path: Path) -> None:
    """A read-only file system is a StorageError before any trial starts."""
    point = tmp_path / "mounted"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(point)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        for path in (point, point / "below"):
            with pytest.raises(StorageError, match="mounted read-only"):
                make(tmp_path, storage_path=str(path))
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_full_storage(tmp_path: Path) -> None:
    """A file system without room is a StorageError before any trial starts."""
    point = tmp_path / "mounted"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(point)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        (point / "filler").write_bytes(b"x" * (64 << 10))
        with pytest.raises(StorageError, match="no space left"):
            make(tmp_path, storage_path=str(point))
        assert os.listdir(point) == ["filler"]
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    """Making a Tuner creates the storage path and nothing in it."""
    make(tmp_path, storage_path=str(tmp_path / "a" / "b"), name="exp")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_name_in_use_by_another_experiment(tmp_path: Path) -> None:
    """A taken name is an ExperimentExistsError that says what can be done; nothing is changed."""
    stored = experiments.create(str(tmp_path / "exp"), name="exp", trainable="other")
    journal = Journal.open(stored)
    journal.append(records.Planned(at=1.0, setup=msgspec.Raw(b"{}")))
    journal.close("finished")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(ExperimentExistsError, match=r"Tuner\.restore.* another .*name") as caught:
        make(tmp_path, storage_path=str(tmp_path), name="exp")
    assert isinstance(caught.value, tune.TuneError)
    assert isinstance(caught.value, FileExistsError)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_probes_of_killed_runs_are_removed(tmp_path: Path) -> None:
    """What a run left that was killed while it checked the storage goes with the next check."""
    code = (
        "import os, sys; from milepost.storage import names; print(names.temporary(*sys.argv[1:]))"
    )
    label = f"probe-{os.uname().nodename}"
    left = subprocess.check_output([sys.executable, "-c", code, str(tmp_path), label], text=True)
    Path(left.strip()).touch()
    (tmp_path / ".milepost-tmp-probe-another.host-0123456789ab.1").touch()
    make(tmp_path, storage_path=str(tmp_path), name="exp")
    assert [path.name for path in tmp_path.iterdir()] == [
        ".milepost-tmp-probe-another.host-0123456789ab.1"
    ]


def test_remote_storage_is_refused_by_name(tmp_path: Path) -> None:
    """A URI of an object store says that this version cannot use it."""
    with pytest.raises(ValueError, match="s3://"):
        make(tmp_path, storage_path="s3://bucket/results")


def test_removed_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no longer has an effect raises, as in Ray."""
    monkeypatch.setenv("TUNE_RESULT_DIR", "/somewhere")
    with pytest.raises(DeprecationWarning, match="TUNE_RESULT_DIR"):
        make(tmp_path)


def test_no_results_before_fit(tmp_path: Path) -> None:
    """get_results() before fit() is a RuntimeError."""
    with pytest.raises(RuntimeError, match=r"call Tuner\.fit\(\) first"):
        make(tmp_path).get_results()


def test_the_users_run_config_is_not_changed(tmp_path: Path) -> None:
    """The Tuner works on a copy of the run config."""
    config = tune.RunConfig(storage_path=str(tmp_path))
    tuner = tune.Tuner(train, run_config=config)
    assert config.name is None
    assert tuner._experiment.run_config is not config


def test_relative_storage_is_resolved_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative storage path belongs to the directory where the config was written."""
    monkeypatch.chdir(tmp_path)
    tuner = make(tmp_path, storage_path="results")
    monkeypatch.chdir("/")
    assert tuner._experiment.storage_path == str(tmp_path / "results")


def test_importing_and_constructing_loads_nothing_heavy(tmp_path: Path) -> None:
    """A Tuner is made without numpy, pandas, torch, rich, psutil or tensorboardX."""
    code = (
        "import sys\n"
        "from milepost import tune\n"
        "def train(config): pass\n"
        f"run = tune.RunConfig(storage_path={str(tmp_path)!r})\n"
        "tune.Tuner(train, param_space={'lr': tune.uniform(0, 1)}, run_config=run)\n"
        "heavy = ('numpy', 'pandas', 'torch', 'rich', 'psutil', 'tensorboardX', 'pyarrow')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout == "[]\n", out.stderr
