"""Transformers in training workers; the last tests need the library."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from milepost import train
from milepost.train import collective
from milepost.train.huggingface.transformers import prepare_trainer
from milepost.train.torch import TorchTrainer

HERE = "milepost.train.huggingface.transformers"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our callback, on a library that has only the base class."""
    fake = ModuleType("transformers")
    fake.TrainerCallback = type("TrainerCallback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.delitem(sys.modules, f"{HERE}.callback", raising=False)
    yield import_module(f"{HERE}.callback")
    sys.modules.pop(f"{HERE}.callback", None)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be imported; the error comes with the callback, and has the command."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, f"{HERE}.callback", raising=False)
    with pytest.raises(ImportError, match="run `pip install transformers`"):
        _ = import_module(HERE).RayTrainReportCallback


def saves(directory: Path, *files: str) -> SimpleNamespace:
    """What Transformers passes after it has saved in step 4; a later checkpoint is left over."""
    for step in (4, 9):
        for name in files:
            path = directory / f"checkpoint-{step}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of {step}")
    return SimpleNamespace(output_dir=str(directory))


@pytest.mark.parametrize(
    ("rank", "shared", "brings"),
    [
        (0, True, ["a", "b"]),
        (1, True, None),
        (1, False, ["b"]),
    ],
)
def test_who_brings_what(
    rank: int,
    shared: bool,
    brings: list[str] | None,
    library: Any,
    worker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rank 0 brings a directory that is shared; with one for each, each brings its own."""
    seen: list[Any] = []

    def report(metrics: dict[str, Any], checkpoint: Any = None) -> None:
        found = None
        if checkpoint is not None:
            root = Path(checkpoint.path, "checkpoint")
            found = sorted(path.name for path in root.iterdir())
            assert all(path.read_text().endswith("of 4") for path in root.iterdir())
        seen.append((metrics, found))

    monkeypatch.setattr(library, "report", report)
    first = tmp_path / "first"
    theirs = os.path.realpath(first / "checkpoint-4")
    monkeypatch.setattr(collective, "broadcast_from_rank_zero", lambda own: theirs)
    arguments = saves(first, "a", "b")
    if not shared:
        arguments = saves(tmp_path / "second", "b")
    log = [{"loss": 2.0, "step": 2}, {"eval_loss": 1.5, "step": 4}]
    state = SimpleNamespace(log_history=log, global_step=4)
    with worker(rank, 2):
        library.RayTrainReportCallback().on_save(arguments, state, None)
    assert seen == [({"loss": 2.0, "eval_loss": 1.5, "step": 4}, brings)]


def test_nothing_saved(
    library: Any, worker: Any, reports: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Metrics are reported all the same."""
    monkeypatch.setattr(collective, "broadcast_from_rank_zero", lambda own: own)
    monkeypatch.setattr(library, "report", reports.append)
    state = SimpleNamespace(log_history=[{"loss": 1.0}], global_step=4)
    with worker(0, 2):
        library.RayTrainReportCallback().on_save(
            SimpleNamespace(output_dir=str(tmp_path)), state, None
        )
    assert reports == [{"loss": 1.0}]


def test_trainers_that_do_not_fit(worker: Any) -> None:
    """One that has found fewer workers would train a model of its own."""
    trainer = SimpleNamespace(args=SimpleNamespace(world_size=1))
    with worker(0, 2), pytest.raises(RuntimeError, match="found 1 workers, there are 2"):
        prepare_trainer(trainer)
    with worker(0, 1):
        assert prepare_trainer(trainer) is trainer


def loop(config: dict[str, Any]) -> list[Any]:
    """Train a small model; returns the steps done at the start, and the number of workers."""
    import warnings

    import torch
    import transformers

    from milepost.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer

    warnings.simplefilter("ignore")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            made = self.layer(x)
            return {"loss": torch.nn.functional.mse_loss(made, labels), "logits": made}

    begun: list[int] = []

    class Note(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            begun.append(state.global_step)

    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    rows = [{"x": row, "labels": row.sum(0, keepdim=True)} for row in x]
    trainer = transformers.Trainer(
        model=Net(),
        args=transformers.TrainingArguments(
            output_dir="out",
            max_steps=config["steps"],
            save_steps=2,
            logging_steps=2,
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="steps",
        ),
        train_dataset=rows,
        callbacks=[RayTrainReportCallback(), Note()],
    )
    trainer = prepare_trainer(trainer)
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            trainer.train(resume_from_checkpoint=f"{directory}/checkpoint")
    else:
        trainer.train()
    return [begun[0], trainer.args.world_size]


@pytest.mark.timeout(300)
def test_two_workers_save_and_go_on(make: Any) -> None:
    """A checkpoint has the state of both; a second run goes on where the first ended."""
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    for steps, begins in ((4, 0), (6, 4)):
        config = {"steps": steps}
        result = make(TorchTrainer, loop, train_loop_config=config).fit()
        assert result.return_value == [begins, 2]
        assert result.metrics["step"] == steps
    files = {path.name for path in Path(result.checkpoint.path, "checkpoint").iterdir()}
    assert {"trainer_state.json", "rng_state_0.pth", "rng_state_1.pth", "optimizer.pt"} <= files
