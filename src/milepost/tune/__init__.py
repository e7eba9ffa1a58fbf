"""Hyper-parameter tuning with the API of Ray Tune.

Write ``from milepost import tune`` where a script says ``from ray import tune``. Every name is
loaded when it is first used, so importing this package costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.api.callback import Callback
    from milepost.api.configs import (
        CheckpointConfig,
        FailureConfig,
        ResumeConfig,
        RunConfig,
        SyncConfig,
        TuneConfig,
    )
    from milepost.api.progress import ProgressReporter
    from milepost.api.resources import PlacementGroupFactory
    from milepost.api.stopper import Stopper
    from milepost.checkpoint.handle import Checkpoint
    from milepost.errors import TuneError
    from milepost.tune.analysis import ExperimentAnalysis
    from milepost.tune.experiment.experiment import Experiment
    from milepost.tune.progress_reporter import CLIReporter, JupyterNotebookReporter
    from milepost.tune.registry import register_env, register_trainable
    from milepost.tune.result_grid import Result, ResultGrid
    from milepost.tune.runner import run, run_experiments
    from milepost.tune.schedulers import create_scheduler
    from milepost.tune.search import create_searcher
    from milepost.tune.search.primitives import (
        choice,
        grid_search,
        lograndint,
        loguniform,
        qlograndint,
        qloguniform,
        qrandint,
        qrandn,
        quniform,
        randint,
        randn,
        sample_from,
        uniform,
    )
    from milepost.tune.trainable.parameters import with_parameters
    from milepost.tune.trainable.resources import with_resources
    from milepost.tune.tuner import Tuner
    from milepost.worker.context import TuneContext, get_context
    from milepost.worker.session import get_checkpoint, report
    from milepost.worker.trainable import Trainable

_WHERE = {
    "milepost.api.callback": ("Callback",),
    "milepost.api.configs": (
        "CheckpointConfig",
        "FailureConfig",
        "ResumeConfig",
        "RunConfig",
        "SyncConfig",
        "TuneConfig",
    ),
    "milepost.api.progress": ("ProgressReporter",),
    "milepost.api.resources": ("PlacementGroupFactory",),
    "milepost.api.stopper": ("Stopper",),
    "milepost.checkpoint.handle": ("Checkpoint",),
    "milepost.errors": ("TuneError",),
    "milepost.tune.analysis": ("ExperimentAnalysis",),
    "milepost.tune.experiment.experiment": ("Experiment",),
    "milepost.tune.progress_reporter": ("CLIReporter", "JupyterNotebookReporter"),
    "milepost.tune.registry": ("register_env", "register_trainable"),
    "milepost.tune.result_grid": ("Result", "ResultGrid"),
    "milepost.tune.runner": ("run", "run_experiments"),
    "milepost.tune.schedulers": ("create_scheduler",),
    "milepost.tune.search": ("create_searcher",),
    "milepost.tune.search.primitives": (
        "choice",
        "grid_search",
        "lograndint",
        "loguniform",
        "qlograndint",
        "qloguniform",
        "qrandint",
        "qrandn",
        "quniform",
        "randint",
        "randn",
        "sample_from",
        "uniform",
    ),
    "milepost.tune.trainable.parameters": ("with_parameters",),
    "milepost.tune.trainable.resources": ("with_resources",),
    "milepost.tune.tuner": ("Tuner",),
    "milepost.worker.context": ("TuneContext", "get_context"),
    "milepost.worker.session": ("get_checkpoint", "report"),
    "milepost.worker.trainable": ("Trainable",),
}

#: Parts of this package that scripts reach as attributes, such as ``tune.result.DONE``.
_PARTS = (
    "analysis",
    "callback",
    "context",
    "error",
    "execution",
    "experiment",
    "integration",
    "logger",
    "progress_reporter",
    "registry",
    "result",
    "result_grid",
    "schedulers",
    "search",
    "stopper",
    "syncer",
    "trainable",
    "tune_config",
    "tuner",
    "utils",
)

_ORIGIN = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Callback",
    "CheckpointConfig",
    "Checkpoint",
    "CLIReporter",
    "Experiment",
    "ExperimentAnalysis",
    "FailureConfig",
    "JupyterNotebookReporter",
    "PlacementGroupFactory",
    "ProgressReporter",
    "Result",
    "ResultGrid",
    "ResumeConfig",
    "RunConfig",
    "Stopper",
    "SyncConfig",
    "Trainable",
    "TuneConfig",
    "TuneContext",
    "TuneError",
    "Tuner",
    "choice",
    "create_scheduler",
    "create_searcher",
    "get_checkpoint",
    "get_context",
    "grid_search",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "register_env",
    "register_trainable",
    "report",
    "run",
    "run_experiments",
    "sample_from",
    "uniform",
    "with_parameters",
    "with_resources",
]


def __getattr__(name: str) -> Any:
    origin = _ORIGIN.get(name)
    if origin is not None:
        value = getattr(import_module(origin), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    from milepost.api.available import missing

    raise missing(__name__, name, __dir__())


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
