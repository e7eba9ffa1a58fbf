"""Tune a scikit-learn classifier with Optuna's TPE sampler.

    python examples/optuna_sklearn.py               # a minute or two
    python examples/optuna_sklearn.py --smoke-test  # some seconds

Stop it with Ctrl-C, and go on with ``--restore`` and the directory that it names: trials go on from
their checkpoints, and the search as if it had never been cut. It needs Optuna and scikit-learn,
whose digits data set ships inside the package.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from milepost import tune
from milepost.tune.search.optuna import OptunaSearch


def load_data() -> list[np.ndarray]:
    """Return images for training and testing, then their labels."""
    images, labels = load_digits(return_X_y=True)
    return list(train_test_split(images / 16, labels, test_size=0.25, random_state=0))


def train_classifier(config: dict[str, Any]) -> None:
    """Train one classifier epoch by epoch, with a checkpoint at each."""
    train_x, test_x, train_y, test_y = load_data()
    model = SGDClassifier(
        loss=config["loss"],
        penalty="elasticnet",
        alpha=config["alpha"],
        l1_ratio=config["l1_ratio"],
        learning_rate="constant",
        eta0=config["eta0"],
        random_state=0,
    )
    first = 1

    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            first, model = joblib.load(os.path.join(folder, "model.joblib"))
        first += 1

    for epoch in range(first, config["epochs"] + 1):
        order = np.random.default_rng(epoch).permutation(len(train_x))
        model.partial_fit(train_x[order], train_y[order], classes=np.arange(10))
        with tempfile.TemporaryDirectory() as folder:
            joblib.dump((epoch, model), os.path.join(folder, "model.joblib"))
            tune.report(
                {"accuracy": float(model.score(test_x, test_y))},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def tuner(arguments: argparse.Namespace) -> tune.Tuner:
    """Return what is to be run, or goes on."""
    if arguments.restore:
        return tune.Tuner.restore(arguments.restore, train_classifier, resume_errored=True)
    epochs, samples = (3, 6) if arguments.smoke_test else (15, arguments.samples)
    return tune.Tuner(
        train_classifier,
        param_space={
            "loss": tune.choice(["hinge", "log_loss", "modified_huber"]),
            "alpha": tune.loguniform(1e-7, 1e-1),
            "l1_ratio": tune.uniform(0.0, 1.0),
            "eta0": tune.loguniform(1e-4, 1.0),
            "epochs": epochs,
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
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
    """Tune, then load the best classifier again and test it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=60, help="number of trials (default: 60)")
    parser.add_argument(
        "--storage-path",
        default=os.path.expanduser("~/milepost_results"),
        help="where results go (default: ~/milepost_results)",
    )
    parser.add_argument("--restore", metavar="DIRECTORY", help="an experiment that was cut")
    parser.add_argument("--smoke-test", action="store_true", help="6 trials of 3 epochs")
    grid = tuner(parser.parse_args()).fit()
    if grid.errors:
        sys.exit(f"{grid.num_errors} trials failed: {grid.errors[0]}")

    best = grid.get_best_result()
    with best.checkpoint.as_directory() as folder:
        _, model = joblib.load(os.path.join(folder, "model.joblib"))
    _, test_x, _, test_y = load_data()
    print(f"Best of {len(grid)} trials: {best.config}")
    print(
        f"Its checkpoint, loaded again, tells {model.score(test_x, test_y):.1%} of the test "
        "digits right"
    )


if __name__ == "__main__":
    main()
