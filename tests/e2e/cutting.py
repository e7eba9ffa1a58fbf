"""The examples that train with several workers, and what cuts them at an event of one of them.

As a script: ``cutting.py EXAMPLE ROOT [VICTIM RANK REPORTS EVENT NUMBER]``.
"""

from __future__ import annotations

import collections
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from milepost import train
from milepost.train import FailureConfig, Result, RunConfig, ScalingConfig
from milepost.train.torch import TorchTrainer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: example -> its training function and what that is given, for a few steps and three checkpoints.
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "ddp_pytorch": ("train_digits", {"lr": 0.05, "epochs": 3}),
    "ddp_transformer": (
        "train_writer",
        {"lr": 3e-3, "batch": 8, "steps": 6, "save_every": 2},
    ),
}


class Cut(NamedTuple):
    """What dies, and when.

    Attributes:
        victim: ``"worker"`` or ``"driver"``.
        rank: the worker whose events count, and which dies if it is the worker.
        reports: how many reports of that worker have returned before.
        event: ``"forward"``, before which gradients of the others wait for ours; ``"step"`` and
            ``"stepped"``, before and after the optimizer's step; ``"report"`` and ``"reported"``.
        number: at which of these events after those reports, from 1.
    """

    victim: str
    rank: int
    reports: int
    event: str
    number: int


def watched(config: dict[str, Any]) -> None:
    """Train as the example does. At the event that is named, the victim is killed, once."""
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import optimizer

    cut, mark = config["cut"], Path(config["mark"])
    if cut is not None and not mark.exists() and train.get_context().get_world_rank() == cut.rank:
        seen: collections.Counter[str] = collections.Counter()

        def happens(event: str) -> None:
            if seen["returned"] != cut.reports:
                return
            seen[event] += 1
            if seen[cut.event] == cut.number:
                mark.touch()
                os.kill(config["driver"] if cut.victim == "driver" else os.getpid(), signal.SIGKILL)
                signal.pause()  # until the driver's death is ours

        def forward(module: Any, inputs: Any) -> None:
            if isinstance(module, DistributedDataParallel):
                happens("forward")

        def reported(*args: Any, report: Any = train.report, **options: Any) -> None:
            happens("report")
            report(*args, **options)
            happens("reported")
            seen["returned"] += 1

        register_module_forward_pre_hook(forward)
        optimizer.register_optimizer_step_pre_hook(lambda *about: happens("step"))
        optimizer.register_optimizer_step_post_hook(lambda *about: happens("stepped"))
        train.report = reported
    config["function"](config["given"])


def fit(example: str, root: str, cut: Cut | None = None) -> Result:
    """Train an example in ``root/run``; a worker that dies may start again once."""
    function, given = TRAINED[example]
    config = {
        # What it refers to travels with it: workers do not import the example.
        "function": runpy.run_path(str(EXAMPLES / f"{example}.py"))[function],
        "given": given,
        "cut": cut,
        "mark": os.path.join(root, "mark"),
        "driver": os.getpid(),
    }
    return TorchTrainer(
        watched,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(
            name="run", storage_path=root, failure_config=FailureConfig(max_failures=1)
        ),
    ).fit()


def outcome(run: str) -> tuple[dict[str, bytes], list[float]]:
    """What a run came to: the files of its last checkpoint, and the loss of each report."""
    result = Result.from_path(run)
    assert result.checkpoint is not None
    assert result.metrics_dataframe is not None
    files = {path.name: path.read_bytes() for path in Path(result.checkpoint.path).glob("state*")}
    return files, list(result.metrics_dataframe["loss"])


if __name__ == "__main__":
    example, root, *rest = sys.argv[1:]
    fit(
        example,
        root,
        Cut(*(int(each) if each.isdecimal() else each for each in rest)) if rest else None,
    )
