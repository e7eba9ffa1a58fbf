"""What every engine must do: subclass :class:`EngineSuite` in a test module and run pytest.

Example::

    class TestMyEngine(EngineSuite):
        def make_engine(self):
            return MyEngine()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.engine.payload import pack
from milepost.engine.protocol import Engine, Exited
from milepost.testing.driver import TrialDriver
from milepost.worker.protocol import Failed, Finished, Reply
from milepost.worker.session import report


class EngineSuite:
    """Conformance tests of :class:`milepost.engine.protocol.Engine`.

    They start real workers that run trainables sent by value.
    """

    def make_engine(self) -> Engine:
        """Return a new engine; the suite closes it."""
        raise NotImplementedError

    @pytest.fixture
    def drivers(self, tmp_path: Path) -> Iterator[Any]:
        """Makes drivers over new engines, and closes them."""
        made: list[TrialDriver] = []

        def make(trainable: Any) -> TrialDriver:
            driver = TrialDriver(self.make_engine(), trainable, tmp_path)
            made.append(driver)
            return driver

        yield make
        for driver in made:
            driver.close()

    def test_worker_runs_a_trial(self, drivers: Any) -> None:
        """A worker takes messages at once, runs the trial, and exits with status 0 when told."""

        def train(config: dict[str, Any]) -> None:
            report({"y": config["x"] + 1})

        worker = drivers(train).run({"x": 1})
        assert [row["y"] for row in worker.rows] == [2]
        assert worker.end == Finished("returned")
        assert worker.exited == Exited(worker.handle.worker_id, 0, None)

    def test_workers_run_side_by_side(self, drivers: Any) -> None:
        """Several workers are processes of their own and run at the same time."""

        def train(config: dict[str, Any]) -> None:
            report({"pid": os.getpid()})

        waiting: list[Any] = []

        def decide(row: dict[str, Any]) -> Any:
            waiting.append(row["pid"])
            return Reply("continue")

        driver = drivers(train)
        workers = [driver.start(decide) for _ in range(3)]
        for worker in workers:
            driver.send_trial(worker)
        driver.wait(lambda: all(worker.end is not None for worker in workers))
        assert len(set(waiting)) == 3
        assert {worker.handle.pid for worker in workers} in ({None}, set(waiting))

    def test_output_comes_before_the_end(self, drivers: Any) -> None:
        """All that a worker wrote to both streams is told before its exit, in order per stream."""

        def train(config: dict[str, Any]) -> None:
            for i in range(1000):
                print("line", i)
            sys.stderr.write("no line end")
            sys.stderr.flush()
            os._exit(5)

        worker = drivers(train).run()
        assert worker.stdout == "".join(f"line {i}\n" for i in range(1000))
        assert worker.stderr == "no line end"
        assert worker.exited.exit_code == 5

    def test_last_messages_are_still_there(self, drivers: Any) -> None:
        """What a worker sent before it died can be read after its exit is known."""

        def train(config: dict[str, Any]) -> None:
            report({"x": 1})
            raise ValueError("the end")

        driver = drivers(train)
        worker = driver.run()
        assert isinstance(worker.end, Failed)
        assert worker.end.message == "the end"

    def test_signal_that_ended_a_worker_is_told(self, drivers: Any) -> None:
        """A worker that a signal ends is told apart from one that exits."""

        def train(config: dict[str, Any]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        exited = drivers(train).run().exited
        assert (exited.exit_code, exited.signal) == (None, signal.SIGKILL)
        assert exited.describe() == "signal 9 (SIGKILL)"

    def test_kill_takes_children_along(self, drivers: Any, tmp_path: Path) -> None:
        """Killing a worker ends what it has started, and may be done twice."""

        def train(config: dict[str, Any]) -> None:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            report({"child": child.pid})
            signal.pause()

        driver = drivers(train)
        worker = driver.start()
        driver.send_trial(worker)
        driver.wait(lambda: len(worker.rows) == 1)
        worker.handle.kill()
        driver.wait(lambda: worker.gone)
        assert worker.exited.signal == signal.SIGKILL
        assert not os.path.exists(f"/proc/{worker.rows[0]['child']}")
        worker.handle.kill()

    def test_signals_reach_the_worker(self, drivers: Any) -> None:
        """A signal is delivered to the worker process; one to an ended worker is no error."""

        def train(config: dict[str, Any]) -> None:
            got = threading.Event()
            signal.signal(signal.SIGUSR1, lambda *_: got.set())
            report({"ready": 1})
            got.wait()
            report({"got": 1})

        driver = drivers(train)
        worker = driver.start()
        driver.send_trial(worker)
        driver.wait(lambda: len(worker.rows) == 1)
        worker.handle.signal(signal.SIGUSR1)
        driver.wait(lambda: worker.end is not None)
        assert len(worker.rows) == 2
        driver.shut_down(worker)
        worker.handle.signal(signal.SIGUSR1)

    def test_worker_can_be_reused(self, drivers: Any) -> None:
        """An idle worker takes another trial in the same process."""

        def train(config: dict[str, Any]) -> None:
            report({"pid": os.getpid()})

        driver = drivers(train)
        worker = driver.start()
        for count in (1, 2):
            driver.send_trial(worker, reset=count > 1)
            driver.wait(lambda count=count: len(worker.rows) == count and worker.end is not None)
        assert worker.rows[0]["pid"] == worker.rows[1]["pid"]

    def test_spec_is_applied(self, drivers: Any) -> None:
        """Variables, GPUs and threads of a spec are in the worker's environment."""

        def train(config: dict[str, Any]) -> None:
            report({name: os.environ.get(name) for name in config["names"]})

        expected = {"MINE": "1", "CUDA_VISIBLE_DEVICES": "4,5"}
        driver = drivers(train)
        worker = driver.start(cpus=2, gpus=("4", "5"), env={"MINE": "1"})
        driver.send_trial(worker, {"names": tuple(expected)})
        driver.wait(lambda: len(worker.rows) == 1)
        assert {name: worker.rows[0][name] for name in expected} == expected

    def test_close_ends_everything(self, drivers: Any) -> None:
        """After close no worker runs; closing twice is fine."""

        def train(config: dict[str, Any]) -> None:
            report({"pid": os.getpid()})
            signal.pause()

        driver = drivers(train)
        worker = driver.start()
        driver.send_trial(worker)
        driver.wait(lambda: len(worker.rows) == 1)
        driver.engine.close()
        assert not os.path.exists(f"/proc/{worker.rows[0]['pid']}")
        driver.engine.close()

    def test_unused_engine_closes(self) -> None:
        """An engine that was prepared and loaded, but never used, closes at once."""
        engine = self.make_engine()
        engine.prepare()
        engine.load(pack(_nothing))
        engine.close()

    def test_workers_follow_the_last_load(self, drivers: Any) -> None:
        """Workers run the trainable that was loaded last before their start."""
        driver = drivers(lambda config: {"x": 1})
        early = driver.start()
        driver.engine.load(pack(lambda config: {"x": 2}))
        assert driver.run().rows[0]["x"] == 2
        driver.send_trial(early)
        driver.wait(lambda: len(early.rows) == 1)
        assert early.rows[0]["x"] == 1


def _nothing(config: dict[str, Any]) -> None:
    """Trainable of a worker that never runs."""
