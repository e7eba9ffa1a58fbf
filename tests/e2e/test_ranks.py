"""Four ranks that are slow here and there, and one that is killed at some step of some report."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import train
from milepost.train import DataParallelTrainer, FailureConfig, RunConfig, ScalingConfig
from milepost.worker.captures import Captures
from milepost.worker.dialog import Dialog

pytestmark = pytest.mark.timeout(120)

RANKS, STEPS = 4, 5
#: What a report consists of, in this order.
PARTS: dict[str, tuple[type, str]] = {
    "meet": (Dialog, "meet"),
    "capture": (Captures, "capture"),
    "tell": (Dialog, "decision"),
    "announce": (Captures, "announce"),
}
MOMENTS = [f"{when} {part}" for part in PARTS for when in ("before", "after")]


def disturb(rng: random.Random, moment: str, at: int, kill: Callable[[], None]) -> None:
    """Delay each part of a report a little; kill at the moment named, in report number ``at``."""
    for part, (owner, name) in PARTS.items():
        real, calls = getattr(owner, name), iter(range(1, 1000))

        @functools.wraps(real)
        def slowly(
            *args: Any,
            part: str = part,
            real: Callable[..., Any] = real,
            calls: Any = calls,
            **options: Any,
        ) -> Any:
            number = next(calls)
            if number == at and moment == f"before {part}":
                kill()
            threading.Event().wait(rng.random() * 0.01)
            result = real(*args, **options)
            if number == at and moment == f"after {part}":
                kill()
            return result

        setattr(owner, name, slowly)


def kill_once(config: dict[str, Any]) -> None:
    """Kill this process, or the keeper of the run."""
    mark = Path(config["mark"])
    if mark.exists():
        return
    mark.touch()
    if config["keeper_of"]:
        for keeper in keepers(config["keeper_of"]):
            os.kill(keeper, signal.SIGKILL)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def keepers(driver: int) -> list[int]:
    """Processes that keep the checkpoints of a driver."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"milepost.keeper" in words and str(driver).encode() in words:
            found.append(int(entry.parent.name))
    return found


def loop(config: dict[str, Any]) -> str:
    """Each rank has a state of its own, made of all its steps; it returns that of rank 0."""
    context = train.get_context()
    rank = context.get_world_rank()
    moment = config["moment"] if rank == config["rank"] else ""
    rng = random.Random(config["seed"] * RANKS + rank)
    disturb(rng, moment, config["at"], functools.partial(kill_once, config))
    state, first = "", 0
    if (checkpoint := train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as directory:
            texts = [Path(directory, f"state-{each}").read_text().split() for each in range(RANKS)]
        assert {text[0] for text in texts} == {texts[0][0]}, "all parts are of one report"
        first, state = int(texts[rank][0]), texts[rank][1]
    for step in range(first + 1, STEPS + 1):
        state = hashlib.sha256(f"{state} {rank} {step}".encode()).hexdigest()
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, f"state-{rank}").write_text(f"{step} {state}")
            made = train.Checkpoint.from_directory(directory)
            train.report({"step": step, "state": state}, checkpoint=made)
    return state


def fitted(root: Path, **config: Any) -> train.Result:
    config = {"mark": str(root / "mark"), "keeper_of": 0, **config}
    return DataParallelTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=RANKS, resources_per_worker={"CPU": 0.25}),
        run_config=RunConfig(
            name="run",
            storage_path=str(root),
            verbose=0,
            failure_config=FailureConfig(max_failures=1),
        ),
    ).fit()


def uncut() -> list[list[str]]:
    """The states of all ranks after each step."""
    found = []
    for rank in range(RANKS):
        states = [""]
        for step in range(1, STEPS + 1):
            states.append(hashlib.sha256(f"{states[-1]} {rank} {step}".encode()).hexdigest())
        found.append(states)
    return found


def assert_as_uncut(result: train.Result, root: Path) -> None:
    """The states are the same, each step counts once, and each checkpoint is whole."""
    assert (root / "mark").exists(), "something was killed"
    states = uncut()
    assert result.return_value == states[0][-1]
    frame = result.metrics_dataframe
    assert frame is not None
    assert list(frame["step"]) == list(range(1, STEPS + 1))
    assert list(frame["state"]) == states[0][1:]
    found = sorted((root / "run").glob("checkpoint_*"))
    assert len(found) == STEPS
    for step, path in enumerate(found, 1):
        assert {each.name: each.read_text() for each in path.glob("state-*")} == {
            f"state-{each}": f"{step} {states[each][step]}" for each in range(RANKS)
        }
    assert result.checkpoint is not None
    assert result.checkpoint.path == str(found[-1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.always("after capture-2-0")
def test_a_worker_killed_at_each_step_of_a_report(
    tmp_path: Path, moment: str, rank: int, seed: int
) -> None:
    """All begin again from the newest checkpoint that is whole."""
    at = random.Random(f"{moment} {rank} {seed}").randint(1, STEPS)
    result = fitted(tmp_path, moment=moment, rank=rank, at=at, seed=seed)
    assert_as_uncut(result, tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_keeper_killed_at_each_step_of_a_report(tmp_path: Path, moment: str, rank: int) -> None:
    """Another one takes over: no worker has to begin again, and no part is lost."""
    at = random.Random(f"{moment} {rank}").randint(1, STEPS)
    result = fitted(tmp_path, moment=moment, rank=rank, at=at, seed=7, keeper_of=os.getpid())
    assert_as_uncut(result, tmp_path)
