"""A training loop in the style of Lightning, in plain PyTorch, for several workers.

    python examples/lightning_style.py               # some seconds
    python examples/lightning_style.py --smoke-test  # fewer

A module says what is trained, the loop how, and a callback reports at the end of each epoch. Stop
it in any way you like, and start it again: it goes on. It needs PyTorch and scikit-learn. For
Lightning itself there is a callback that does the same, see docs/train-frameworks.md.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from milepost import train
from milepost.train.torch import (
    TorchTrainer,
    load_state,
    prepare_data_loader,
    prepare_model,
    save_state,
)


class Digits:
    """A network that reads digits, and how it is trained."""

    def __init__(self, lr: float) -> None:
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.network, self.lr = prepare_model(network), lr

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: list[torch.Tensor]) -> float:
        images, labels = batch
        return (self.network(images).argmax(dim=1) == labels).float().mean().item()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=self.lr, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)


class Trainer:
    """Trains a module for ``max_epochs``, and tells its callbacks of the end of each."""

    def __init__(self, max_epochs: int, callbacks: list[Any]) -> None:
        self.max_epochs, self.callbacks = max_epochs, callbacks
        self.metrics: dict[str, float] = {}
        self.state: dict[str, Any] = {"epoch": 0}

    def fit(self, module: Any, loader: Any, valid: Any, ckpt_path: str | None = None) -> None:
        """Train to the end, from the beginning or from where a checkpoint was made."""
        optimizer, scheduler = module.configure_optimizers()
        self.state |= {"network": module.network, "optimizer": optimizer, "scheduler": scheduler}
        if ckpt_path:
            load_state(self.state, ckpt_path)
        for epoch in range(self.state["epoch"] + 1, self.max_epochs + 1):
            module.network.train()
            loader.set_epoch(epoch)
            for batch in loader:
                optimizer.zero_grad()
                loss = module.training_step(batch)
                loss.backward()
                optimizer.step()
            scheduler.step()
            module.network.eval()
            with torch.no_grad():
                shares = [module.validation_step(batch) for batch in valid]
            self.metrics = {"loss": loss.item(), "accuracy": sum(shares) / len(shares)}
            self.state["epoch"] = epoch
            for callback in self.callbacks:
                callback.on_train_epoch_end(self, module)

    def save_checkpoint(self, folder: str) -> None:
        """Write all that :meth:`fit` needs to go on."""
        save_state(self.state, folder)


class ReportCallback:
    """Reports the metrics of each epoch, with a checkpoint."""

    def on_train_epoch_end(self, trainer: Trainer, module: Digits) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainer.save_checkpoint(folder)
            train.report(trainer.metrics, checkpoint=train.Checkpoint.from_directory(folder))


def train_digits(config: dict[str, Any]) -> None:
    """What each worker does: its share of the images, with gradients averaged over all."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    learned, tested = random_split(digits, [0.75, 0.25])
    loader = prepare_data_loader(DataLoader(learned, batch_size=32, shuffle=True))
    trainer = Trainer(config["max_epochs"], callbacks=[ReportCallback()])
    module, valid = Digits(config["lr"]), DataLoader(tested, batch_size=len(tested))
    checkpoint = train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            trainer.fit(module, loader, valid, ckpt_path=folder)
    else:
        trainer.fit(module, loader, valid)


def main() -> None:
    """Train, and say where the best checkpoint is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage-path", help="(default: ~/milepost_results)")
    parser.add_argument("--smoke-test", action="store_true", help="2 epochs instead of 20")
    arguments = parser.parse_args()
    result = TorchTrainer(
        train_digits,
        train_loop_config={"lr": 0.05, "max_epochs": 2 if arguments.smoke_test else 20},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            name="lightning_style",
            storage_path=arguments.storage_path,
            failure_config=train.FailureConfig(max_failures=3),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="accuracy"
            ),
        ),
    ).fit()
    checkpoint, metrics = result.best_checkpoints[-1]
    print(f"The best tells {metrics['accuracy']:.1%} of the test digits right, and is at")
    print(checkpoint.path)


if __name__ == "__main__":
    main()
