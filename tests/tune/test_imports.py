"""The public names: they are all there, they are light, and nothing else is public."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from milepost import train, tune

_PUBLIC = """
Trainable Callback TuneError grid_search register_env register_trainable run run_experiments
with_parameters with_resources Stopper Experiment sample_from uniform quniform choice randint
lograndint qrandint qlograndint randn qrandn loguniform qloguniform ExperimentAnalysis CLIReporter
JupyterNotebookReporter ProgressReporter ResultGrid create_searcher create_scheduler
PlacementGroupFactory Tuner TuneConfig ResumeConfig RunConfig CheckpointConfig FailureConfig Result
Checkpoint get_checkpoint report get_context TuneContext SyncConfig
"""
NAMES = _PUBLIC.split()

PATHS = {
    "milepost": "init shutdown is_initialized cluster_resources air tune train exceptions",
    "milepost.exceptions": "RayError RayTaskError RayActorError ActorDiedError",
    "milepost.train": "Checkpoint RunConfig CheckpointConfig FailureConfig report get_checkpoint",
    "milepost.air.integrations.comet": "CometLoggerCallback",
    "milepost.air.integrations.keras": "",  # exists without its library, too
    "milepost.air.integrations.mlflow": "MLflowLoggerCallback setup_mlflow",
    "milepost.air.integrations.wandb": "WandbLoggerCallback setup_wandb",
    "milepost.tune": " ".join(NAMES),
    "milepost.tune.analysis": "ExperimentAnalysis",
    "milepost.tune.callback": "Callback",
    "milepost.tune.context": "TuneContext get_context",
    "milepost.tune.error": "TuneError",
    "milepost.tune.execution.placement_groups": "PlacementGroupFactory",
    "milepost.tune.experiment": "Experiment Trial",
    "milepost.tune.experiment.trial": "Trial",
    "milepost.tune.logger": (
        "LoggerCallback CSVLoggerCallback JsonLoggerCallback TBXLoggerCallback pretty_print"
    ),
    "milepost.tune.logger.aim": "AimLoggerCallback",
    "milepost.tune.logger.comet": "CometLoggerCallback",
    "milepost.tune.logger.csv": "CSVLoggerCallback",
    "milepost.tune.logger.json": "JsonLoggerCallback",
    "milepost.tune.logger.logger": "LoggerCallback pretty_print",
    "milepost.tune.logger.mlflow": "MLflowLoggerCallback",
    "milepost.tune.logger.tensorboardx": "TBXLoggerCallback",
    "milepost.tune.logger.wandb": "WandbLoggerCallback",
    "milepost.tune.progress_reporter": "CLIReporter JupyterNotebookReporter ProgressReporter",
    "milepost.tune.registry": "register_trainable register_env",
    "milepost.tune.result": "DONE SHOULD_CHECKPOINT TRAINING_ITERATION DEFAULT_METRIC",
    "milepost.tune.result_grid": "ResultGrid",
    "milepost.tune.schedulers": (
        "TrialScheduler FIFOScheduler create_scheduler ASHAScheduler AsyncHyperBandScheduler "
        "HyperBandForBOHB HyperBandScheduler MedianStoppingRule PopulationBasedTraining "
        "PopulationBasedTrainingReplay ResourceChangingScheduler"
    ),
    "milepost.tune.schedulers.async_hyperband": "ASHAScheduler AsyncHyperBandScheduler",
    "milepost.tune.schedulers.hb_bohb": "HyperBandForBOHB",
    "milepost.tune.schedulers.hyperband": "HyperBandScheduler",
    "milepost.tune.schedulers.median_stopping_rule": "MedianStoppingRule",
    "milepost.tune.schedulers.pb2": "PB2",
    "milepost.tune.schedulers.pbt": "PopulationBasedTraining PopulationBasedTrainingReplay",
    "milepost.tune.schedulers.resource_changing_scheduler": (
        "DistributeResources DistributeResourcesToTopJob ResourceChangingScheduler"
    ),
    "milepost.tune.schedulers.trial_scheduler": "TrialScheduler FIFOScheduler",
    "milepost.tune.search": (
        "SearchAlgorithm Searcher ConcurrencyLimiter Repeater BasicVariantGenerator grid_search "
        "SearchGenerator create_searcher"
    ),
    "milepost.tune.search.basic_variant": "BasicVariantGenerator",
    "milepost.tune.search.concurrency_limiter": "ConcurrencyLimiter",
    "milepost.tune.search.ax": "AxSearch",
    "milepost.tune.search.bayesopt": "BayesOptSearch",
    "milepost.tune.search.bohb": "TuneBOHB",
    "milepost.tune.search.hebo": "HEBOSearch",
    "milepost.tune.search.hyperopt": "HyperOptSearch",
    "milepost.tune.search.nevergrad": "NevergradSearch",
    "milepost.tune.search.optuna": "OptunaSearch",
    "milepost.tune.search.zoopt": "ZOOptSearch",
    "milepost.tune.search.repeater": "Repeater",
    "milepost.tune.search.sample": "Domain Float Integer Categorical Function Quantized Uniform",
    "milepost.tune.search.search_algorithm": "SearchAlgorithm",
    "milepost.tune.search.search_generator": "SearchGenerator",
    "milepost.tune.search.searcher": "Searcher",
    "milepost.tune.search.variant_generator": "generate_variants grid_search",
    "milepost.tune.stopper": (
        "Stopper CombinedStopper ExperimentPlateauStopper FunctionStopper MaximumIterationStopper "
        "NoopStopper TimeoutStopper TrialPlateauStopper"
    ),
    "milepost.tune.syncer": "SyncConfig",
    "milepost.tune.trainable": "Trainable with_parameters with_resources",
    "milepost.tune.trainable.trainable": "Trainable",
    "milepost.tune.trainable.util": "with_parameters with_resources",
    "milepost.tune.tune_config": "TuneConfig ResumeConfig",
    "milepost.tune.tuner": "Tuner",
    "milepost.tune.utils": (
        "validate_save_restore wait_for_gpu flatten_dict merge_dicts unflattened_lookup date_str "
        "deep_update UtilMonitor warn_if_slow diagnose_serialization"
    ),
    "milepost.tune.utils.log": "Verbosity",
    # These modules exist without their library; the callback in them needs it.
    "milepost.tune.integration.keras": "",
    "milepost.tune.integration.lightgbm": "TuneReportCheckpointCallback",
    "milepost.tune.integration.pytorch_lightning": "",
    "milepost.tune.integration.ray_train": "TuneReportCallback",
    "milepost.tune.integration.xgboost": "",
}

#: What must not be loaded by importing the package.
_HEAVY = """
numpy rich psutil tensorboardX torch pandas pyarrow ray msgspec cloudpickle xxhash asyncio
multiprocessing socket subprocess milepost.control milepost.journal milepost.keeper.wire
milepost.engine milepost.display milepost.tune.search milepost.worker
"""
HEAVY = _HEAVY.split()


def test_all_is_the_contract() -> None:
    """The public names are exactly those of Ray Tune."""
    assert sorted(tune.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists(name: str) -> None:
    """Each name can be reached, and the second access gives the same object."""
    value = getattr(tune, name)
    assert value is getattr(tune, name)
    assert callable(value)


@pytest.mark.parametrize(("module", "names"), PATHS.items())
def test_import_paths(module: str, names: str) -> None:
    """Paths that scripts import from exist, with the names that they import."""
    imported = import_module(module)
    for name in names.split():
        assert hasattr(imported, name), f"{module} has no {name}"


@pytest.mark.parametrize("module", PATHS)
def test_all_of_every_module_exists(module: str) -> None:
    """What a module lists can be reached."""
    imported = import_module(module)
    for name in getattr(imported, "__all__", ()):
        if module.startswith("milepost.tune.integration") or module.endswith(".keras"):
            continue  # needs the library
        assert hasattr(imported, name), f"{module} lists {name}"
        assert name in dir(imported)


def test_run_is_the_function() -> None:
    """``tune.run`` is what scripts call, also after its module was imported."""
    from milepost.tune import runner

    assert tune.run is runner.run


def test_parts_are_attributes() -> None:
    """Scripts reach modules through the package without importing them."""
    code = (
        "from milepost import tune\n"
        "assert tune.result.SHOULD_CHECKPOINT == 'should_checkpoint'\n"
        "assert tune.schedulers.FIFOScheduler and tune.search.sample.uniform\n"
        "assert tune.stopper.NoopStopper and tune.utils.flatten_dict\n"
        "assert tune.utils.log.Verbosity and tune.search.searcher.Searcher\n"
        "assert tune.execution.placement_groups.PlacementGroupFactory\n"
        "assert tune.experiment.trial.Trial and tune.trainable.util.with_resources\n"
        "assert tune.logger.json.JsonLoggerCallback\n"
        "assert tune.schedulers.trial_scheduler.TrialScheduler\n"
        "from milepost.tune import *\n"
        "assert Tuner is tune.Tuner and run is tune.run\n"
        "import milepost\n"
        "assert milepost.tune is tune and milepost.exceptions.RayTaskError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


@pytest.mark.parametrize("package", ["milepost", "milepost.tune", "milepost.train"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    """Importing the packages loads a handful of small modules."""
    code = (
        f"import sys, {package}\n"
        f"print([m for m in {HEAVY} if m in sys.modules])\n"
        "print(len([m for m in sys.modules if m.startswith('milepost')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=50
    )
    heavy, number = done.stdout.splitlines()
    assert heavy == "[]"
    assert int(number) <= 3


def test_searching_a_grid_needs_no_numpy() -> None:
    """NumPy is loaded when a random number is needed, not before."""
    code = (
        "import sys\n"
        "from milepost import tune\n"
        "from milepost.tune.search.variant_generator import generate_variants\n"
        "space = {'a': tune.grid_search([1, 2]), 'b': tune.uniform(0, 1)}\n"
        "grid = {'a': tune.grid_search([1, 2])}\n"
        "assert [c for _, c in generate_variants(grid)] == [{'a': 1}, {'a': 2}]\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_misspelt_names() -> None:
    """An unknown name suggests the right one."""
    with pytest.raises(AttributeError, match="Did you mean 'Tuner'"):
        _ = tune.Tunr
    with pytest.raises(AttributeError, match="has no attribute 'nothing_like_it_at_all'"):
        _ = tune.nothing_like_it_at_all


@pytest.mark.parametrize("name", ["report", "get_checkpoint", "get_context"])
def test_training_functions_inside_a_trial(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a trial they raise what Ray raises there, and say which function a trial uses."""
    monkeypatch.setattr("milepost.worker.session.in_session", lambda: True)
    with pytest.raises(DeprecationWarning, match=f"milepost.tune.{name}"):
        getattr(train, name)(*([{}] if name == "report" else []))


def test_configs_of_train_are_those_of_tune() -> None:
    """A config imported from either package is one that tuning takes."""
    for name in ("Checkpoint", "RunConfig", "CheckpointConfig", "FailureConfig", "SyncConfig"):
        assert issubclass(getattr(train, name), getattr(tune, name))
