"""What a worker process is like."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost.worker import session
from milepost.worker.protocol import Failed, Finished, Reply, Shutdown
from milepost.worker.stacks import STACK_SIGNAL

Gone = Callable[[int], bool]


def test_fresh_process_per_worker(drive: Any) -> None:
    """Each worker is a new process and the leader of its own session, with default handlers."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "session": os.getsid(0),
            "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            "pipe": signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN,
            "mask": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "stdin": os.readlink("/proc/self/fd/0"),
            "main": sys.modules["__main__"].__dict__.get("__file__"),
        }

    driver = drive(train)
    rows = [driver.run().rows[0] for _ in range(3)]
    assert len({row["pid"] for row in rows} - {os.getpid()}) == 3
    for row in rows:
        assert row["session"] == row["pid"] != os.getsid(0)
        assert (row["term"], row["int"], row["pipe"]) == (True, True, True)
        assert row["mask"] == []
        assert row["stdin"] == "/dev/null"
        assert row["main"] is None


def test_environment_is_the_drivers(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, module search path and original directory are the driver's."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {
            "variable": os.environ["MINE"],
            "path": sys.path,
            "cwd": os.getcwd(),
            "origin": os.environ["TUNE_ORIG_WORKING_DIR"],
            "no_fork": os.environ["PL_DISABLE_FORK"],
        }

    monkeypatch.setenv("MINE", "value")
    monkeypatch.syspath_prepend("relative")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    row = drive(train).run().rows[0]
    assert row["variable"] == "value"
    assert row["path"][0] == str(tmp_path / "here" / "relative")
    assert row["path"][1:] == [os.path.abspath(entry) for entry in sys.path[1:]]
    assert row["cwd"] == str(tmp_path / "t1")
    assert row["origin"] == str(tmp_path / "here")
    assert row["no_fork"] == "1"


def test_working_directory_can_stay(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``RAY_CHDIR_TO_TRIAL_DIR=0`` and ``chdir=False`` keep the driver's directory."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"cwd": os.getcwd()}

    assert drive(train).run(chdir=False).rows[0]["cwd"] == os.getcwd()
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    assert drive(train).run().rows[0]["cwd"] == os.getcwd()


def test_spec_reaches_the_process(drive: Any) -> None:
    """Name, GPUs and further variables of a spec are set before user code runs."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        with open("/proc/self/comm") as file:
            name = file.read().strip()
        return {"name": name, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "x": os.environ["X"]}

    driver = drive(train)
    worker = driver.start(name="train_12345_00000", gpus=("2", "3"), env={"X": "y"})
    driver.send_trial(worker)
    driver.wait(lambda: worker.end is not None)
    row = worker.rows[0]
    assert (row["name"], row["gpus"], row["x"]) == ("train_12345_000", "2,3", "y")


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, "1"), (1, "1"), (3.7, "3")])
def test_threads_follow_cpus(
    drive: Any, monkeypatch: pytest.MonkeyPatch, cpus: float, threads: str
) -> None:
    """``OMP_NUM_THREADS`` is the whole number of CPUs, and is set before the server imports."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        with open(f"/proc/{os.getppid()}/environ") as file:
            server = dict(pair.split("=", 1) for pair in file.read().split("\0") if pair)
        return {"own": os.environ["OMP_NUM_THREADS"], "server": server["OMP_NUM_THREADS"]}

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    driver = drive(train)
    worker = driver.start(cpus=cpus)
    driver.send_trial(worker)
    driver.wait(lambda: worker.end is not None)
    assert (worker.rows[0]["own"], worker.rows[0]["server"]) == (threads, threads)


def test_threads_set_by_the_user_stay(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``OMP_NUM_THREADS`` of the user's is left alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert drive(lambda config: {"n": os.environ["OMP_NUM_THREADS"]}).run().rows[0]["n"] == "7"


def test_random_generators_are_seeded(drive: Any) -> None:
    """Workers of one seed draw the same numbers, others do not."""
    import numpy as np
    import numpy.random

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"python": random.random(), "numpy": float(np.random.rand())}

    driver = drive(train)
    rows = []
    for seed in (1, 2, 1):
        worker = driver.start(seed=seed)
        driver.send_trial(worker)
        driver.wait(lambda worker=worker: worker.end is not None)
        rows.append((worker.rows[0]["python"], worker.rows[0]["numpy"]))
    assert rows[0] == rows[2]
    assert rows[0][0] != rows[1][0]
    assert rows[0][1] != rows[1][1]


@pytest.mark.preloading
def test_torch_is_inherited_and_seeded(drive: Any) -> None:
    """torch, imported by the driver, is there at once in a worker, and seeded."""
    import torch

    def train(config: dict[str, Any]) -> dict[str, Any]:
        loaded = "torch" in sys.modules
        import torch

        return {"loaded": loaded, "x": torch.rand(1).item(), "n": torch.get_num_threads()}

    del torch
    driver = drive(train)
    rows = []
    for seed in (1, 2, 1):
        worker = driver.start(seed=seed)
        driver.send_trial(worker)
        driver.wait(lambda worker=worker: worker.end is not None)
        rows.append(worker.rows[0])
    assert [row["loaded"] for row in rows] == [True] * 3
    assert [row["n"] for row in rows] == [1] * 3
    assert rows[0]["x"] == rows[2]["x"] != rows[1]["x"]


def test_large_arrays_are_shared(drive: Any) -> None:
    """Arrays and tensors in the trainable are mapped by workers, not copied, and stay private."""
    import numpy as np
    import torch

    array = np.arange(4_000_000, dtype=np.int64)  # 32 MB
    tensor = torch.arange(4_000_000, dtype=torch.int64)
    small = torch.arange(3)
    view = tensor[10:20]

    def train(config: dict[str, Any]) -> dict[str, Any]:
        total = int(array.sum()) + int(tensor.sum()) + int(small.sum()) + int(view.sum())
        sizes: dict[str, int] = {}
        inside = False
        with open("/proc/self/smaps") as file:
            for words in map(str.split, file):
                if "-" in words[0]:  # the first line of a mapping
                    inside = "memfd:milepost-trainable" in words[-1] or words[-1] == "(deleted)"
                elif inside and words[0] in ("Size:", "Anonymous:"):
                    sizes[words[0]] = sizes.get(words[0], 0) + int(words[1])
        first = int(array[0])
        array[0] = 77  # writable, and only here
        tensor[0] = 78
        return {
            "total": total,
            "mapped_kb": sizes["Size:"],
            "copied_kb": sizes["Anonymous:"],
            "first": first,
            "type": type(tensor).__name__,
        }

    driver = drive(train)
    for _ in range(2):
        row = driver.run().rows[0]
        assert row["total"] == int(array.sum()) * 2 + 3 + int(view.sum())
        assert row["mapped_kb"] >= 62_000
        assert row["copied_kb"] == 0
        assert row["first"] == 0
        assert row["type"] == "Tensor"


def test_output_is_told_before_the_end(drive: Any) -> None:
    """All bytes of both streams arrive, also without a line end, from C code and subprocesses."""

    def train(config: dict[str, Any]) -> None:
        print("line")
        print("to stderr", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo from a child"], check=True)
        os.write(1, b"x" * 1_000_000)
        sys.stdout.write("no line end")

    worker = drive(train).run()
    assert worker.stdout == "line\nfrom a child\n" + "x" * 1_000_000 + "no line end"
    assert worker.stderr == "to stderr\n"


def test_lines_arrive_while_the_trial_runs(drive: Any) -> None:
    """A printed line is told at once, not when a buffer is full."""

    def train(config: dict[str, Any]) -> None:
        print("first")
        session.report({"x": 1})

    driver = drive(train)
    worker = driver.start(decide=lambda row: Reply("continue"))
    driver.send_trial(worker)
    driver.wait(lambda: worker.stdout == "first\n")
    driver.shut_down(worker)


@pytest.mark.parametrize(
    ("how", "exit_code", "signum"),
    [
        (lambda: os._exit(3), 3, None),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), None, signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), None, signal.SIGTERM),
        (lambda: __import__("ctypes").string_at(0), None, signal.SIGSEGV),
    ],
    ids=["_exit", "SIGKILL", "SIGTERM", "segfault"],
)
def test_deaths_are_told(drive: Any, how: Any, exit_code: int | None, signum: int | None) -> None:
    """The exit code or signal of a worker that dies is told, after its last report."""

    def train(config: dict[str, Any]) -> None:
        session.report({"x": 1})
        print("last words")
        how()

    worker = drive(train).run()
    assert (worker.exited.exit_code, worker.exited.signal) == (exit_code, signum)
    assert worker.end is None
    assert len(worker.rows) == 1
    assert worker.stdout == "last words\n"


def test_kill_and_signal(drive: Any) -> None:
    """A worker can be sent signals and killed, also after it has ended."""

    def train(config: dict[str, Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: print("got it"))
        session.report({"x": 1})
        while True:
            signal.pause()

    driver = drive(train)
    worker = driver.start()
    driver.send_trial(worker)
    driver.wait(lambda: len(worker.rows) == 1)
    worker.handle.signal(signal.SIGUSR1)
    driver.wait(lambda: worker.stdout == "got it\n")
    worker.handle.kill()
    driver.wait(lambda: worker.gone)
    assert worker.exited.signal == signal.SIGKILL
    worker.handle.kill()
    worker.handle.signal(signal.SIGTERM)
    assert drive(train) is not None


@pytest.mark.parametrize("watched", [False, True])
def test_asking_for_stacks_is_harmless(drive: Any, watched: bool) -> None:
    """Before a worker can answer it takes no note; later a watched one says where it is."""

    def train(config: dict[str, Any]) -> None:
        session.report({"x": 1})
        os.kill(os.getpid(), STACK_SIGNAL)
        session.report({"x": 2})

    driver = drive(train)
    worker = driver.start()
    worker.handle.signal(STACK_SIGNAL)
    driver.send_trial(worker, watched=watched)
    driver.wait(lambda: worker.end is not None)
    driver.shut_down(worker)
    assert [row["x"] for row in worker.rows] == [1, 2]
    assert (" in train" in worker.stderr) is watched


def test_kill_right_after_start(drive: Any) -> None:
    """A worker that is killed before it exists for us ends all the same."""
    driver = drive(lambda config: None)
    worker = driver.start()
    worker.handle.kill()
    driver.wait(lambda: worker.gone)
    assert worker.exited.signal == signal.SIGKILL


DAEMON = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n{}"


@pytest.mark.parametrize("ending", ["kill", "finish", "crash"])
def test_nothing_that_a_worker_started_survives(drive: Any, gone: Gone, ending: str) -> None:
    """Children, children in sessions of their own, and daemons end with their worker."""

    def train(config: dict[str, Any]) -> None:
        child = subprocess.Popen(["sleep", "1000"])
        other_session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        r, w = os.pipe()
        code = DAEMON.format(f"os.write({w}, str(os.getpid()).encode()); time.sleep(1000)")
        subprocess.run([sys.executable, "-c", code], pass_fds=(w,), check=True)
        daemon = int(os.read(r, 100))
        session.report({"pids": [child.pid, other_session.pid, daemon]})
        if ending == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif ending == "kill":
            time.sleep(1000)

    driver = drive(train)
    other = driver.start(decide=lambda row: Reply("continue"))  # must not be touched
    worker = driver.start()
    driver.send_trial(worker)
    driver.wait(lambda: len(worker.rows) == 1)
    if ending == "kill":
        worker.handle.kill()
    elif ending == "finish":
        driver.wait(lambda: worker.end is not None)
        worker.handle.channel.send(Shutdown())
    driver.wait(lambda: worker.gone)
    for pid in worker.rows[0]["pids"]:
        assert not os.path.exists(f"/proc/{pid}")
    driver.send_trial(other)
    driver.wait(lambda: len(other.rows) == 1)
    other.handle.kill()
    driver.wait(lambda: other.gone)
    assert all(gone(pid) for pid in other.rows[0]["pids"])


def test_one_process_can_run_several_trials(drive: Any, tmp_path: Path) -> None:
    """A worker may be given another trial after the first, in its own directory."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "cwd": os.getcwd(), "x": config["x"]}

    driver = drive(train)
    worker = driver.start()
    for i, reset in ((1, False), (2, True)):
        driver.send_trial(worker, {"x": i}, trial_id=f"t{i}", reset=reset)
        driver.wait(lambda i=i: len([m for m in worker.messages if isinstance(m, Finished)]) == i)
    driver.shut_down(worker)
    one, two = worker.rows
    assert one["pid"] == two["pid"]
    assert [one["cwd"], two["cwd"]] == [str(tmp_path / "t1"), str(tmp_path / "t2")]
    assert two["training_iteration"] == 1


def test_report_from_a_child_is_an_error(drive: Any) -> None:
    """A forked child of a trial cannot report, and holds no descriptor of the channel."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        def sockets() -> int:
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds()]
            return sum(link.startswith("socket:") for link in links)

        def fds() -> list[str]:
            return [
                fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")
            ]

        own = sockets()
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                session.report({"x": 1})
            except RuntimeError as error:
                os.write(w, f"{sockets()} {error}".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return {"own": own, "said": os.read(r, 1000).decode(), "child": pid}

    row = drive(train).run().rows[0]
    assert row["own"] == 1
    count, said = row["said"].split(" ", 1)
    assert count == "0"
    assert f"child of the trial's process {row['pid']}" in said


def test_exit_handlers_run(drive: Any, tmp_path: Path) -> None:
    """``atexit`` handlers and finalizers of user code run at a worker's normal end."""

    def train(config: dict[str, Any]) -> None:
        import atexit
        import tempfile

        atexit.register(print, "bye")
        train.directory = tempfile.TemporaryDirectory(dir=tmp_path)  # type: ignore[attr-defined]
        print(train.directory.name)  # type: ignore[attr-defined]

    worker = drive(train).run()
    directory, bye = worker.stdout.splitlines()
    assert bye == "bye"
    assert not os.path.exists(directory)


def test_trainable_that_cannot_be_unpickled_fails_its_trial(drive: Any) -> None:
    """An error while a worker loads the trainable is the trial's failure, with its text."""
    worker = drive(Stubborn()).run()
    assert isinstance(worker.end, Failed)
    assert "not here" in worker.end.message


def rebuild() -> None:
    raise ImportError("not here")


class Stubborn:
    def __call__(self, config: Any) -> None: ...

    def __reduce__(self) -> Any:
        def rebuild_here() -> None:
            raise ImportError("not here")

        return rebuild_here, ()


def test_unpicklable_trainable_is_a_clear_error(drive: Any) -> None:
    """A trainable that cannot be sent is refused where it is given."""
    lock = __import__("threading").Lock()

    def train(config: Any) -> None:
        lock.acquire()

    with pytest.raises(TypeError, match=r"the trainable 'train' cannot be sent.*lock"):
        drive(train)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_in_a_trial(drive: Any, method: str) -> None:
    """Trials may start processes of their own by every method of multiprocessing."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        import multiprocessing

        with multiprocessing.get_context(method).Pool(2) as pool:
            return {"sum": sum(pool.map(abs, range(-10, 0)))}

    worker = drive(train).run()
    assert worker.rows[0]["sum"] == 55, worker.stderr
    assert worker.exited.exit_code == 0
    assert worker.stderr == ""


@pytest.mark.preloading
def test_data_loader_works_in_a_trial(drive: Any) -> None:
    """Torch's DataLoader with processes of its own, kept alive or not, works."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.arange(64))

    def train(config: dict[str, Any]) -> None:
        for keep in (False, True):
            loader = DataLoader(data, batch_size=8, num_workers=2, persistent_workers=keep)
            for _ in range(2):
                session.report({"sum": sum(int(batch.sum()) for (batch,) in loader)})

    worker = drive(train).run()
    assert [row["sum"] for row in worker.rows] == [2016] * 4, worker.stderr
    assert worker.exited.exit_code == 0
    assert worker.stderr == ""


def test_arguments_are_not_ours(drive: Any) -> None:
    """A trainable that parses ``sys.argv`` finds no arguments."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        import argparse

        parser = argparse.ArgumentParser()
        parser.add_argument("--x", default=5)
        return {"x": parser.parse_args().x, "argv": sys.argv}

    row = drive(train).run().rows[0]
    assert (row["x"], row["argv"]) == (5, [""])


def test_driver_that_ignores_its_children(drive: Any) -> None:
    """A driver that has SIGCHLD ignored, or signals blocked, has workers as usual."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"code": subprocess.run(["false"], check=False).returncode}

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        worker = drive(train).run()
        assert worker.rows[0]["code"] == 1
        assert worker.exited.exit_code == 0
        other = drive(lambda config: os.kill(os.getpid(), signal.SIGTERM)).run()
        assert other.exited.signal == signal.SIGTERM
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_workers_die_of_memory_before_the_driver(drive: Any) -> None:
    """The kernel's score of a worker is above the driver's."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        with open("/proc/self/oom_score_adj") as file:
            return {"score": int(file.read())}

    with open("/proc/self/oom_score_adj") as file:
        own = int(file.read())
    assert drive(train).run().rows[0]["score"] > own
