"""Train a population of PyTorch networks on handwritten digits; the worst learn from the best.

    python examples/pbt_pytorch.py               # some minutes
    python examples/pbt_pytorch.py --smoke-test  # some seconds

Every few epochs the worst networks go on from the weights of the best, with a changed learning
rate, momentum and weight decay. Stop it with Ctrl-C, and go on with ``--restore`` and the directory
that it names. It needs PyTorch and scikit-learn, whose digits data set ships inside the package.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from milepost import tune
from milepost.tune.schedulers import PopulationBasedTraining


def load_data() -> list[torch.Tensor]:
    """Return images for training and testing, then their labels: 1,797 digits of 8 x 8 pixels."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return list(train_test_split(pixels, torch.tensor(labels), test_size=0.25, random_state=0))


def build() -> nn.Module:
    """Return the network; all of the population have the same shape, so that weights fit."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images whose digit the model tells right."""
    model.eval()
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def train_digits(config: dict[str, Any]) -> None:
    """Train one network, with a checkpoint at each epoch, from its own or another one's weights."""
    train_x, test_x, train_y, test_y = load_data()
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    first = 1

    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = torch.load(os.path.join(folder, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
    # After loading: the state of the optimizer has the donor's hyper-parameters.
    for group in optimizer.param_groups:
        group.update({name: config[name] for name in ("lr", "momentum", "weight_decay")})

    for epoch in range(first, config["epochs"] + 1):
        model.train()
        for batch in torch.randperm(len(train_x)).split(32):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
        metrics = {"loss": loss.item(), "accuracy": accuracy(model, test_x, test_y)}
        with tempfile.TemporaryDirectory() as folder:
            state = {
                "epoch": epoch,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state, os.path.join(folder, "state.pt"))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def tuner(arguments: argparse.Namespace) -> tune.Tuner:
    """Return what is to be run, or goes on."""
    if arguments.restore:
        return tune.Tuner.restore(arguments.restore, train_digits, resume_errored=True)
    epochs, samples = (4, 4) if arguments.smoke_test else (arguments.epochs, arguments.samples)
    return tune.Tuner(
        train_digits,
        param_space={
            "lr": tune.loguniform(1e-3, 0.3),
            "momentum": tune.uniform(0.0, 0.9),
            "weight_decay": tune.loguniform(1e-6, 1e-2),
            "epochs": epochs,
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=samples,
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=1 if arguments.smoke_test else 3,
                hyperparam_mutations={
                    "lr": tune.loguniform(1e-3, 0.3),
                    "momentum": [0.0, 0.5, 0.8, 0.9],
                    "weight_decay": tune.loguniform(1e-6, 1e-2),
                },
            ),
        ),
        run_config=tune.RunConfig(
            storage_path=arguments.storage_path,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )


def main() -> None:
    """Train the population, then load its best network again and test it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30, help="of each network (default: 30)")
    parser.add_argument("--samples", type=int, default=8, help="population (default: 8)")
    parser.add_argument(
        "--storage-path",
        default=os.path.expanduser("~/milepost_results"),
        help="where results go (default: ~/milepost_results)",
    )
    parser.add_argument("--restore", metavar="DIRECTORY", help="an experiment that was cut")
    parser.add_argument("--smoke-test", action="store_true", help="4 networks, 4 epochs")
    grid = tuner(parser.parse_args()).fit()
    if grid.errors:
        sys.exit(f"{grid.num_errors} trials failed: {grid.errors[0]}")

    best = grid.get_best_result()
    model = build()
    with best.checkpoint.as_directory() as folder:
        model.load_state_dict(torch.load(os.path.join(folder, "state.pt"))["model"])
    _, test_x, _, test_y = load_data()
    for stretch in reversed(best.lineage()):
        print(f"{stretch.trial_id}: epochs {stretch.start} to {stretch.end} with {stretch.config}")
    print(f"{len(grid)} trials; the best is {best.metrics['trial_id']}")
    print(
        f"Its checkpoint of epoch {best.metrics['training_iteration']}, loaded again, tells "
        f"{accuracy(model, test_x, test_y):.1%} of the test digits right"
    )


if __name__ == "__main__":
    main()
