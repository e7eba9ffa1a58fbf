"""Tune XGBoost with Optuna's TPE sampler, with checkpoints written by a callback.

    python examples/optuna_xgboost.py               # a minute or two
    python examples/optuna_xgboost.py --smoke-test  # some seconds

Stop it with Ctrl-C, and go on with ``--restore`` and the directory that it names: boosting goes on
from each trial's last checkpoint. It needs XGBoost, Optuna and scikit-learn, whose breast cancer
data set ships inside the package.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import Any

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from milepost import tune
from milepost.tune.search.optuna import OptunaSearch


def load_data() -> list[Any]:
    """Return features for training and testing, then their labels: 569 tumours."""
    features, labels = load_breast_cancer(return_X_y=True)
    return list(train_test_split(features, labels, test_size=0.25, random_state=0))


def train_trees(config: dict[str, Any]) -> None:
    """Boost one model; each round is a result, and every fifth has a checkpoint."""
    import xgboost

    from milepost.tune.integration.xgboost import TuneReportCheckpointCallback

    train_x, test_x, train_y, test_y = load_data()
    train = xgboost.DMatrix(train_x, label=train_y)
    valid = xgboost.DMatrix(test_x, label=test_y)
    rounds, booster = config["rounds"], None

    checkpoint = tune.get_checkpoint()
    if checkpoint:
        booster = TuneReportCheckpointCallback.get_model(checkpoint)
        rounds -= booster.num_boosted_rounds()

    xgboost.train(
        {
            "objective": "binary:logistic",
            "eval_metric": ["logloss", "error"],
            "max_depth": config["max_depth"],
            "min_child_weight": config["min_child_weight"],
            "subsample": config["subsample"],
            "eta": config["eta"],
            "nthread": 1,
        },
        train,
        num_boost_round=rounds,
        evals=[(valid, "valid")],
        verbose_eval=False,
        xgb_model=booster,
        callbacks=[TuneReportCheckpointCallback(frequency=5)],
    )


def tuner(arguments: argparse.Namespace) -> tune.Tuner:
    """Return what is to be run, or goes on."""
    if arguments.restore:
        return tune.Tuner.restore(arguments.restore, train_trees, resume_errored=True)
    rounds, samples = (10, 4) if arguments.smoke_test else (100, arguments.samples)
    return tune.Tuner(
        train_trees,
        param_space={
            "max_depth": tune.randint(1, 9),
            "min_child_weight": tune.choice([1, 2, 3]),
            "subsample": tune.uniform(0.5, 1.0),
            "eta": tune.loguniform(1e-3, 0.5),
            "rounds": rounds,
        },
        tune_config=tune.TuneConfig(
            metric="valid-logloss",
            mode="min",
            num_samples=samples,
            search_alg=OptunaSearch(seed=0),
            max_concurrent_trials=4,  # fewer at a time learn more from each other
        ),
        run_config=tune.RunConfig(
            storage_path=arguments.storage_path,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def main() -> None:
    """Tune, then load the best model again and test it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=30, help="number of trials (default: 30)")
    parser.add_argument(
        "--storage-path",
        default=os.path.expanduser("~/milepost_results"),
        help="where results go (default: ~/milepost_results)",
    )
    parser.add_argument("--restore", metavar="DIRECTORY", help="an experiment that was cut")
    parser.add_argument("--smoke-test", action="store_true", help="4 trials of 10 rounds")
    arguments = parser.parse_args()
    if find_spec("xgboost") is None:
        print("Skipped: this example needs XGBoost. Run `pip install xgboost`.")
        return
    grid = tuner(arguments).fit()
    if grid.errors:
        sys.exit(f"{grid.num_errors} trials failed: {grid.errors[0]}")

    import xgboost

    from milepost.tune.integration.xgboost import TuneReportCheckpointCallback

    best = grid.get_best_result()
    booster = TuneReportCheckpointCallback.get_model(best.checkpoint)
    _, test_x, _, test_y = load_data()
    right = (booster.predict(xgboost.DMatrix(test_x)) > 0.5) == test_y
    print(f"Best of {len(grid)} trials: {best.config}")
    print(
        f"Its checkpoint of {booster.num_boosted_rounds()} rounds, loaded again, tells "
        f"{right.mean():.1%} of the test tumours right"
    )


if __name__ == "__main__":
    main()
