"""Tune a network on handwritten digits, kill one of its workers, and watch the trial go on.

Run it with ``make demo``, or ``python examples/demo.py [directory for results]``. It needs PyTorch
and scikit-learn, whose digits data set ships inside the package.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from milepost import tune

EPOCHS = 12
KILL_AFTER = EPOCHS // 2


def load_data() -> list[torch.Tensor]:
    """Return images for training and testing, then their labels: 1,797 digits of 8 x 8 pixels."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, torch.tensor(labels), test_size=0.25, random_state=0
    )
    return [train_x, test_x, train_y, test_y]


def build(channels: int, dropout: float) -> nn.Module:
    """Return a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * channels * 16, 10),
    )


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images whose digit the model tells right."""
    model.eval()
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def train_digits(config: dict[str, Any]) -> None:
    """Train one network, with a checkpoint at each epoch."""
    train_x, test_x, train_y, test_y = load_data()
    model = build(config["channels"], config["dropout"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    first = 1

    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = torch.load(os.path.join(folder, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
        print(f"goes on at epoch {first}, from {os.path.basename(checkpoint.path)}")

    for epoch in range(first, EPOCHS + 1):
        model.train()
        for batch in torch.randperm(len(train_x)).split(32):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
        metrics = {"loss": loss.item(), "accuracy": accuracy(model, test_x, test_y)}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(
                {
                    "epoch": epoch,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
                os.path.join(folder, "state.pt"),
            )
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


class KillOneWorker(tune.Callback):
    """Kills the worker of the first trial that is half-way through, once, as hard as it gets."""

    def __init__(self) -> None:
        self.victim: str | None = None

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Kill the worker that has just reported its epoch."""
        if self.victim is None and result["training_iteration"] == KILL_AFTER:
            self.victim = trial.trial_id
            print(f">>> kill -9 {result['pid']}: the worker of {trial}, after epoch {KILL_AFTER}")
            os.kill(result["pid"], signal.SIGKILL)


def prove_resume(result: tune.Result) -> None:
    """Show from the trial's own result file that the kill cost no epoch and repeated none."""
    rows = [json.loads(line) for line in Path(result.path, "result.json").read_text().splitlines()]
    runs: dict[int, list[int]] = {}
    for row in rows:
        runs.setdefault(row["pid"], []).append(row["training_iteration"])
    print(f"\nThe killed trial, {Path(result.path).name}:")
    for number, (pid, epochs) in enumerate(runs.items(), start=1):
        print(f"  worker {number} (pid {pid}) reported epochs {epochs[0]} to {epochs[-1]}")
    seen = [row["training_iteration"] for row in rows]
    if seen != list(range(1, EPOCHS + 1)) or len(runs) != 2:
        sys.exit(f"The resume failed: epochs {seen} by {len(runs)} workers.")
    print(f"  each of its {EPOCHS} epochs ran exactly once")


def main() -> None:
    """Tune, then show the best network and the killed trial."""
    began = time.perf_counter()
    killer = KillOneWorker()
    tuner = tune.Tuner(
        train_digits,
        param_space={
            "lr": tune.loguniform(3e-4, 3e-2),
            "channels": tune.grid_search([8, 16]),
            "dropout": tune.uniform(0.0, 0.4),
        },
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=3),
        run_config=tune.RunConfig(
            storage_path=sys.argv[1] if len(sys.argv) > 1 else None,
            callbacks=[killer],
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="accuracy"
            ),
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    grid = tuner.fit()
    if grid.errors:
        sys.exit(f"{grid.num_errors} trials failed: {grid.errors[0]}")
    if killer.victim is None:
        sys.exit("The run was interrupted before a worker was killed.")

    best = grid.get_best_result()
    checkpoint, metrics = max(best.best_checkpoints, key=lambda pair: pair[1]["accuracy"])
    model = build(best.config["channels"], best.config["dropout"])
    with checkpoint.as_directory() as folder:
        model.load_state_dict(torch.load(os.path.join(folder, "state.pt"))["model"])
    _, test_x, _, test_y = load_data()
    print(f"Best: {', '.join(f'{name}={value:.4g}' for name, value in best.config.items())}")
    print(
        f"  its checkpoint of epoch {metrics['training_iteration']}, loaded again, tells "
        f"{accuracy(model, test_x, test_y):.1%} of the test digits right"
    )
    prove_resume(next(r for r in grid if r.metrics["trial_id"] == killer.victim))
    took = time.perf_counter() - began
    print(f"\n{len(grid)} trials in {took:.0f} s, all in {grid.experiment_path}")


if __name__ == "__main__":
    main()
