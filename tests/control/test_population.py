"""Population based training on real workers: whose weights a trial has, also when things die."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from plans import Dies, again, killed, plan

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.checkpoint import manifest as manifests
from milepost.control.controller import run
from milepost.journal import records, replay
from milepost.tune.schedulers import PopulationBasedTraining

pytestmark = pytest.mark.chaos  # others of their kind run always

LRS = (1.0, 2.0, 3.0, 4.0)
CONFIGS = [{"lr": lr} for lr in LRS]


def scheduler(**options: Any) -> PopulationBasedTraining:
    made = PopulationBasedTraining(
        **{
            "time_attr": "training_iteration",
            "metric": "total",
            "mode": "max",
            "perturbation_interval": 2,
            "hyperparam_mutations": {"lr": [1.0, 2.0, 3.0, 4.0]},
            **options,
        }
    )
    random.seed(7)
    assert made.set_search_properties(None, None)
    return made


def save(state: dict[str, Any]) -> tune.Checkpoint:
    directory = tempfile.mkdtemp()
    Path(directory, "state").write_text(json.dumps(state))
    return tune.Checkpoint.from_directory(directory)


def saved() -> dict[str, Any]:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return {"weights": [], "step": 0, "total": 0.0}
    with checkpoint.as_directory() as directory:
        state: dict[str, Any] = json.loads(Path(directory, "state").read_text())
        return state


def meet(config: dict[str, Any]) -> None:
    """Begin together: a trial that is alone has nobody to be compared with."""
    place = config.get("meet")
    if place is not None:
        Path(place, tune.get_context().get_trial_id()).touch()
        while len(os.listdir(place)) < len(CONFIGS):
            time.sleep(0.01)


def meeting(path: Path) -> list[dict[str, Any]]:
    """The configs of trials that begin together."""
    place = path / "meet"
    place.mkdir()
    return [{**config, "meet": str(place)} for config in CONFIGS]


def learn(config: dict[str, Any]) -> None:
    """Weights are the learning rates with which each step was made, so that they tell all."""
    meet(config)
    state = saved()
    for step in range(state["step"] + 1, config.get("steps", 10) + 1):
        state["weights"].append(config["lr"])
        state["step"] = step
        state["total"] += config["lr"]
        if random.random() < config.get("deadly", 0.0):
            os.kill(os.getpid(), signal.SIGKILL)
        tune.report({"total": state["total"], "weights": list(state["weights"])},
                    checkpoint=save(state))  # fmt: skip


class Learner(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        meet(config)
        self.weights: list[float] = []

    def step(self) -> dict[str, Any]:
        self.weights.append(self.config["lr"])
        return {"total": sum(self.weights), "weights": list(self.weights),
                "done": len(self.weights) >= 10}  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "weights").write_text(json.dumps(self.weights))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        self.weights = json.loads(Path(checkpoint_dir, "weights").read_text())


class Changing(Learner):
    """A class whose object goes on with another trial."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.weights = new_config, []
        return True


def rows(trial: Any) -> list[dict[str, Any]]:
    lines = Path(trial.directory, "result.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def exploits(path: str) -> list[records.Exploited]:
    found = [record for _, record in replay.records(path)]
    return [record for record in found if isinstance(record, records.Exploited)]


def check(outcome: Any) -> int:
    """Everything fits together; return how many trials went on from others."""
    root = Path(outcome.experiment_path)
    history = [record for _, record in replay.records(str(root))]
    forks: dict[str, records.Exploited] = {}
    weights: dict[tuple[str, int], list[float]] = {}  # of each captured checkpoint
    digests = {}
    rows_of: dict[str, Any] = {}
    starts: dict[str, list[float]] = {}
    count = 0
    for record in history:
        match record:
            case records.Reported(trial=trial, row=row, checkpoint=index):
                values = json.loads(bytes(row))
                rows_of[trial] = values
                before = starts.get(trial, [])
                assert values["weights"][: len(before)] == before, "it goes on from those weights"
                assert values["training_iteration"] == len(values["weights"])
                assert values["trial_id"] == trial
                if index is not None:
                    weights[trial, index] = values["weights"]
            case records.Saving(trial=trial, index=index):
                weights[trial, index] = rows_of[trial]["weights"]
            case records.Committed(trial=trial, index=index, digest=digest):
                digests[trial, index] = digest
            case records.Exploited():
                count += 1
                forks[record.trial] = record
                assert record.number == count
                assert digests[record.donor, record.index] == record.digest
                assert len(weights[record.donor, record.index]) == record.iteration
            case records.Launched(trial=trial, checkpoint=start) if start is not None:
                owner, name = start.split("/")
                index = int(name.rpartition("_")[2])
                donor = next(
                    r.trial for r in history if isinstance(r, records.Created)
                    and r.directory == owner
                )  # fmt: skip
                starts[trial] = weights[donor, index]
                if donor != trial:
                    assert (forks[trial].donor, forks[trial].index) == (donor, index)
    lines = (root / "pbt_global.txt").read_text().splitlines() if count else []
    assert lines == [record.policy for record in exploits(str(root))]
    return count


def leaked(outcome: Any) -> set[str]:
    """Checkpoints that neither num_to_keep=1 nor a trial's result keeps."""
    there = {t: sorted(Path(t.directory).glob("checkpoint_*")) for t in outcome.trials}
    wanted = {str(found[-1]) for found in there.values() if found}
    wanted |= {trial.latest[1] for trial in outcome.trials if trial.latest is not None}
    return {str(path) for found in there.values() for path in found} - wanted


@pytest.mark.parametrize("trainable", [learn, Learner])
@pytest.mark.parametrize("synch", [False, True], ids=["async", "synch"])
@pytest.mark.parametrize("cpus", [4, 2])
@pytest.mark.always("4-async-learn", "4-synch-Learner", "2-synch-learn")
def test_a_population(trainable: Any, synch: bool, cpus: int, tmp_path: Path) -> None:
    """The worst go on from the weights of the best, with num_to_keep=1, also in turns."""
    outcome = run(
        plan(
            tmp_path,
            trainable,
            meeting(tmp_path) if cpus == len(CONFIGS) else CONFIGS,
            cpus=cpus if trainable is learn else 4,
            max_concurrent=cpus,
            scheduler=scheduler(synch=synch),
            checkpoint=CheckpointConfig(num_to_keep=1),
        )
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 4
    assert check(outcome) >= (3 if synch else 1)
    for trial in outcome.trials:
        assert trial.last_row["training_iteration"] == 10
        assert rows(trial)  # they go on in the same file; a trial may have taken over the last step
    assert not leaked(outcome)
    record = exploits(outcome.experiment_path)[0]
    policy = json.loads(record.policy)
    assert policy[:2] == [record.trial[1:], record.donor[1:]]
    assert policy[3] == record.iteration
    assert policy[5] == json.loads(bytes(record.config))
    assert record.tag.startswith(f"{record.trial[1:]}@perturbed[lr=")
    chosen = next(t for t in outcome.trials if t.trial_id == record.trial)
    assert "@perturbed[lr=" in chosen.last_row["experiment_tag"]
    params = json.loads(Path(chosen.directory, "params.json").read_text())
    assert params == chosen.config
    own = Path(outcome.experiment_path, f"pbt_policy_{record.trial}.txt").read_text()
    assert (
        own.splitlines()[-1]
        == [r.policy for r in exploits(outcome.experiment_path) if r.trial == record.trial][-1]
    )


def test_workers_that_run_one_trial_after_another(tmp_path: Path) -> None:
    """With reuse_actors=True an object takes over weights and config of another trial, too."""
    outcome = run(
        plan(
            tmp_path,
            Changing,
            CONFIGS,
            cpus=3,
            reuse_actors=True,
            scheduler=scheduler(synch=True),
            checkpoint=CheckpointConfig(num_to_keep=1),
        )
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 4
    assert check(outcome) >= 3
    assert not leaked(outcome)


class Interrupts(Callback):
    """Sends Ctrl-C to the driver at a certain result."""

    def __init__(self, number: int) -> None:
        self._left = number

    def on_trial_result(self, **info: Any) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [8, 15])
@pytest.mark.timeout(120)
@pytest.mark.always("8")
def test_interrupted(number: int, tmp_path: Path, wholes: dict[str, Any]) -> None:
    """Ctrl-C in the middle of a round: the restored run ends as if it had not been."""
    first = synchronous(tmp_path, learn, callbacks=[Interrupts(number)])
    assert run(first).interrupted
    outcome = run(again(first, scheduler=scheduler(synch=True)))
    assert check(outcome) == len(wholes["learn"]["exploits"])
    assert outline(outcome) == wholes["learn"]


def test_lineage_is_in_the_manifests(tmp_path: Path) -> None:
    """The first own checkpoint after an exploit names the donor's as its parent."""
    outcome = run(plan(tmp_path, learn, meeting(tmp_path), cpus=4, scheduler=scheduler()))
    assert check(outcome) >= 1
    for record in exploits(outcome.experiment_path):
        directory = Path(outcome.experiment_path, f"f_{record.trial}")
        own = [manifests.read(path) for path in sorted(directory.glob("checkpoint_*"))]
        first = next((m for m in own if m.index >= record.first_index), None)
        if first is not None:
            assert first.parent == record.id


def test_functions_without_checkpoints(tmp_path: Path, caplog: Any) -> None:
    """They are told once, and nobody goes on from anybody."""

    def train(config: dict[str, Any]) -> None:
        meet(config)
        for step in range(1, 9):
            tune.report({"total": config["lr"] * step})

    outcome = run(plan(tmp_path, train, meeting(tmp_path), cpus=4, scheduler=scheduler()))
    assert exploits(outcome.experiment_path) == []
    warned = [r.message for r in caplog.records if "worth going on from" in r.message]
    assert len(warned) == 1
    assert "checkpoint=" in warned[0]
    assert [len(rows(trial)) for trial in outcome.trials] == [8] * 4


def test_a_donor_ends_before_those_who_depend_on_it(tmp_path: Path) -> None:
    """Its checkpoint stays for them, and is gone at the end."""
    configs = [{"lr": 1.0, "steps": 20}, {"lr": 4.0, "steps": 4}]
    outcome = run(
        plan(
            tmp_path,
            learn,
            configs,
            scheduler=scheduler(quantile_fraction=0.5),
            checkpoint=CheckpointConfig(num_to_keep=1),
        )
    )
    check(outcome)
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 2
    assert not leaked(outcome)


@pytest.mark.parametrize("synch", [False, True], ids=["async", "synch"])
@pytest.mark.always("synch")
def test_workers_die(synch: bool, tmp_path: Path) -> None:
    """Killed in the middle of a step they go on from where they were, also right after a fork."""
    configs = [{"lr": lr, "deadly": 0.15} for lr in LRS]
    outcome = run(
        plan(
            tmp_path,
            learn,
            configs,
            cpus=3,
            scheduler=scheduler(synch=synch),
            checkpoint=CheckpointConfig(num_to_keep=1),
            failure=FailureConfig(max_failures=-1),
        )
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 4
    check(outcome)
    assert not leaked(outcome)
    assert sum(trial.failures for trial in outcome.trials) > 0


# --- the driver dies -----------------------------------------------------------------------------


def outline(outcome: Any) -> dict[str, Any]:
    """What is the same in a run that was cut and one that was not."""
    copied = [
        (r.trial, r.donor, r.iteration, r.generation, r.tag, json.loads(bytes(r.config)))
        for r in exploits(outcome.experiment_path)
    ]
    return {
        "weights": {t.trial_id: t.last_row["weights"] for t in outcome.trials},
        "configs": {t.trial_id: t.config for t in outcome.trials},
        "exploits": sorted(copied, key=lambda each: (each[2], each[0])),
    }


class DiesAtRecord(Callback):
    """Kills the driver as soon as so many records of a kind are in the journal."""

    def __init__(self, kind: type, number: int = 1) -> None:
        self._kind, self._left = kind, number

    def setup(self, **info: Any) -> None:
        from milepost.control import acts, commands

        carry_out = acts.ACTS[commands.Record]

        def record(run: Any, command: Any) -> None:
            carry_out(run, command)
            if isinstance(command.record, self._kind):
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)

        acts.ACTS[commands.Record] = record


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: Any) -> dict[str, dict[str, Any]]:
    """The outlines of synchronous runs that are not cut."""
    return {
        trainable.__name__: outline(run(synchronous(tmp_path_factory.mktemp("whole"), trainable)))
        for trainable in (learn, Learner)
    }


def synchronous(tmp_path: Path, trainable: Any, **options: Any) -> Any:
    return plan(
        tmp_path,
        trainable,
        CONFIGS,
        cpus=4,
        scheduler=scheduler(synch=True),
        checkpoint=CheckpointConfig(num_to_keep=1),
        **options,
    )


@pytest.mark.parametrize(
    ("trainable", "kind", "number"),
    [
        (learn, records.Exploited, 1),
        (learn, records.Exploited, 2),
        (learn, records.Reported, 8),
        (learn, records.Reported, 14),
        (learn, records.Committed, 9),
        (learn, records.Changed, 14),
        (learn, records.Launched, 6),
        # A class saves after its report: what it has not saved by then cannot be there.
        (Learner, records.Exploited, 1),
        (Learner, records.Exploited, 3),
    ],
)
@pytest.mark.timeout(120)
@pytest.mark.always("learn-Exploited-1", "learn-Reported-14", "Learner-Exploited-3")
def test_cut_in_a_round(
    trainable: Any, kind: type, number: int, tmp_path: Path, wholes: dict[str, Any]
) -> None:
    """Killed at any record of a round and restored, a synchronous run ends like an uncut one."""
    first = synchronous(tmp_path, trainable, callbacks=[DiesAtRecord(kind, number)])
    killed(first)
    outcome = run(again(first, scheduler=scheduler(synch=True)))
    whole = wholes[trainable.__name__]
    assert check(outcome) == len(whole["exploits"])
    assert outline(outcome) == whole


@pytest.mark.timeout(120)
def test_a_class_is_cut_before_it_saves(tmp_path: Path) -> None:
    """Who was to go on from what was never saved goes on from its own."""
    first = synchronous(tmp_path, Learner, callbacks=[DiesAtRecord(records.Reported, 8)])
    killed(first)
    outcome = run(again(first, scheduler=scheduler(synch=True)))
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 4
    assert check(outcome) >= 1


@pytest.mark.parametrize("hook", ["on_trial_result", "on_checkpoint"])
@pytest.mark.timeout(120)
@pytest.mark.always("on_checkpoint")
def test_cut_again_and_again(hook: str, tmp_path: Path) -> None:
    """An asynchronous run that is cut three times loses nobody's weights, and leaks no file."""
    options = {"checkpoint": CheckpointConfig(num_to_keep=1)}
    first = plan(
        tmp_path,
        learn,
        CONFIGS,
        cpus=4,
        scheduler=scheduler(),
        callbacks=[Dies(hook, 9)],
        **options,
    )
    killed(first)
    for number in (7, 5):
        killed(again(first, scheduler=scheduler(), callbacks=[Dies(hook, number)]))
    outcome = run(again(first, scheduler=scheduler()))
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"] * 4
    check(outcome)
    assert not leaked(outcome)
    for trial in outcome.trials:
        assert trial.last_row["training_iteration"] == 10
