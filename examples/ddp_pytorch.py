"""Train a small convolutional network on handwritten digits with several workers.

    python examples/ddp_pytorch.py               # about a minute
    python examples/ddp_pytorch.py --smoke-test  # some seconds

Stop it in any way you like, and start it again: it goes on from its latest checkpoint, also with
another number of ``--workers``. It needs PyTorch and scikit-learn, whose digits data set ships
inside the package.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from milepost import train
from milepost.train.torch import (
    TorchTrainer,
    load_state,
    prepare_data_loader,
    prepare_model,
    save_state,
)


def load_data() -> list[torch.Tensor]:
    """Return images for training and testing, then their labels: 1,797 digits of 8 x 8 pixels."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return list(train_test_split(pixels, torch.tensor(labels), test_size=0.25, random_state=0))


def build() -> nn.Module:
    """Return the network."""
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
    """What each worker does: its share of the images, with gradients averaged over all."""
    torch.manual_seed(0)
    train_x, test_x, train_y, test_y = load_data()
    model = prepare_model(build())
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    data = TensorDataset(train_x, train_y)
    loader = prepare_data_loader(DataLoader(data, batch_size=32, shuffle=True))
    state = {"model": model, "optimizer": optimizer, "epoch": 0}

    checkpoint = train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            load_state(state, folder)

    for epoch in range(state["epoch"], config["epochs"]):
        model.train()
        loader.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        state["epoch"] = epoch + 1
        metrics = {"loss": loss.item(), "accuracy": accuracy(model, test_x, test_y)}
        with tempfile.TemporaryDirectory() as folder:
            save_state(state, folder)
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def main() -> None:
    """Train, then load the best network again, in this process alone, and test it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="how many train (default: 2)")
    parser.add_argument("--epochs", type=int, default=20, help="(default: 20)")
    parser.add_argument("--name", default="digits", help="of the run (default: digits)")
    parser.add_argument(
        "--storage-path",
        default=os.path.expanduser("~/milepost_results"),
        help="where results go (default: ~/milepost_results)",
    )
    parser.add_argument("--smoke-test", action="store_true", help="2 epochs")
    arguments = parser.parse_args()
    result = TorchTrainer(
        train_digits,
        train_loop_config={"lr": 0.05, "epochs": 2 if arguments.smoke_test else arguments.epochs},
        scaling_config=train.ScalingConfig(num_workers=arguments.workers),
        run_config=train.RunConfig(
            name=arguments.name,
            storage_path=arguments.storage_path,
            failure_config=train.FailureConfig(max_failures=3),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute="accuracy"
            ),
        ),
    ).fit()

    checkpoint, metrics = result.best_checkpoints[-1]
    model = build()
    with checkpoint.as_directory() as folder:
        load_state({"model": model}, folder)
    _, test_x, _, test_y = load_data()
    print(
        f"The checkpoint of epoch {metrics['training_iteration']}, loaded again, tells "
        f"{accuracy(model, test_x, test_y):.1%} of the test digits right"
    )


if __name__ == "__main__":
    main()
