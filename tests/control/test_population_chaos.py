"""Many exploits with num_to_keep=1 while workers are killed: what is loaded, and what is left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from plans import plan

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.control.controller import run
from milepost.journal import records, replay
from milepost.tune.schedulers import PopulationBasedTraining


def train(config: dict[str, Any]) -> None:
    """Each checkpoint is a link in a chain: its digest depends on all that was trained before."""
    rng = random.Random(f"{config['seed']}-{os.getpid()}")
    step, chain, score = 0, "", 0.0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            step, chain, score = json.loads(Path(directory, "state").read_text())
    start = chain
    while step < config["steps"]:
        step += 1
        score = 0.97 * score + rng.gauss(0, 1)  # so that the best stay so for a while
        chain = hashlib.sha256(f"{chain}{config['lr']}{rng.random()}".encode()).hexdigest()
        if rng.random() < config["deadly"]:
            os.kill(os.getpid(), signal.SIGKILL)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "state").write_text(json.dumps([step, chain, score]))
            tune.report(
                {"score": score, "chain": chain, "start": start, "step": step},
                checkpoint=tune.Checkpoint.from_directory(directory),
            )


class Sizes(Callback):
    """Notes how much memory the driver has, now and then."""

    def __init__(self, every: int) -> None:
        self._every, self._count = every, 0
        self.rss: list[int] = []

    def on_trial_result(self, **info: Any) -> None:
        self._count += 1
        if self._count % self._every == 0:
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            self.rss.append(resident * os.sysconf("SC_PAGE_SIZE"))


def survive(tmp_path: Path, *, steps: int, deadly: float, seed: int, sizes: Sizes) -> int:
    """Have a population of eight live; return how often a trial went on from another."""
    random.seed(seed)
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        perturbation_interval=1,
        quantile_fraction=0.5,
        hyperparam_mutations={"lr": [1, 2, 3]},
    )
    assert scheduler.set_search_properties(None, None)
    configs = [{"lr": 1, "seed": seed, "steps": steps, "deadly": deadly} for _ in range(8)]
    outcome = run(
        plan(
            tmp_path,
            train,
            configs,
            cpus=8,
            scheduler=scheduler,
            callbacks=[sizes],
            checkpoint=CheckpointConfig(num_to_keep=1),
            failure=FailureConfig(max_failures=-1),
        )
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 8
    count = audit(outcome.experiment_path)
    files = {str(path) for t in outcome.trials for path in Path(t.directory).glob("checkpoint_*")}
    assert files == {trial.latest[1] for trial in outcome.trials} | {
        max(str(path) for path in Path(t.directory).glob("checkpoint_*")) for t in outcome.trials
    }
    names = {path.name for t in outcome.trials for path in Path(t.directory).iterdir()}
    assert not [name for name in names if name.startswith(".milepost-")], "nothing half-done"
    return count


def audit(experiment_path: str) -> int:
    """Whatever was loaded is what the journal says; return the number of exploits."""
    chains: dict[tuple[str, int], str] = {}
    digests: dict[tuple[str, int], str] = {}
    deleted: set[tuple[str, int]] = set()
    start: dict[str, tuple[str, int]] = {}  # the checkpoint of the running attempt
    fork: dict[str, tuple[str, int]] = {}
    last: dict[str, int] = {}
    steps: dict[tuple[str, int], int] = {}
    count = 0
    for _, record in replay.records(experiment_path):
        match record:
            case records.Reported(trial=trial, row=raw, checkpoint=index):
                row = json.loads(bytes(raw))
                expected = chains[start[trial]] if trial in start else ""
                assert row["start"] == expected, "it has loaded what the journal says"
                assert row["step"] == row["training_iteration"] == last[trial] + 1
                last[trial] = row["step"]
                if index is not None:
                    chains[trial, index], steps[trial, index] = row["chain"], row["step"]
            case records.Committed(trial=trial, index=index, digest=digest):
                digests[trial, index] = digest
                fork.pop(trial, None)
            case records.Deleting(trial=trial, index=index):
                deleted.add((trial, index))
                assert (trial, index) not in fork.values(), "somebody needs it"
            case records.Exploited(trial=trial, donor=donor, index=index, digest=digest):
                count += 1
                assert digests[donor, index] == digest
                assert (donor, index) not in deleted
                assert steps[donor, index] == record.iteration
                fork[trial] = donor, index
            case records.Launched(trial=trial, checkpoint=path):
                start.pop(trial, None)
                last[trial] = 0
                if path is not None:
                    owner, name = path.split("/")
                    source = owner.removeprefix("f_"), int(name.rpartition("_")[2])
                    assert source not in deleted
                    assert fork.get(trial, source) == source
                    start[trial], last[trial] = source, steps[source]
    return count


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(2))
def test_exploits_while_workers_are_killed(seed: int, tmp_path: Path) -> None:
    """Loaded weights are the donor's, iterations never go back, no file is left over."""
    assert survive(tmp_path, steps=12, deadly=0.05, seed=seed, sizes=Sizes(1000)) >= 3


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_ten_thousand_exploits(tmp_path: Path) -> None:
    """The same for hours of training; the driver's memory stays what it is."""
    sizes = Sizes(500)
    count = 0
    for seed in range(100):
        count += survive(tmp_path / str(seed), steps=400, deadly=0.01, seed=seed, sizes=sizes)
        if count >= 10_000:
            break
    assert count >= 10_000
    third = len(sizes.rss) // 3
    early, late = sizes.rss[third : 2 * third], sizes.rss[-third:]
    assert sum(late) / len(late) - sum(early) / len(early) < 16 << 20
