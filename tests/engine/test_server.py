"""The fork server: what it imports, how it ends, what ends with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import milepost
from milepost.engine import local, preload, server_pool
from milepost.engine.local import LocalEngine
from milepost.engine.payload import pack
from milepost.engine.protocol import StartFailed, WorkerSpec
from milepost.errors import WorkerStartError
from milepost.testing.driver import TrialDriver
from milepost.worker.protocol import Failed

Gone = Callable[[int], bool]

FAMILY = """
import os, subprocess, sys, time
from milepost.engine.local import LocalEngine
from milepost.testing.driver import TrialDriver
from milepost.worker.session import report

def train(config):
    children = [subprocess.Popen(["sleep", "1000"], start_new_session=own) for own in (False, True)]
    report({"pids": [os.getpid(), os.getppid(), *(child.pid for child in children)]})
    time.sleep(1000)

with TrialDriver(LocalEngine(), train, os.getcwd()) as driver:
    workers = [driver.start(), driver.start()]
    for worker in workers:
        driver.send_trial(worker)
    driver.wait(lambda: all(worker.rows for worker in workers))
    try:
        print(*{pid for worker in workers for pid in worker.rows[0]["pids"]}, flush=True)
        driver.wait(lambda: False)
    except KeyboardInterrupt:
        alive = [worker for worker in workers if not worker.gone]
        print("interrupted with", len(alive), "workers", flush=True)
"""


def start_family(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    driver = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert driver.stdout is not None
    return driver, [int(pid) for pid in driver.stdout.readline().split()]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_the_driver(tmp_path: Path, gone: Gone, signum: int) -> None:
    """When the driver is killed, server, workers and everything they started end at once."""
    driver, pids = start_family(tmp_path)
    assert len(pids) == 7  # a server, two workers, four children
    driver.send_signal(signum)
    assert driver.wait(10) == -signum
    assert [pid for pid in pids if not gone(pid)] == []
    assert driver.stdout is not None
    driver.stdout.close()


def test_terminal_signals_reach_the_driver_only(tmp_path: Path, gone: Gone) -> None:
    """Ctrl-C (SIGINT to the driver's process group) leaves the workers to the driver."""
    driver, pids = start_family(tmp_path)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.stdout is not None
    assert driver.stdout.read() == "interrupted with 2 workers\n"
    driver.stdout.close()
    assert driver.wait(10) == 0
    assert [pid for pid in pids if not gone(pid)] == []


def test_server_outlives_the_thread_that_started_it(drive: Any) -> None:
    """A fit in a thread that has ended leaves its workers alone."""
    import threading

    made: list[Any] = []

    def make() -> None:
        driver = drive(lambda config: {"x": 1})
        worker = driver.start()
        driver.send_trial(worker)
        driver.wait(lambda: worker.end is not None)
        made.extend((driver, worker))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    driver, worker = made
    assert driver.run().rows[0]["x"] == 1
    driver.shut_down(worker)
    assert worker.exited.exit_code == 0


def test_death_of_the_server_is_the_death_of_its_workers(
    drive: Any, gone: Gone, caplog: Any
) -> None:
    """A killed server takes its workers with it; the next worker gets a new one."""

    def train(config: dict[str, Any]) -> None:
        from milepost.worker.session import report

        child = subprocess.Popen(["sleep", "1000"])
        report({"server": os.getppid(), "pids": [os.getpid(), child.pid]})
        if config["wait"]:
            signal.pause()

    driver = drive(train)
    worker = driver.start()
    driver.send_trial(worker, {"wait": True})
    driver.wait(lambda: len(worker.rows) == 1)
    os.kill(worker.rows[0]["server"], signal.SIGKILL)
    driver.wait(lambda: worker.gone)
    server = f"(pid {worker.rows[0]['server']}) died: signal 9 (SIGKILL)"
    assert worker.exited.signal == signal.SIGKILL
    assert worker.exited.engine_died == f"the process that forks workers {server}"
    assert all(gone(pid) for pid in worker.rows[0]["pids"])
    assert "process that forks workers has died" in caplog.text
    again = driver.run({"wait": False})
    assert again.exited.exit_code == 0
    assert again.rows[0]["server"] != worker.rows[0]["server"]


@pytest.mark.chaos
def test_a_worker_that_was_only_asked_for_is_not_to_blame(drive: Any) -> None:
    """The server dies before it has made the process: the start has failed through the engine."""
    driver = drive(lambda config: {"server": os.getppid()})
    server = driver.run().rows[0]["server"]
    os.kill(server, signal.SIGSTOP)
    worker = driver.start()
    os.kill(server, signal.SIGKILL)
    driver.wait(lambda: worker.start_failed is not None)
    assert worker.start_failed.engine_died.endswith("died: signal 9 (SIGKILL)")
    assert driver.run().rows[0]["server"] != server


def test_user_files_are_never_preloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed packages and the standard library are imported ahead; other files are not."""
    (tmp_path / "user_module_of_mine.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("user_module_of_mine")
    __import__("numpy")
    __import__("wave")
    __import__("milepost.worker.session")
    first, later = preload.wanted()
    sys.modules.pop("user_module_of_mine")
    assert "user_module_of_mine" not in first + later
    assert "__main__" not in first + later
    assert {"numpy", "milepost.worker.session"} <= set(first)
    assert "wave" in later
    assert not {"pytest", "_pytest", "milepost.engine.local"} & set(first + later)


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Put a package where installed ones are, and import it in this process."""
    directory = tmp_path / "site-packages"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    {code}\n"
    )
    monkeypatch.syspath_prepend(str(directory))
    __import__(name)
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, name, __import__(name))


def server_modules(driver: TrialDriver) -> list[str]:
    return list(driver.run().rows[0]["modules"])


def loaded(config: dict[str, Any]) -> dict[str, Any]:
    return {"modules": [name for name in sys.modules if name.startswith("installed_")]}


# Pickled by value, as the tests' own modules cannot be imported by workers.
loaded.__module__ = "__main__"


@pytest.mark.preloading
def test_installed_packages_are_inherited(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver has imported from site-packages is loaded already in each worker."""
    install(tmp_path, monkeypatch, "installed_plain", "pass")
    assert server_modules(drive(loaded)) == ["installed_plain"]


@pytest.mark.preloading
@pytest.mark.chaos
def test_package_that_starts_a_thread_is_left_to_the_workers(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A module that leaves a thread is not inherited; one log line says so; others still are."""
    install(tmp_path, monkeypatch, "installed_plain", "pass")
    install(
        tmp_path,
        monkeypatch,
        "installed_thread",
        "import threading, time; threading.Thread(target=time.sleep, args=(999,), daemon=True)"
        ".start()",
    )
    monkeypatch.setattr(local, "_told", set())
    assert server_modules(drive(loaded)) == ["installed_plain"]
    (line,) = [record for record in caplog.records if "installed_thread" in record.message]
    assert "it starts a thread" in line.message


@pytest.mark.preloading
def test_package_that_kills_the_server_is_left_to_the_workers(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A module whose import ends the process costs the preload, not the trials."""
    install(tmp_path, monkeypatch, "installed_deadly", "os.kill(os.getpid(), 11)")
    assert server_modules(drive(loaded)) == []
    assert "died while importing the driver's packages" in caplog.text


@pytest.mark.chaos
@pytest.mark.parametrize("code", ["raise ValueError('no')", "raise SystemExit(3)"])
@pytest.mark.preloading
def test_package_that_cannot_be_imported_again_is_skipped(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A module that imports in the driver only is no obstacle."""
    install(tmp_path, monkeypatch, "installed_moody", code)
    assert server_modules(drive(loaded)) == []


def test_interpreter_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing interpreter is an error at once that names it."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    engine = LocalEngine()
    engine.load(pack(loaded))
    with pytest.raises(WorkerStartError, match="/nowhere/python"):
        engine.start(WorkerSpec("w", "w"))
    engine.close()


def test_interpreter_that_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that does not come up makes the worker's start fail, with its words."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    engine = LocalEngine()
    engine.load(pack(loaded))
    worker = engine.start(WorkerSpec("w", "w"))
    events: list[Any] = []
    while not events:
        assert select.select([engine], [], [], 30)[0]
        events = engine.events()
    (event,) = events
    assert isinstance(event, StartFailed)
    assert "exit status 7" in event.reason
    assert "no such luck" in event.reason
    engine.close()
    worker.channel.close()


def test_servers_that_are_cheap_end_with_their_engine(tmp_path: Path) -> None:
    """After close, no process of a light fit is left."""
    program = """
import os
from milepost.engine.local import LocalEngine
from milepost.testing.driver import TrialDriver
with TrialDriver(LocalEngine(), lambda config: {"server": os.getppid()}, ".") as driver:
    server = driver.run().rows[0]["server"]
print(os.path.exists(f"/proc/{server}"))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


@pytest.mark.preloading
@pytest.mark.chaos
def test_servers_that_were_expensive_serve_the_next_fit(
    drive: Any, monkeypatch: pytest.MonkeyPatch, gone: Gone
) -> None:
    """A slow start is paid once per process, as long as the next fit needs the same."""
    monkeypatch.setattr(server_pool, "KEEP_FROM_S", 0.0)
    server_pool.end_all()

    def server_of_one_fit() -> int:
        driver = drive(lambda config: {"server": os.getppid()})
        server = driver.run().rows[0]["server"]
        driver.close()
        return int(server)

    first = server_of_one_fit()
    assert server_of_one_fit() == first
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    second = server_of_one_fit()
    assert second != first
    assert gone(first)
    milepost.shutdown()
    assert gone(second)


def test_no_descriptors_are_left(drive: Any) -> None:
    """Workers that have ended, and an engine that was closed, leave no descriptor open."""

    def descriptors() -> set[str]:
        found = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
            except FileNotFoundError:  # the listing's own
                continue
        return found

    server_pool.end_all()
    before = descriptors()
    driver = drive(lambda config: {"x": 1})
    for _ in range(3):
        driver.run().handle.channel.close()
    running = len(descriptors())
    for _ in range(3):
        driver.run().handle.channel.close()
    assert len(descriptors()) == running
    left_running = driver.start()
    driver.wait(lambda: left_running.handle.pid is not None)
    driver.close()
    server_pool.end_all()
    assert descriptors() == before


def test_workers_hold_no_descriptors_of_others(drive: Any) -> None:
    """A worker has its own channel and pipes, and nothing of the server's or other workers'."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
            except FileNotFoundError:
                continue
        return {"links": sorted(links)}

    driver = drive(train)
    workers = [driver.start() for _ in range(3)]
    for worker in workers:
        driver.send_trial(worker)
    driver.wait(lambda: all(worker.end for worker in workers))
    for worker in workers:
        links = [link for link in worker.rows[0]["links"] if not link.startswith("/proc/")]
        # Standard error twice, the second time for what is told of a crash.
        assert links == ["/dev/null", "pipe", "pipe", "pipe", "socket"]


def test_engine_can_be_given_another_trainable(drive: Any) -> None:
    """Workers run what was loaded last; running ones keep theirs."""
    driver = drive(lambda config: {"x": 1})
    assert driver.run().rows[0]["x"] == 1
    driver.engine.load(pack(lambda config: {"x": 2}))
    assert driver.run().rows[0]["x"] == 2


def test_start_needs_a_trainable() -> None:
    """Starting a worker before anything was loaded is an error of the caller."""
    engine = LocalEngine()
    with pytest.raises(RuntimeError, match="load"):
        engine.start(WorkerSpec("w", "w"))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.prepare()


def test_worker_whose_start_goes_wrong_is_told(drive: Any, tmp_path: Path) -> None:
    """A trial directory that cannot be made fails the trial, naming it."""
    (tmp_path / "t1").write_text("a file is in the way")
    worker = drive(loaded).run()
    assert isinstance(worker.end, Failed)
    assert str(tmp_path / "t1") in worker.end.message


def test_files_of_the_user_that_shadow_the_standard_library(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories that the driver adds to sys.path late do not break the server."""
    for name in ("select", "logging", "socket", "traceback", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setattr(sys, "path", [*sys.path[:0], str(tmp_path), *sys.path])
    worker = drive(lambda config: {"x": config["x"]}).run({"x": 1})
    assert [row["x"] for row in worker.rows] == [1], worker.stderr


def test_a_worker_waits_ahead_of_need(drive: Any) -> None:
    """While a worker runs, the server has forked another one that has no orders yet."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"server": os.getppid()}

    driver = drive(train)
    worker = driver.start()
    driver.send_trial(worker)
    driver.wait(lambda: worker.end is not None)
    server = worker.rows[0]["server"]

    def forked_ahead() -> bool:
        with open(f"/proc/{server}/task/{server}/children") as file:
            return len(file.read().split()) == 2

    while not forked_ahead():
        os.sched_yield()
    driver.shut_down(worker)


@pytest.mark.preloading
def test_engine_can_be_closed_while_the_server_imports(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing does not wait for an import that takes long."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    install(
        tmp_path,
        monkeypatch,
        "installed_slow",
        f"import time; open({str(fifo)!r}, 'w').write('importing'); time.sleep(1000)",
    )
    engine = LocalEngine()
    engine.prepare()
    assert fifo.read_text() == "importing"
    engine.close()


def test_fork_of_the_driver_leaves_the_server_alone(drive: Any) -> None:
    """A process that the driver forks, and that closes what it inherited, ends no worker."""
    driver = drive(lambda config: {"x": 1})
    assert driver.run().rows[0]["x"] == 1
    pid = os.fork()
    if pid == 0:
        try:
            driver.engine.close()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert driver.run().rows[0]["x"] == 1


def test_open_gpu_forbids_forking(tmp_path: Path) -> None:
    """A process that has a GPU open, or a thread, must not fork workers."""
    program = f"""
import threading
from milepost.engine import preload
preload._GPU_DEVICES = {str(tmp_path / "nvidia")!r}
print(preload.unsafe_to_fork())
with open({str(tmp_path / "nvidia0")!r}, "w"):
    print(preload.unsafe_to_fork())
done = threading.Event()
threading.Thread(target=done.wait).start()
print(preload.unsafe_to_fork())
done.set()
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [
        "None",
        "it opens a CUDA context",
        "it starts a thread",
    ]


def inherited(config: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in sys.modules if name.startswith("installed_")]
    return {"modules": names, "server": os.getppid()}


inherited.__module__ = "__main__"


@pytest.mark.preloading
@pytest.mark.chaos
def test_kept_server_imports_what_was_added(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: Gone
) -> None:
    """A package imported between two fits is added to a kept server; an unfit one ends it."""
    monkeypatch.setattr(server_pool, "KEEP_FROM_S", 0.0)
    server_pool.end_all()

    def fit() -> dict[str, Any]:
        driver = drive(inherited)
        row: dict[str, Any] = driver.run().rows[0]
        driver.close()
        return row

    install(tmp_path, monkeypatch, "installed_first", "pass")
    first = fit()
    install(tmp_path, monkeypatch, "installed_second", "pass")
    second = fit()
    assert first["server"] == second["server"]
    assert first["modules"] == ["installed_first"]
    assert second["modules"] == ["installed_first", "installed_second"]
    install(
        tmp_path,
        monkeypatch,
        "installed_thread",
        "import threading, time; threading.Thread(target=time.sleep, args=(999,), daemon=True)"
        ".start()",
    )
    third = fit()
    assert third["server"] != first["server"]
    assert gone(first["server"])
    assert third["modules"] == ["installed_first", "installed_second"]
    server_pool.end_all()


def test_no_more_descriptors(drive: Any) -> None:
    """When the process may open no more files, the start says so and leaks none."""
    import resource

    driver = drive(loaded)
    driver.run()

    def start_many() -> None:
        for i in range(100):
            driver.engine.start(WorkerSpec(f"w{i}", "many"))

    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    try:
        with pytest.raises(WorkerStartError, match="Too many open files"):
            start_many()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    driver.engine.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_spec_that_is_too_large(drive: Any) -> None:
    """A spec that cannot be sent is an error of its start, and leaks nothing."""
    driver = drive(loaded)
    driver.run()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WorkerStartError, match="'big'"):
        driver.engine.start(WorkerSpec("w", "big", env={"X": "x" * 1_000_000}))
    assert len(os.listdir("/proc/self/fd")) == before
    assert driver.run().exited.exit_code == 0


def test_driver_whose_directory_is_gone(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deleted working directory of the driver does not stop its workers."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if os.path.isabs(entry)])
    assert drive(loaded).run().exited.exit_code == 0
