"""``assert_resumable`` with torch: what is forgotten most often."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from milepost import tune
from milepost.testing import assert_resumable

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("scratch"),
    pytest.mark.preloading,  # each of many workers needs torch
]


def torch_training(config: dict[str, Any]) -> None:
    """A small network with momentum, dropout, a schedule and shuffled data."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    inputs = torch.randn(32, 4)
    data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory, "state.pt"), weights_only=True)
        start = state["epoch"]
        for name, part in parts.items():
            if name != config.get("forgets"):
                part.load_state_dict(state[name])
        if config.get("forgets") != "rng":
            torch.set_rng_state(state["rng"])
    for epoch in range(start + 1, 5):
        loss = torch.tensor(0.0)
        for batch, target in DataLoader(data, batch_size=8, shuffle=True):
            loss = torch.nn.functional.mse_loss(model(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        with tempfile.TemporaryDirectory() as directory:
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"epoch": epoch, "rng": torch.get_rng_state()}
            torch.save(state, Path(directory, "state.pt"))
            tune.report({"loss": loss.item()}, checkpoint=tune.Checkpoint.from_directory(directory))


@pytest.mark.chaos
def test_torch_that_forgets_nothing() -> None:
    """Weights, momentum, schedule, dropout and the order of data go on bit by bit."""
    assert_resumable(torch_training, iterations=3)


@pytest.mark.parametrize("forgets", ["optimizer", "rng"])
@pytest.mark.chaos
def test_torch_that_forgets_something(forgets: str) -> None:
    """Without momentum, or with other numbers drawn, the loss or the files differ."""
    with pytest.raises(AssertionError, match="torch_training is not resumable") as caught:
        assert_resumable(torch_training, {"forgets": forgets}, iterations=3, after=[2])
    assert "loss: " in str(caught.value) or "state.pt:" in str(caught.value)
