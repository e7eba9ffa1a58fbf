"""The other configs of training: fields, defaults, values and errors."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from datetime import timedelta

import pytest

from milepost import train, tune
from milepost.api.training.backend import Backend, BackendConfig
from milepost.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
    ValidationConfig,
    ValidationTaskConfig,
)
from milepost.train.torch import TorchConfig

REQUIRED = inspect.Parameter.empty

# Positional ones in Ray's order, then those that are passed by name.
FIELDS = {
    RunConfig: (
        {
            "name": None,
            "storage_path": None,
            "storage_filesystem": None,
            "failure_config": None,
            "checkpoint_config": None,
            "callbacks": None,
            "worker_runtime_env": None,
            "logging_config": None,
        },
        {
            "sync_config": None,
            "verbose": None,
            "stop": None,
            "progress_reporter": None,
            "log_to_file": False,
            "local_dir": None,
        },
    ),
    CheckpointConfig: (
        {
            "num_to_keep": None,
            "checkpoint_score_attribute": None,
            "checkpoint_score_order": "max",
            "checkpoint_frequency": 0,
            "checkpoint_at_end": None,
            "_checkpoint_keep_all_ranks": "DEPRECATED",
            "_checkpoint_upload_from_workers": "DEPRECATED",
        },
        {},
    ),
    FailureConfig: (
        {
            "max_failures": 0,
            "fail_fast": False,
            "controller_failure_limit": -1,
            "max_preemption_failures": -1,
            "relax_collectives_on_preemption": False,
            "preemption_grace_s": 0.0,
        },
        {"trial_timeout_s": None},
    ),
    LoggingConfig: ({"log_level": "INFO"}, {}),
    TorchConfig: ({"backend": None, "init_method": "env", "timeout_s": 1800}, {}),
    ValidationConfig: ({"fn": REQUIRED, "task_config": None, "ray_remote_kwargs": None}, {}),
    ValidationTaskConfig: ({"fn_kwargs": None, "timeout_s": None}, {}),
}


@pytest.mark.parametrize(("kind", "fields"), FIELDS.items())
def test_signature(kind: type, fields: tuple[dict[str, object], dict[str, object]]) -> None:
    """Constructors take Ray's arguments in its order; what it refuses is passed by name."""
    named = inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(kind).parameters.values()
    found = (
        [(p.name, p.default) for p in parameters if p.kind is not named],
        [(p.name, p.default) for p in parameters if p.kind is named],
    )
    assert found[0] == list(fields[0].items())
    assert dict(found[1]) == fields[1]


def evaluate(checkpoint: object, **kwargs: object) -> dict[str, object]:
    """A validation function."""
    return {}


MADE = [
    RunConfig(name="x", worker_runtime_env={"env_vars": {"A": "1"}}, stop={"loss": 1}),
    FailureConfig(max_failures=3, preemption_grace_s=5),
    LoggingConfig("debug"),
    TorchConfig("gloo"),
    ValidationConfig(evaluate, ValidationTaskConfig({"n": 2}, 60)),
]


@pytest.mark.parametrize("config", MADE, ids=lambda config: type(config).__name__)
def test_configs_are_values(config: object) -> None:
    """Copies and pickles are equal; names and values show in the repr and in notebooks."""
    assert copy.copy(config) == copy.deepcopy(config) == pickle.loads(pickle.dumps(config))
    assert dataclasses.replace(config) == config
    first = dataclasses.fields(config)[0].name
    assert repr(config).startswith(f"{type(config).__name__}({first}=")
    assert f"<td>{first}</td>" in config._repr_html_()


@pytest.mark.parametrize("config", MADE, ids=lambda config: type(config).__name__)
def test_assignment_is_checked_like_construction(config: object) -> None:
    """A field that does not exist cannot be assigned either."""
    with pytest.raises(AttributeError, match="has no field 'nope'"):
        copy.copy(config).nope = 1


class Told(UserCallback):
    """A callback of training."""


class Heard(tune.Callback):
    """A callback of tuning."""


WRONG = [
    (RunConfig, {"nmae": "x"}, TypeError, "'nmae'.*Did you mean 'name'"),
    (RunConfig, {"worker_runtime": {}}, TypeError, "Did you mean 'worker_runtime_env'"),
    (RunConfig, {"callbacks": [3]}, ValueError, r"callbacks\[0\] must be .*UserCallback.*got 3"),
    (RunConfig, {"callbacks": [Told(), Told]}, ValueError, r"callbacks\[1\].*write Told\(\)"),
    (RunConfig, {"callbacks": Told()}, ValueError, "must be a list"),
    (RunConfig, {"worker_runtime_env": "x"}, TypeError, "must be a dict .* got 'x'"),
    (RunConfig, {"worker_runtime_env": {"pip": ["a"]}}, ValueError, r"\['pip'\].*got \['a'\]"),
    (RunConfig, {"worker_runtime_env": {"working_dir": "."}}, ValueError, "cannot take effect"),
    (RunConfig, {"worker_runtime_env": {"envvars": {}}}, ValueError, "Did you mean 'env_vars'"),
    (RunConfig, {"worker_runtime_env": {"env_vars": {"A": 1}}}, TypeError, r"texts, got {'A': 1}"),
    (RunConfig, {"worker_runtime_env": {"env_vars": ["A"]}}, TypeError, r"got \['A'\]"),
    (RunConfig, {"logging_config": "INFO"}, TypeError, "must be a LoggingConfig, got 'INFO'"),
    (RunConfig, {"failure_config": {"max_failures": 1}}, TypeError, r"FailureConfig\(\*\*"),
    (RunConfig, {"failure_config": FailureConfig}, TypeError, r"write FailureConfig\(\.\.\.\)"),
    (RunConfig, {"checkpoint_config": FailureConfig()}, TypeError, "must be a CheckpointConfig"),
    (RunConfig, {"local_dir": "x"}, DeprecationWarning, "storage_path"),
    (RunConfig, {"verbose": -1}, ValueError, "got -1"),
    (FailureConfig, {"max_failure": 1}, TypeError, "Did you mean 'max_failures'"),
    (FailureConfig, {"max_failures": -2}, ValueError, "at least 0, or -1, got -2"),
    (FailureConfig, {"controller_failure_limit": -2}, ValueError, "got -2"),
    (FailureConfig, {"max_preemption_failures": -2}, ValueError, "got -2"),
    (FailureConfig, {"max_preemption_failures": 1.5}, TypeError, "got 1.5"),
    (FailureConfig, {"relax_collectives_on_preemption": "no"}, TypeError, "got 'no'"),
    (FailureConfig, {"preemption_grace_s": -1}, ValueError, "0 or more, got -1"),
    (FailureConfig, {"preemption_grace_s": True}, TypeError, "got True"),
    (FailureConfig, {"fail_fast": "no"}, ValueError, "got 'no'"),
    (FailureConfig, {"fail_fast": True, "max_failures": 2}, ValueError, "max_failures=2"),
    (LoggingConfig, {"log_level": "chatty"}, ValueError, "logging level, got 'chatty'"),
    (LoggingConfig, {"log_level": "waring"}, ValueError, "Did you mean 'WARNING'"),
    (LoggingConfig, {"log_level": 11}, ValueError, "got 11"),
    (LoggingConfig, {"log_level": True}, ValueError, "got True"),
    (LoggingConfig, {"level": "INFO"}, TypeError, "Did you mean 'log_level'"),
    (TorchConfig, {"init_method": "envv"}, ValueError, "got 'envv'.*Did you mean 'env'"),
    (TorchConfig, {"timeout_s": 0}, ValueError, "got 0"),
    (TorchConfig, {"timeout_s": "60"}, TypeError, "got '60'"),
    (TorchConfig, {"backend": 3}, TypeError, "backend must be a string, got 3"),
    (TorchConfig, {"backnd": "gloo"}, TypeError, "Did you mean 'backend'"),
    (ValidationConfig, {"fn": 3}, TypeError, "fn must be a function, got 3"),
    (ValidationConfig, {"fn": evaluate, "task_config": {}}, TypeError, "ValidationTaskConfig"),
    (ValidationConfig, {"fn": evaluate, "ray_remote_kwargs": 3}, TypeError, "got 3"),
    (ValidationTaskConfig, {"fn_kwargs": {1: 2}}, TypeError, "got {1: 2}"),
    (ValidationTaskConfig, {"timeout": 2}, TypeError, "Did you mean 'timeout_s'"),
    (ValidationTaskConfig, {"timeout_s": 0}, AssertionError, "got 0. None sets no limit"),
    (ValidationTaskConfig, {"timeout_s": -1}, ValueError, "got -1"),
]


@pytest.mark.parametrize(("kind", "given", "error", "message"), WRONG)
def test_wrong_values(kind: type, given: dict[str, object], error: type, message: str) -> None:
    """A value that cannot take effect raises, and the message names it and the way out."""
    with pytest.raises(error, match=message):
        kind(**given)


RIGHT = [
    (FailureConfig, {"max_failures": -1}, "max_failures", -1),
    (FailureConfig, {"fail_fast": True}, "fail_fast", True),
    (FailureConfig, {"fail_fast": "RAISE"}, "fail_fast", "raise"),
    (FailureConfig, {"preemption_grace_s": timedelta(minutes=1)}, "preemption_grace_s", 60.0),
    (FailureConfig, {"trial_timeout_s": 5}, "trial_timeout_s", 5),
    (LoggingConfig, {"log_level": "Warning"}, "log_level", "WARNING"),
    (LoggingConfig, {"log_level": 10}, "log_level", "DEBUG"),
    (TorchConfig, {"backend": "NCCL"}, "backend", "nccl"),
    (TorchConfig, {"init_method": "tcp"}, "init_method", "tcp"),
    (ValidationTaskConfig, {}, "fn_kwargs", {}),
    (ValidationConfig, {"fn": evaluate}, "task_config", ValidationTaskConfig()),
    (ValidationConfig, {"fn": evaluate}, "ray_remote_kwargs", {}),
    (RunConfig, {"stop": {"loss": 1}}, "stop", {"loss": 1}),
    (RunConfig, {"log_to_file": True}, "log_to_file", True),
    (RunConfig, {"verbose": 0}, "verbose", 0),
    (RunConfig, {"worker_runtime_env": {"env_vars": None}}, "worker_runtime_env", {"env_vars": {}}),
]


@pytest.mark.parametrize(("kind", "given", "field", "value"), RIGHT)
def test_right_values(kind: type, given: dict[str, object], field: str, value: object) -> None:
    """Values that scripts write in several ways come out in one."""
    assert getattr(kind(**given), field) == value


def test_run_config_fills_in_its_parts() -> None:
    """What was not given is there after construction; the name is left to the trainer."""
    config = RunConfig()
    assert config.name is None
    assert config.storage_path == tune.RunConfig().storage_path
    assert config.failure_config == FailureConfig()
    assert config.checkpoint_config == CheckpointConfig()
    assert config.logging_config == LoggingConfig()
    assert (config.callbacks, config.worker_runtime_env) == ([], {})


def test_positional_arguments_are_rays() -> None:
    """Callbacks come before the options of tuning, limits before our timeout."""
    told = Told()
    config = RunConfig("n", "/srv/x", None, None, None, [told], None, LoggingConfig("ERROR"))
    assert (config.callbacks, config.logging_config) == ([told], LoggingConfig("ERROR"))
    failure = FailureConfig(1, False, 2, 3, True, 4)
    assert (failure.controller_failure_limit, failure.max_preemption_failures) == (2, 3)
    assert failure.trial_timeout_s is None


def test_callbacks_of_both_kinds_are_taken() -> None:
    """A tracker of tuning and a callback of training fit into one list, which is copied."""
    given = [Told(), Heard()]
    config = RunConfig(callbacks=given)
    assert config.callbacks == given
    assert config.callbacks is not given


def test_a_failure_config_of_tuning_is_taken_over() -> None:
    """It is completed with what training adds; what was set in it stays."""
    config = RunConfig(failure_config=tune.FailureConfig(max_failures=3, trial_timeout_s=9))
    assert config.failure_config == FailureConfig(max_failures=3, trial_timeout_s=9)
    mine = FailureConfig(2)
    assert RunConfig(failure_config=mine).failure_config is mine


def test_a_subclass_keeps_the_checks() -> None:
    """A user's dataclass on top of ours takes its own fields and ours."""

    @dataclasses.dataclass
    class Mine(RunConfig):
        owner: str = "me"

    config = Mine(name="x", owner="you", stop={"loss": 1})
    assert (config.name, config.owner, config.stop) == ("x", "you", {"loss": 1})
    with pytest.raises(ValueError, match="got -1"):
        Mine(verbose=-1)


TASKS = [
    (False, None),
    (True, ({"a": 1, "b": 2}, 60)),
    (ValidationTaskConfig({"b": 3}), ({"a": 1, "b": 3}, None)),
    (ValidationTaskConfig(timeout_s=5), ({"a": 1, "b": 2}, 5)),
]


@pytest.mark.parametrize(("asked", "expected"), TASKS)
def test_tasks_of_validation(
    asked: bool | ValidationTaskConfig, expected: tuple[object, object] | None
) -> None:
    """Arguments are laid over the defaults; a config's own limit of time counts, be it none."""
    config = ValidationConfig(evaluate, ValidationTaskConfig({"a": 1, "b": 2}, timeout_s=60))
    task = config.task(asked)
    assert (task and (task.fn_kwargs, task.timeout_s)) == expected
    assert config.task_config == ValidationTaskConfig({"a": 1, "b": 2}, timeout_s=60)


def test_validation_is_asked_for_by_a_bool_or_a_config() -> None:
    """Anything else is an error of the report."""
    with pytest.raises(TypeError, match="validation must be True or False, got 'yes'"):
        ValidationConfig(evaluate).task("yes")


def test_resources_of_validation() -> None:
    """Those of Ray's tasks that can take effect, under the names of resources."""
    given = {"num_cpus": 2, "num_gpus": 0.5, "memory": 0, "resources": {"disk": 1}}
    config = ValidationConfig(evaluate, ray_remote_kwargs=given)
    assert config.resources == {"CPU": 2, "GPU": 0.5, "disk": 1}
    assert ValidationConfig(evaluate).resources == {}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"max_retries": 3}, ValueError, r"\['max_retries'\] cannot take effect, got 3"),
        ({"num_cpu": 3}, ValueError, "Did you mean 'num_cpus'"),
        ({"num_cpus": -1}, ValueError, r"\['num_cpus'\] must be 0 or more, got -1"),
        ({"num_gpus": "1"}, TypeError, r"\['num_gpus'\] must be a number, got '1'"),
        ({"resources": {"GPU": 1}}, ValueError, "write num_gpus=1 in its place"),
        ({"resources": {"disk": None}}, TypeError, r"\['disk'\] must be a number"),
        ({"resources": 1}, TypeError, "must be a dict"),
    ],
)
def test_other_resources_of_validation(
    given: dict[str, object], error: type[Exception], said: str
) -> None:
    """What cannot be met is an error where it is written."""
    with pytest.raises(error, match=said):
        ValidationConfig(evaluate, ray_remote_kwargs=given)


def test_backends_of_users() -> None:
    """A config without anything overridden sets nothing up; a dataclass tells its fields."""

    class Mine(Backend):
        share_cuda_visible_devices = True

    @dataclasses.dataclass
    class MineConfig(BackendConfig):
        port: int = 1

        @property
        def backend_cls(self) -> type[Backend]:
            return Mine

    plain = BackendConfig()
    assert (plain.backend_cls, plain.framework, plain.to_dict()) == (Backend, None, {})
    with plain.train_func_context() as nothing:
        assert nothing is None
    assert MineConfig(7).to_dict() == {"port": 7}
    assert MineConfig().backend_cls.share_cuda_visible_devices
    assert not Backend.share_cuda_visible_devices
    assert not Backend.has_replica_groups


def test_torch_config_tells_what_it_is() -> None:
    """It is a backend config, of the framework torch."""
    config = TorchConfig(backend="gloo")
    assert isinstance(config, BackendConfig)
    assert config.framework == "torch"
    assert config.to_dict() == {"backend": "gloo", "init_method": "env", "timeout_s": 1800}


def test_run_contexts_have_ids_of_their_own() -> None:
    """Each run has another one; what it was made with can be read, and not changed."""
    made = [
        train.TrainRunContext(
            RunConfig(name="x"), {"lr": 1}, ScalingConfig(), TorchConfig(), train.DataConfig()
        )
        for _ in range(2)
    ]
    assert len({context.run_id for context in made}) == 2
    assert all(len(context.run_id) == 32 and int(context.run_id, 16) for context in made)
    context = made[0]
    assert context.get_run_config() is context.run_config
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.run_id = "x"


def test_callbacks_do_nothing_unless_overridden() -> None:
    """Both hooks can be called by position, as with Ray."""
    context = train.TrainRunContext(
        RunConfig(), None, ScalingConfig(), BackendConfig(), train.DataConfig()
    )
    assert UserCallback().after_report(context, [{"loss": 1}], None) is None
    assert UserCallback().after_exception(context, {0: ValueError()}) is None
