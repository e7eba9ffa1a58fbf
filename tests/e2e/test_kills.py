"""Processes that are killed, and checkpoints that are damaged, while a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TRAIN = """
import glob
import json
import os
import signal
import tempfile

from milepost import tune
from milepost.tune import Checkpoint


def state():
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as directory:
        with open(os.path.join(directory, "state.json")) as file:
            return json.load(file)["epoch"]


def save(epoch, **metrics):
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "state.json"), "w") as file:
            json.dump({"epoch": epoch}, file)
        with open(os.path.join(directory, "weights.bin"), "wb") as file:
            file.write(bytes([epoch]) * 3_000_000)
        tune.report({"epoch": epoch, **metrics}, checkpoint=Checkpoint.from_directory(directory))


def train(config):
    start = state()
    for epoch in range(start + 1, 7):
        if start == 0 and epoch == 4:
            BEFORE
        save(epoch, start=start)
        if start == 0 and epoch == 3:
            AFTER


grid = tune.Tuner(
    train,
    run_config=tune.RunConfig(
        name="exp", failure_config=tune.FailureConfig(max_failures=1), callbacks=CALLBACKS
    ),
).fit()
result = grid[0]
print("RESULT", json.dumps({
    "path": result.path,
    "error": result.error and repr(result.error),
    "metrics": {k: v for k, v in result.metrics.items() if k != "config"},
    "checkpoint": result.checkpoint and result.checkpoint.path,
    "best": [(c.path, m["epoch"]) for c, m in result.best_checkpoints],
}))
"""


def fit(
    place: Any, before: str = "pass", after: str = "pass", setup: str = "", callbacks: str = "None"
) -> tuple[dict[str, Any], str]:
    """Run the script; return its result, and what was printed to standard error."""
    code = TRAIN.replace("BEFORE", before).replace("AFTER", after).replace("CALLBACKS", callbacks)
    head, marker, tail = code.partition("grid = tune.Tuner(")
    process = place.start(str(place.write(head + setup + "\n" + marker + tail)))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, f"{out}\n{err}"
    (line,) = [line for line in out.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT ")), out + err


def epochs_logged(result: dict[str, Any]) -> list[int]:
    lines = Path(result["path"], "result.json").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def test_the_death_of_the_fork_server_is_no_failure(place: Any) -> None:
    """It takes the worker along; the trial goes on from its checkpoint, and the log says why."""
    result, text = fit(place, before="os.kill(os.getppid(), signal.SIGKILL); signal.pause()")
    assert result["error"] is None
    assert result["metrics"]["start"] == 3
    assert epochs_logged(result)[-3:] == [4, 5, 6]
    assert "does not count as a failure" in text
    assert "the process that forks workers (pid " in text
    assert "died: signal 9 (SIGKILL)" in text
    assert "failure 1" not in text
    assert not Path(result["path"], "error.txt").exists()


def test_a_trial_that_kills_the_fork_server_fails(place: Any) -> None:
    """Three times in a row without a report, and it is the trial; the error is true."""
    result, text = fit(
        place, setup="def state():\n    os.kill(os.getppid(), signal.SIGKILL)\n    signal.pause()"
    )
    assert text.count("does not count as a failure") == 2
    assert "because the process that forks workers" in result["error"]


def assert_whole(result: dict[str, Any]) -> None:
    """Every visible checkpoint verifies, contents too, and nothing half-made is left."""
    from milepost.checkpoint import verify

    for path, epoch in result["best"]:
        assert verify.check(path, digests=True) == []
        assert json.loads(Path(path, "state.json").read_text())["epoch"] == epoch
    names = [p.name for p in Path(result["path"]).iterdir()]
    assert not [n for n in names if n.startswith((".milepost-tmp", ".milepost-trash"))]


def test_a_worker_killed_right_after_report(place: Any) -> None:
    """What report() has returned for is what the retry starts from."""
    result, output = fit(place, after="os.kill(os.getpid(), signal.SIGKILL)")
    assert result["error"] is None
    assert result["metrics"]["start"] == 3
    assert epochs_logged(result) == [1, 2, 3, 4, 5, 6]
    assert [epoch for _, epoch in result["best"]] == [1, 2, 3, 4, 5, 6]
    assert "SIGKILL" in output
    assert_whole(result)


KILL_AT = """
from milepost.storage import posix

def die_at(number):
    calls = []
    def dying(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    for name in posix.OPERATIONS:
        setattr(posix, name, dying(getattr(posix, name)))
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_worker_killed_during_capture(place: Any, step: int) -> None:
    """A checkpoint whose capture was cut off never existed; the one before is used."""
    result, _ = fit(place, setup=KILL_AT, before=f"die_at({step})")
    assert result["error"] is None
    assert result["metrics"]["start"] == 3
    assert epochs_logged(result) == [1, 2, 3, 4, 5, 6]
    assert [epoch for _, epoch in result["best"]] == [1, 2, 3, 4, 5, 6]
    assert_whole(result)
    assert place.leftovers() == [] or all("intent" not in name for name in place.leftovers())


KILL_KEEPER = """
class KillKeepers(tune.Callback):
    killed = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["epoch"] not in (1, 3, 4):
            return
        for entry in glob.glob("/proc/[0-9]*/cmdline"):
            pid = int(entry.split("/")[2])
            try:
                parts = open(entry, "rb").read().split(b"\\0")
                environment = open(f"/proc/{pid}/environ", "rb").read()
            except OSError:
                continue
            token = os.environ["MILEPOST_TEST_TOKEN"].encode()
            if b"milepost.keeper" in parts and token in environment:
                os.kill(pid, signal.SIGKILL)
                self.killed += 1

    def on_experiment_end(self, trials, **info):
        print("KILLED", self.killed)
"""


def test_keepers_killed_again_and_again(place: Any) -> None:
    """A killed keeper is replaced, and nothing that was captured is lost."""
    result, output = fit(place, setup=KILL_KEEPER, callbacks="[KillKeepers()]")
    assert result["error"] is None
    assert [epoch for _, epoch in result["best"]] == [1, 2, 3, 4, 5, 6]
    assert int(output.split("KILLED ")[1].split()[0]) >= 1
    assert_whole(result)


DAMAGE = {
    "truncated": "os.truncate(newest + '/weights.bin', 1_000_000)",
    "flipped": (
        "f = open(newest + '/weights.bin', 'r+b'); f.seek(1_500_000); f.write(b'x'); f.close()"
    ),
    "removed": "os.unlink(newest + '/weights.bin')",
    "manifest": "os.truncate(newest + '/.milepost.json', 40)",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_checkpoint(place: Any, kind: str) -> None:
    """The next older checkpoint is used, the log says so, and the bad one is in quarantine."""
    after = (
        "newest = tune.get_checkpoint().path; "
        + DAMAGE[kind]
        + "; raise RuntimeError('the machine went away')"
    )
    result, output = fit(place, after=after)
    assert result["error"] is None
    assert result["metrics"]["start"] == 2
    assert "checkpoint_000002" in output
    assert "using checkpoint_000001" in output
    quarantined = [
        p.name for p in Path(result["path"]).iterdir() if p.name.startswith(".milepost-quarantine")
    ]
    assert len(quarantined) == 1
    assert [epoch for _, epoch in result["best"]] == [1, 2, 3, 4, 5, 6]
    assert all("checkpoint_000002" not in path for path, _ in result["best"])
    assert_whole(result)


def test_the_driver_killed(place: Any) -> None:
    """After the driver's SIGKILL no process stays, and what was captured is committed."""
    from milepost.checkpoint import verify
    from milepost.tune import ExperimentAnalysis

    code = (
        TRAIN.replace("BEFORE", "pass")
        .replace("CALLBACKS", "None")
        .replace("AFTER", "os.kill(int(os.environ['DRIVER']), signal.SIGKILL)")
    )
    script = place.write("import os\nos.environ['DRIVER'] = str(os.getpid())\n" + code)
    process = place.start(str(script))
    process.communicate(timeout=120)
    assert process.returncode == -9
    assert place.wait_until_gone() == {}
    (experiment,) = place.experiments()
    (trial,) = ExperimentAnalysis(experiment).trials
    assert trial.status == "RUNNING"
    found = verify.committed(trial.path)
    assert [index for index, _ in found][:3] == [0, 1, 2]
    for index, _ in found:
        assert verify.check(f"{trial.path}/checkpoint_{index:06d}", digests=True) == []
