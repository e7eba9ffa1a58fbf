"""The config dataclasses: fields, defaults, and errors at the line that wrote a wrong value."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from milepost.api.configs import (
    CheckpointConfig,
    FailureConfig,
    ResumeConfig,
    ResumeType,
    RunConfig,
    SyncConfig,
    TuneConfig,
)
from milepost.tune.stopper import FunctionStopper, MaximumIterationStopper, NoopStopper

FIELDS = {
    TuneConfig: {
        "mode": None,
        "metric": None,
        "search_alg": None,
        "scheduler": None,
        "num_samples": 1,
        "max_concurrent_trials": None,
        "time_budget_s": None,
        "reuse_actors": False,
        "trial_name_creator": None,
        "trial_dirname_creator": None,
        "chdir_to_trial_dir": "DEPRECATED",
    },
    RunConfig: {
        "name": None,
        "storage_path": None,
        "storage_filesystem": None,
        "failure_config": None,
        "checkpoint_config": None,
        "sync_config": None,
        "verbose": None,
        "stop": None,
        "callbacks": None,
        "progress_reporter": None,
        "log_to_file": False,
        "local_dir": None,
    },
    CheckpointConfig: {
        "num_to_keep": None,
        "checkpoint_score_attribute": None,
        "checkpoint_score_order": "max",
        "checkpoint_frequency": 0,
        "checkpoint_at_end": None,
        "_checkpoint_keep_all_ranks": "DEPRECATED",
        "_checkpoint_upload_from_workers": "DEPRECATED",
    },
    FailureConfig: {"max_failures": 0, "fail_fast": False, "trial_timeout_s": None},
    SyncConfig: {
        "sync_period": 300,
        "sync_timeout": 1800,
        "sync_artifacts": False,
        "sync_artifacts_on_checkpoint": True,
    },
    ResumeConfig: {
        "finished": ResumeType.SKIP,
        "unfinished": ResumeType.RESUME,
        "errored": ResumeType.SKIP,
    },
}


@pytest.mark.parametrize(("kind", "fields"), FIELDS.items())
def test_signature(kind: type, fields: dict[str, object]) -> None:
    """Constructors take Ray's fields, in its order, with its defaults; then those of ours."""
    parameters = inspect.signature(kind).parameters
    assert {name: p.default for name, p in parameters.items()} == fields
    assert list(parameters) == list(fields)


def test_run_config_fills_in_its_parts() -> None:
    """What was not given is there as an object after construction."""
    config = RunConfig()
    assert config.storage_path == os.path.expanduser("~/milepost_results")
    assert config.failure_config == FailureConfig()
    assert config.checkpoint_config == CheckpointConfig()
    assert config.sync_config == SyncConfig()
    assert config.verbose == 1


def test_verbose_of_the_older_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default level is 3 when the older display is asked for."""
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    assert RunConfig().verbose == 3


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("results", "{cwd}/results"),
        ("./a/../results", "{cwd}/results"),
        ("~/results", "{home}/results"),
        ("/srv/results", "/srv/results"),
        (Path("results"), "{cwd}/results"),
        ("file:///srv/results", "/srv/results"),
    ],
)
def test_storage_path_is_resolved_at_construction(
    given: str, resolved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path becomes absolute where the config is made, whatever the directory is later."""
    monkeypatch.chdir(tmp_path)
    config = RunConfig(storage_path=given)
    monkeypatch.chdir("/")
    assert config.storage_path == resolved.format(cwd=tmp_path, home=os.path.expanduser("~"))


def test_object_stores_are_refused_where_they_are_written() -> None:
    """Storage that this version cannot use is an error of the line that names it."""
    with pytest.raises(ValueError, match="'s3://bucket/x' names an object store"):
        RunConfig(storage_path="s3://bucket/x")
    config = RunConfig()
    with pytest.raises(ValueError, match="gs://"):
        config.storage_path = "gs://bucket/x"


@pytest.mark.parametrize(
    ("field", "name", "says"),
    [
        ("scheduler", "asha", r"no scheduler 'asha' in this version .0\.1.*Available are: .*fifo"),
        ("scheduler", "fif", "Did you mean 'fifo'"),
        ("search_alg", "skopt", r"no search algorithm 'skopt' in this .*are: .*random"),
        ("search_alg", "randm", "Did you mean 'random'"),
    ],
)
def test_names_that_are_not_there_are_refused_where_they_are_written(
    field: str, name: str, says: str
) -> None:
    """A scheduler or search algorithm of a later version, or misspelt, fails at once."""
    with pytest.raises(ValueError, match=says):
        TuneConfig(**{field: name})


def test_names_of_schedulers_and_searchers_may_be_in_any_case() -> None:
    """As in Ray; whatever a config accepts can be made."""
    config = TuneConfig(scheduler="FIFO", search_alg="Random")
    assert (config.scheduler, config.search_alg) == ("FIFO", "Random")


def test_storage_path_assigned_later_is_resolved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assigned path is treated like one that was passed."""
    monkeypatch.chdir(tmp_path)
    config = RunConfig()
    config.storage_path = "later"
    assert config.storage_path == str(tmp_path / "later")


def test_a_file_system_takes_the_path_verbatim() -> None:
    """With a file system object, its path is not ours to interpret; it must be given."""
    filesystem = object()
    assert RunConfig(storage_path="a/b", storage_filesystem=filesystem).storage_path == "a/b"
    with pytest.raises(ValueError, match="storage_path must say where"):
        RunConfig(storage_filesystem=filesystem)


WRONG = [
    (RunConfig, {"nmae": "x"}, TypeError, "'nmae'.*Did you mean 'name'"),
    (CheckpointConfig, {"num_to_kep": 1}, TypeError, "Did you mean 'num_to_keep'"),
    (TuneConfig, {"num_sample": 2}, TypeError, "Did you mean 'num_samples'"),
    (FailureConfig, {"retries": 2}, TypeError, "one of: fail_fast, max_failures, trial_time"),
    (RunConfig, {"name": ""}, ValueError, "name must be a usable path, got ''"),
    (RunConfig, {"name": "/tmp/x"}, ValueError, "got '/tmp/x'.*storage_path"),
    (RunConfig, {"name": "../x"}, ValueError, "got '../x'"),
    (RunConfig, {"name": 3}, TypeError, "name must be a path"),
    (RunConfig, {"storage_path": 3}, TypeError, "storage_path .* got 3"),
    (RunConfig, {"verbose": -1}, ValueError, "got -1"),
    (RunConfig, {"verbose": "1"}, TypeError, "got '1'"),
    (RunConfig, {"callbacks": [object]}, TypeError, r"callbacks\[0\] must be a Callback"),
    (RunConfig, {"callbacks": 3}, TypeError, "callbacks must be a list"),
    (RunConfig, {"progress_reporter": 3}, TypeError, "ProgressReporter"),
    (RunConfig, {"log_to_file": ("a",)}, ValueError, r"got \('a',\) \(1 entries\)"),
    (RunConfig, {"log_to_file": 3}, ValueError, "got 3"),
    (RunConfig, {"local_dir": "x"}, DeprecationWarning, "storage_path"),
    (RunConfig, {"failure_config": {"max_failures": 1}}, TypeError, r"FailureConfig\(\*\*"),
    (RunConfig, {"checkpoint_config": CheckpointConfig}, TypeError, r"CheckpointConfig\(\.\.\.\)"),
    (CheckpointConfig, {"num_to_keep": 0}, ValueError, "num_to_keep must be at least 1, got 0"),
    (CheckpointConfig, {"num_to_keep": -1}, ValueError, "got -1"),
    (CheckpointConfig, {"num_to_keep": "2"}, TypeError, "whole number, got '2'"),
    (CheckpointConfig, {"num_to_keep": 1.5}, TypeError, "got 1.5"),
    (CheckpointConfig, {"num_to_keep": True}, TypeError, "got True"),
    (CheckpointConfig, {"checkpoint_score_order": "MAX"}, ValueError, "got 'MAX'"),
    (CheckpointConfig, {"checkpoint_score_order": "mim"}, ValueError, "Did you mean 'min'"),
    (CheckpointConfig, {"checkpoint_frequency": -1}, ValueError, "got -1"),
    (CheckpointConfig, {"checkpoint_at_end": "yes"}, TypeError, "got 'yes'"),
    (CheckpointConfig, {"checkpoint_score_attribute": 3}, TypeError, "got 3"),
    (CheckpointConfig, {"_checkpoint_keep_all_ranks": True}, DeprecationWarning, "got True"),
    (CheckpointConfig, {"_checkpoint_upload_from_workers": False}, DeprecationWarning, "storage"),
    (FailureConfig, {"max_failures": -2}, ValueError, "at least 0, or -1, got -2"),
    (FailureConfig, {"fail_fast": "no"}, ValueError, "got 'no'"),
    (FailureConfig, {"fail_fast": 2}, ValueError, "got 2"),
    (FailureConfig, {"fail_fast": True, "max_failures": 1}, ValueError, "max_failures=1"),
    (FailureConfig, {"fail_fast": "raise", "max_failures": -1}, ValueError, "'raise'"),
    (FailureConfig, {"trial_timeout_s": 0}, ValueError, "got 0"),
    (FailureConfig, {"trial_timeout_s": "60"}, TypeError, "got '60'"),
    (SyncConfig, {"sync_period": -1}, ValueError, "got -1"),
    (SyncConfig, {"sync_artifacts": "x"}, TypeError, "got 'x'"),
    (TuneConfig, {"mode": "maximize"}, ValueError, "got 'maximize'"),
    (TuneConfig, {"metric": ""}, ValueError, "metric must not be an empty string"),
    (TuneConfig, {"num_samples": 0}, ValueError, "got 0"),
    (TuneConfig, {"num_samples": -2}, ValueError, "-1 means without limit"),
    (TuneConfig, {"max_concurrent_trials": -1}, ValueError, "got -1"),
    (TuneConfig, {"time_budget_s": 0}, ValueError, "got 0"),
    (TuneConfig, {"time_budget_s": "60"}, TypeError, "got '60'"),
    (TuneConfig, {"scheduler": 3}, TypeError, "TrialScheduler"),
    (TuneConfig, {"search_alg": 3}, TypeError, "Searcher"),
    (TuneConfig, {"trial_name_creator": "x"}, TypeError, "got 'x'"),
    (TuneConfig, {"chdir_to_trial_dir": False}, DeprecationWarning, "RAY_CHDIR_TO_TRIAL_DIR"),
    (ResumeConfig, {"finished": "rsume"}, ValueError, "Did you mean 'resume'"),
]


@pytest.mark.parametrize(("kind", "given", "error", "message"), WRONG)
def test_wrong_values(kind: type, given: dict[str, object], error: type, message: str) -> None:
    """A value that cannot take effect raises, and the message names it and the way out."""
    with pytest.raises(error, match=message):
        kind(**given)


RIGHT = [
    (CheckpointConfig, {"num_to_keep": 2.0}, "num_to_keep", 2),
    (CheckpointConfig, {"checkpoint_score_attribute": "a/b"}, "checkpoint_score_attribute", "a/b"),
    (FailureConfig, {"max_failures": -1}, "max_failures", -1),
    (FailureConfig, {"fail_fast": "RAISE"}, "fail_fast", "raise"),
    (TuneConfig, {"num_samples": -1}, "num_samples", -1),
    (TuneConfig, {"max_concurrent_trials": 0}, "max_concurrent_trials", 0),
    (TuneConfig, {"time_budget_s": timedelta(minutes=1)}, "time_budget_s", timedelta(minutes=1)),
    (TuneConfig, {"search_alg": "random"}, "search_alg", "random"),
    (RunConfig, {"name": "group/run"}, "name", "group/run"),
    (RunConfig, {"log_to_file": ["o", "e"]}, "log_to_file", ("o", "e")),
    (RunConfig, {"log_to_file": Path("log")}, "log_to_file", "log"),
    (RunConfig, {"verbose": 0}, "verbose", 0),
    (ResumeConfig, {"errored": "restart"}, "errored", ResumeType.RESTART),
]


@pytest.mark.parametrize(("kind", "given", "field", "value"), RIGHT)
def test_right_values(kind: type, given: dict[str, object], field: str, value: object) -> None:
    """Values that scripts write in several ways come out in one."""
    assert getattr(kind(**given), field) == value


def test_positional_arguments() -> None:
    """The order counts: mode comes before metric."""
    config = TuneConfig("max", "accuracy")
    assert (config.mode, config.metric) == ("max", "accuracy")


@pytest.mark.parametrize("kind", FIELDS)
def test_assignment_is_checked_like_construction(kind: type) -> None:
    """A field that does not exist cannot be assigned either."""
    config = kind()
    with pytest.raises(AttributeError, match=f"{kind.__name__} has no field 'nope'"):
        config.nope = 1
    if kind is CheckpointConfig:
        with pytest.raises(ValueError, match="got 0"):
            config.num_to_keep = 0


@pytest.mark.parametrize("kind", FIELDS)
def test_configs_are_values(kind: type) -> None:
    """Copies and pickles are equal, and the repr is the dataclass's own."""
    config = kind()
    assert copy.copy(config) == copy.deepcopy(config) == pickle.loads(pickle.dumps(config))
    assert dataclasses.replace(config) == config
    assert repr(config).startswith(f"{kind.__name__}({next(iter(FIELDS[kind]))}=")


def test_a_subclass_keeps_the_checks() -> None:
    """A user's dataclass on top of ours takes its own fields and ours."""

    @dataclasses.dataclass
    class Mine(RunConfig):
        owner: str = "me"

    config = Mine(name="x", owner="you")
    assert (config.name, config.owner, config.verbose) == ("x", "you", 1)
    with pytest.raises(ValueError, match="got -1"):
        Mine(verbose=-1)


def test_resume_types_are_reached_through_the_config() -> None:
    """Scripts write ResumeConfig.ResumeType.RESTART."""
    assert ResumeConfig.ResumeType.RESTART.value == "restart"


def test_notebook_table_escapes_values() -> None:
    """The table of a notebook shows values as text."""
    html = CheckpointConfig(checkpoint_score_attribute="<b>")._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "_checkpoint_keep_all_ranks" not in html


STOP_WRONG = [
    ({"loss": {"a": 1}}, r"written with a slash: \{'loss/a'"),
    ({"loss": "0.1"}, "got '0.1'"),
    ({"loss": None}, "got None"),
    ({"loss": float("nan")}, "NaN"),
    ({3: 1}, "got 3"),
    ([NoopStopper(), lambda t, r: True], r"stop\[1\] must be a Stopper"),
    (NoopStopper, r"write NoopStopper\(\.\.\.\)"),
    (3, "got 3"),
    ("loss", "got 'loss'"),
]


@pytest.mark.parametrize(("stop", "message"), STOP_WRONG)
def test_wrong_stop_conditions(stop: object, message: str) -> None:
    """What cannot stop anything is refused where it is written."""
    with pytest.raises(ValueError, match=message):
        RunConfig(stop=stop)


def test_a_stopper_that_is_none() -> None:
    """Something with stop_all() that does not derive from Stopper is a mistake."""

    class Almost:
        def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
            return False

        def stop_all(self) -> bool:
            return False

    with pytest.raises(ValueError, match="does not derive from"):
        RunConfig(stop=Almost())


@pytest.mark.parametrize(
    "stop",
    [
        None,
        {},
        {"training_iteration": 3, "a/b": 0.5, "done": True, "inf": float("inf")},
        MaximumIterationStopper(3),
        [NoopStopper(), FunctionStopper(lambda t, r: False)],
        lambda trial_id, result: False,
    ],
)
def test_right_stop_conditions(stop: object) -> None:
    """Everything else stays what it is."""
    assert RunConfig(stop=stop).stop is stop
