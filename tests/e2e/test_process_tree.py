"""Whatever ends a worker, nothing of what it has started lives on."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

FAMILY = '''
import json, os, signal, subprocess, sys, threading, time
from milepost import tune
from milepost.tune import Checkpoint

GRANDPARENT = """
import subprocess, sys, os
child = subprocess.Popen(["sleep", "1000"])
print(os.getpid(), child.pid, flush=True)
child.wait()
"""
DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
time.sleep(1000)
"""
STUBBORN = """
import os, signal, time
for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(signum, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True: time.sleep(1000)
"""


def start_family():
    """Children, grandchildren, a daemon, one that ignores signals, a forked busy loop."""
    pids = []
    for code in (GRANDPARENT, DAEMON, STUBBORN):
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={}
        )
        pids += map(int, child.stdout.readline().split())
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    pids.append(other.pid)
    forked = os.fork()
    if forked == 0:
        while True:
            sum(range(10**9))
    pids.append(forked)
    return pids


def save(number, pids):
    import tempfile
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "number"), "w") as file:
            file.write(str(number))
        tune.report(
            {"number": number, "pids": [os.getpid(), *pids]},
            checkpoint=Checkpoint.from_directory(directory),
        )


def train(config):
    pids = start_family()
    save(1, pids)
    with open(os.environ["STARTED"], "w") as file:
        json.dump([os.getpid(), os.getppid(), *pids], file)
    END


def run(**settings):
    stop = settings.pop("stop", None)
    return tune.Tuner(
        train,
        run_config=tune.RunConfig(
            name="exp", verbose=0, stop=stop, failure_config=tune.FailureConfig(**settings)
        ),
    ).fit()[0]
'''


def script(place: Any, end: str, settings: str = "") -> tuple[Path, Path]:
    """Write a script that ends its trial in some way; return it and the file with the pids."""
    started = place.path / "started.json"
    place.env["STARTED"] = str(started)
    body = FAMILY.replace("END", end) + f"\nresult = run({settings})\nprint(repr(result.error))\n"
    return place.write(body), started


def stay(pids: list[int], within_s: float = 10.0) -> list[int]:
    """Those processes that have not ended within some time."""
    deadline = time.monotonic() + within_s
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            left.append(pid)
        os.close(fd)
    return left


ENDS = {
    "return": ("return", ""),
    "error": ("raise ValueError('no')", ""),
    "stop": ("save(2, pids)", 'stop={"number": 2}'),
    "exit": ("os._exit(3)", ""),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", ""),
    "crash": ("import ctypes; ctypes.string_at(0)", ""),
    "timeout": ("time.sleep(1000)", "trial_timeout_s=1"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_a_worker_is_the_end_of_its_family(place: Any, name: str) -> None:
    """Children, grandchildren, daemons and other sessions are gone when fit() has returned."""
    end, settings = ENDS[name]
    path, started = script(place, end, settings)
    # The run waits for an open pipe: if one of the family held it, this would not return.
    place.run(str(path))
    pids = json.loads(started.read_text())
    assert len(pids) == 8
    assert stay(pids, 0.0) == []


def started_family(started: Path, process: Any) -> list[int]:
    """Wait until a script's trial has started everything."""
    while process.poll() is None:
        try:
            pids: list[int] = json.loads(started.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            threading.Event().wait(0.02)
        else:
            return pids
    out, err = process.communicate()
    raise AssertionError(f"it ended too early: {out}\n{err}")


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_kill_from_outside(place: Any, victim: str) -> None:
    """Whoever is killed with SIGKILL, ten seconds later nothing of a worker's family lives."""
    path, started = script(place, "time.sleep(1000)")
    process = place.start(str(path))
    worker, _server, *family = started_family(started, process)
    os.kill(process.pid if victim == "driver" else worker, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert stay([worker, *family]) == []
    assert place.wait_until_gone() == {}
    if victim == "worker":
        assert process.returncode == 0
        assert "ActorDiedError" in out, err


def test_a_killed_fork_server(place: Any) -> None:
    """Its workers die with it, and all of their sessions; the trial goes on to its end."""
    path, started = script(place, "if tune.get_checkpoint() is None: time.sleep(1000)")
    process = place.start(str(path))
    worker, server, *family = started_family(started, process)
    inside = [pid for pid in family if os.getsid(pid) == worker]
    assert len(inside) == 4
    os.kill(server, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    left = stay([worker, *inside])
    for pid in set(family) - set(inside):  # only the fork server would have found these
        os.kill(pid, signal.SIGKILL)
    assert left == []
    assert process.returncode == 0
    assert out == "None\n", err


LOADER = """
import json, os, sys, time
import torch
from torch.utils.data import DataLoader, Dataset
from milepost import tune


class Numbers(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return torch.tensor([index, os.getpid()])


def train(config):
    loader = DataLoader(Numbers(), batch_size=1, num_workers=2, persistent_workers=True)
    batches = iter(loader)
    pids = {int(next(batches)[0][1]) for _ in range(10)}
    with open(os.environ["STARTED"], "w") as file:
        json.dump([os.getpid(), os.getppid(), *pids], file)
    time.sleep(1000)


tune.Tuner(train, run_config=tune.RunConfig(name="exp", verbose=0)).fit()
"""


def test_data_loaders_end_with_a_killed_driver(place: Any) -> None:
    """The processes of a torch DataLoader do not outlive a driver that was killed."""
    started = place.path / "started.json"
    place.env["STARTED"] = str(started)
    process = place.start(str(place.write(LOADER)))
    pids = started_family(started, process)
    assert len(pids) == 4
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert stay(pids) == []
