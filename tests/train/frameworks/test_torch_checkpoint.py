"""Checkpoints with a model of PyTorch: what is in them, and what is loaded without being asked."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from milepost.train import Checkpoint
from milepost.train.torch import TorchCheckpoint

torch = pytest.importorskip("torch")


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_state_dict() -> None:
    """Its names are those of the plain module; it is loaded into the module that is given."""
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    for state in (model.state_dict(), wrapped):
        made = TorchCheckpoint.from_state_dict(state)
        assert os.listdir(made.path) == ["model.pt"]
        assert made.get_model(other) is other
        assert equal(model, other)
    with pytest.raises(ValueError, match=r"get_model\(model\)"):
        made.get_model()


def test_a_whole_model() -> None:
    """It is a pickle, which is loaded only when that is asked for."""
    model = torch.nn.Linear(3, 2)
    made = TorchCheckpoint.from_model(model)
    with pytest.raises(pickle.UnpicklingError, match=r"get_model\(weights_only=False\)"):
        made.get_model()
    assert equal(made.get_model(weights_only=False), model)
    with pytest.warns(UserWarning, match="is not used"):
        made.get_model(model, weights_only=False)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    """Neither in a model nor among weights."""

    class Bomb:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Bomb()}, tmp_path / "model.pt")
    found = TorchCheckpoint.from_checkpoint(Checkpoint.from_directory(tmp_path))
    with pytest.raises(pickle.UnpicklingError):
        found.get_model(torch.nn.Linear(3, 2))
    assert not (tmp_path / "ran").exists()


def test_other_files(tmp_path: Path) -> None:
    """The error says what there is."""
    found = TorchCheckpoint.from_checkpoint(Checkpoint.from_directory(tmp_path))
    with pytest.raises(FileNotFoundError, match="It has: no files"):
        found.get_model()
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(ValueError, match="neither a model nor its state, but list"):
        found.get_model()


def test_a_model_that_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the checkpoint."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        TorchCheckpoint.from_state_dict({"weight": lambda: None})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.chaos
def test_reports_take_it_away(tmp_path: Path) -> None:
    """A run keeps it; its temporary directory is gone."""
    from milepost import train
    from milepost.train import RunConfig
    from milepost.train.torch import TorchTrainer

    def loop() -> str:
        made = TorchCheckpoint.from_state_dict(torch.nn.Linear(3, 2).state_dict())
        train.report({"loss": 1.0}, checkpoint=made)
        train.get_checkpoint()
        return str(made.path)

    run = RunConfig(name="run", storage_path=str(tmp_path), verbose=0)
    result = TorchTrainer(loop, run_config=run).fit()
    kept = TorchCheckpoint.from_checkpoint(result.checkpoint)
    assert isinstance(kept.get_model(torch.nn.Linear(3, 2)), torch.nn.Linear)
    assert not os.path.exists(result.return_value)
