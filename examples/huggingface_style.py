"""A training loop in the style of Hugging Face's Trainer, in plain PyTorch, for several workers.

    python examples/huggingface_style.py               # some seconds
    python examples/huggingface_style.py --smoke-test  # fewer

The loop writes ``output_dir/checkpoint-N`` every so many steps and tells its callbacks, one of
which reports what was written. Stop it in any way you like, and start it again: it goes on. It
needs PyTorch and scikit-learn. For the real Trainer there is a callback that does the same, see
docs/train-frameworks.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

from milepost import train
from milepost.train.torch import TorchTrainer, load_state, prepare_model, save_state


class Trainer:
    """Trains a model for ``max_steps``, and saves it after each ``save_steps`` of them."""

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
        *,
        output_dir: str,
        max_steps: int,
        save_steps: int,
        callbacks: list[Any],
    ) -> None:
        self.model, self.batches, self.callbacks = model, batches, callbacks
        self.output_dir, self.max_steps, self.save_steps = output_dir, max_steps, save_steps
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        self.state = {"model": model, "optimizer": self.optimizer, "global_step": 0}
        self.log: dict[str, float] = {}

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Train to the end, from the beginning or from where a checkpoint was made."""
        if resume_from_checkpoint:
            load_state(self.state, resume_from_checkpoint)
        for step in range(self.state["global_step"] + 1, self.max_steps + 1):
            images, labels = self.batches(step)
            loss = nn.functional.cross_entropy(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.state["global_step"] = step
            self.log = {"step": step, "loss": loss.item()}
            if step % self.save_steps == 0 or step == self.max_steps:
                self.save()

    def save(self) -> None:
        """Write ``output_dir/checkpoint-<step>`` and tell the callbacks."""
        folder = os.path.join(self.output_dir, f"checkpoint-{self.state['global_step']}")
        save_state(self.state, folder)
        for callback in self.callbacks:
            callback.on_save(self, folder)


class ReportCallback:
    """Reports each checkpoint that a trainer has saved; the run keeps it, so that ours can go."""

    def on_save(self, trainer: Trainer, folder: str) -> None:
        train.report(
            trainer.log,
            checkpoint=train.Checkpoint.from_directory(folder),
            delete_local_checkpoint_after_upload=True,
        )


def train_digits(config: dict[str, Any]) -> None:
    """What each worker does: batches of its own, with gradients averaged over all."""
    rank = train.get_context().get_world_rank()
    pixels, digits = load_digits(return_X_y=True)
    images, labels = torch.tensor(pixels, dtype=torch.float32) / 16, torch.tensor(digits)

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Made of the step and the rank: a step that is done again has the same batch.
        drawn = torch.Generator().manual_seed(1000 * step + rank)
        chosen = torch.randint(len(images), (32,), generator=drawn)
        return images[chosen], labels[chosen]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = Trainer(
            prepare_model(model),
            batches,
            output_dir=output_dir,
            max_steps=config["max_steps"],
            save_steps=config["save_steps"],
            callbacks=[ReportCallback()],
        )
        checkpoint = train.get_checkpoint()
        if checkpoint:
            with checkpoint.as_directory() as folder:
                trainer.train(resume_from_checkpoint=folder)
        else:
            trainer.train()


def main() -> None:
    """Train, and say where the best checkpoint is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage-path", help="(default: ~/milepost_results)")
    parser.add_argument("--smoke-test", action="store_true", help="100 steps instead of 2000")
    arguments = parser.parse_args()
    steps = 100 if arguments.smoke_test else 2000
    result = TorchTrainer(
        train_digits,
        train_loop_config={"max_steps": steps, "save_steps": steps // 4},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            name="huggingface_style",
            storage_path=arguments.storage_path,
            failure_config=train.FailureConfig(max_failures=3),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="loss", checkpoint_score_order="min"
            ),
        ),
    ).fit()
    checkpoint, metrics = result.best_checkpoints[-1]
    print(f"The best of step {metrics['step']}, with a loss of {metrics['loss']:.3f}, is at")
    print(checkpoint.path)


if __name__ == "__main__":
    main()
