"""Train a small transformer to write Python, character by character, with several workers.

    python examples/ddp_transformer.py               # about a minute
    python examples/ddp_transformer.py --smoke-test  # some seconds

Kill it, or any of its processes, and start it again: it ends with the weights that it would have
had without, to the last bit. It needs PyTorch; the text to learn is the source of a module of
Python's standard library.
"""

from __future__ import annotations

import argparse
import inspect
import os
import tempfile
import textwrap
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from milepost import train
from milepost.train.torch import TorchTrainer, get_device, load_state, prepare_model, save_state

SYMBOLS = 128  # those of ASCII
LENGTH = 64  # how many characters the model looks back


class Writer(nn.Module):
    """Tells for each character of a text which one comes next, from those before it."""

    def __init__(self, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, width)
        self.places = nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.next = nn.Linear(width, SYMBOLS)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        length = text.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=text.device)
        seen = self.symbols(text) + self.places.weight[:length]
        return self.next(self.layers(seen, mask=mask, is_causal=True))


def load_text() -> torch.Tensor:
    """Return what is to be learned, as numbers of characters."""
    return torch.tensor([ord(each) for each in inspect.getsource(textwrap) if ord(each) < SYMBOLS])


def train_writer(config: dict[str, Any]) -> None:
    """What each worker does: its share of each batch, with gradients averaged over all."""
    rank, workers = train.get_context().get_world_rank(), train.get_context().get_world_size()
    torch.manual_seed(0)
    text = load_text().to(get_device())
    model = prepare_model(Writer())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    state = {"model": model, "optimizer": optimizer, "step": 0}

    checkpoint = train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            load_state(state, folder)

    for step in range(state["step"] + 1, config["steps"] + 1):
        # What is random in a step, its passages and dropout, follows from the step and the rank,
        # not from what this process did before: so a step that is done again is the same.
        torch.manual_seed(step * workers + rank)
        starts = torch.randint(len(text) - LENGTH, (config["batch"] // workers,))
        passages = torch.stack([text[start : start + LENGTH + 1] for start in starts])
        guesses = model(passages[:, :-1])
        loss = functional.cross_entropy(guesses.flatten(0, 1), passages[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state["step"] = step
        if step % config["save_every"] == 0 or step == config["steps"]:
            with tempfile.TemporaryDirectory() as folder:
                save_state(state, folder)
                checkpoint = train.Checkpoint.from_directory(folder)
                train.report({"loss": loss.item(), "step": step}, checkpoint=checkpoint)


@torch.no_grad()
def write(model: nn.Module, beginning: str, length: int) -> str:
    """Let the model go on with a text, always with the most likely character."""
    model.eval()
    text = torch.tensor([[ord(each) for each in beginning]])
    for _ in range(length):
        following = model(text[:, -LENGTH:])[:, -1].argmax(dim=1, keepdim=True)
        text = torch.cat([text, following], dim=1)
    return "".join(map(chr, text[0].tolist()))


def main() -> None:
    """Train, then load the network again, in this process alone, and let it write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="how many train (default: 2)")
    parser.add_argument("--steps", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--name", default="writer", help="of the run (default: writer)")
    parser.add_argument(
        "--storage-path",
        default=os.path.expanduser("~/milepost_results"),
        help="where results go (default: ~/milepost_results)",
    )
    parser.add_argument("--smoke-test", action="store_true", help="40 steps")
    arguments = parser.parse_args()
    steps = 40 if arguments.smoke_test else arguments.steps
    result = TorchTrainer(
        train_writer,
        train_loop_config={"lr": 3e-3, "batch": 32, "steps": steps, "save_every": 20},
        scaling_config=train.ScalingConfig(num_workers=arguments.workers),
        run_config=train.RunConfig(
            name=arguments.name,
            storage_path=arguments.storage_path,
            failure_config=train.FailureConfig(max_failures=3),
            checkpoint_config=train.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()

    model = Writer()
    with result.checkpoint.as_directory() as folder:
        load_state({"model": model}, folder)
    print(f"After step {result.metrics['step']}, with a loss of {result.metrics['loss']:.2f}:")
    print(write(model, "    def ", 150))


if __name__ == "__main__":
    main()
