"""``should_checkpoint`` and ``get_preemption_info``: what a trial is told while it runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from milepost.api.preemption import PreemptionInfo
from milepost.tune import Trainable, get_context
from milepost.worker.protocol import Finished, Preempt, Reply, Shutdown
from milepost.worker.session import report


def until_told(act: Callable[[], object] = lambda: None) -> PreemptionInfo:
    """Ask until there is an answer, as a training loop would."""
    pause = threading.Event()
    while (info := get_context().get_preemption_info()) is None:
        act()
        pause.wait(0.005)
    return info


def preempt(driver: Any, worker: Any, *messages: Preempt) -> None:
    """Tell a worker of the end of its run when its function trains."""
    driver.wait(lambda: "training" in worker.stdout or worker.gone)
    for message in messages or (Preempt("SIGTERM", 1234),):
        worker.handle.channel.send(message)


def started(driver: Any, decide: Any = lambda row: Reply("stop"), **fields: Any) -> Any:
    worker = driver.start(decide)
    driver.send_trial(worker, **fields)
    return worker


def ended(driver: Any, worker: Any) -> Any:
    driver.wait(lambda: worker.end is not None or worker.gone)
    return worker.end


# --- functions ----------------------------------------------------------------------------------


def test_told_inside_user_code(drive: Any) -> None:
    """Between two reports, with reason and deadline; before, the answer was no."""

    def train(config: dict[str, Any]) -> None:
        context = get_context()
        assert not context.should_checkpoint()
        print("training", flush=True)
        info = until_told()
        assert context.should_checkpoint()
        report({"reason": info.reason, "deadline": info.deadline_ms})

    driver = drive(train)
    worker = started(driver)
    preempt(driver, worker)
    assert ended(driver, worker) == Finished("stop")
    assert (worker.rows[0]["reason"], worker.rows[0]["deadline"]) == ("SIGTERM", 1234)


def test_told_again(drive: Any) -> None:
    """The deadline may change."""

    def train(config: dict[str, Any]) -> None:
        print("training", flush=True)
        assert until_told() == PreemptionInfo("SIGINT")
        print("told", flush=True)
        context, pause = get_context(), threading.Event()
        while context.get_preemption_info() != PreemptionInfo("SIGTERM", 5):
            pause.wait(0.005)
        report({})

    driver = drive(train)
    worker = started(driver)
    preempt(driver, worker, Preempt("SIGINT"))
    driver.wait(lambda: "told" in worker.stdout or worker.gone)
    worker.handle.channel.send(Preempt("SIGTERM", 5))
    assert ended(driver, worker) == Finished("stop")


@pytest.mark.parametrize("asks", [False, True])
def test_the_controller_learns_whether_it_asks(drive: Any, *, asks: bool) -> None:
    """Functions that ask get one more report."""

    def train(config: dict[str, Any]) -> None:
        report({"n": 1})
        if config["asks"]:
            get_context().should_checkpoint()
        report({"n": 2})

    driver = drive(train)
    worker = driver.run({"asks": asks})
    from milepost.worker.protocol import Reported

    reports = [message for message in worker.messages if isinstance(message, Reported)]
    assert [message.asks for message in reports] == [False, asks]


def test_told_during_a_report(drive: Any) -> None:
    """What comes before the answer is not lost, and is not taken for it."""

    def decide(row: dict[str, Any]) -> Reply:
        if row["n"] == 1:
            worker.handle.channel.send(Preempt("SIGUSR1"))
            return Reply("continue")
        return Reply("stop")

    def train(config: dict[str, Any]) -> None:
        report({"n": 1})
        info = get_context().get_preemption_info()
        report({"n": 2, "reason": info and info.reason})

    driver = drive(train)
    worker = started(driver, decide)
    assert ended(driver, worker) == Finished("stop")
    assert worker.rows[1]["reason"] == "SIGUSR1"


def test_answers_go_to_reports_whoever_polls(drive: Any) -> None:
    """Threads that ask all the time take no answer of a thread that reports."""

    def train(config: dict[str, Any]) -> None:
        over = threading.Event()

        def ask() -> None:
            context = get_context()
            while not over.is_set():
                context.should_checkpoint()

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for n in range(30):
                report({"n": n})
        finally:
            over.set()
            for thread in threads:
                thread.join()

    driver = drive(train)
    worker = driver.run()
    assert worker.end == Finished("returned")
    assert [row["n"] for row in worker.rows] == list(range(30))


def test_a_signal_handler_may_ask_at_any_time(drive: Any) -> None:
    """Inside of a report and of another question; neither waits for the other."""

    def train(config: dict[str, Any]) -> None:
        import signal

        answers = []
        signal.signal(signal.SIGALRM, lambda *_: answers.append(get_context().should_checkpoint()))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        n = 0
        while len(answers) < 50:
            get_context().should_checkpoint()
            n += 1
            report({"n": n})
        signal.setitimer(signal.ITIMER_REAL, 0)
        report({"answers": set(answers)})

    driver = drive(train)
    worker = driver.run()
    assert worker.end == Finished("returned")
    assert worker.rows[-1]["answers"] == {False}


def test_a_report_from_a_signal_handler_inside_a_question_is_an_error(drive: Any) -> None:
    """It says what to do instead; otherwise it would wait for itself."""

    def train(config: dict[str, Any]) -> None:
        from milepost.worker import session

        dialog = session.current_dialog()
        assert dialog is not None
        take = dialog._channel.receive_available

        def interrupted() -> Any:
            with pytest.raises(RuntimeError, match=r"inside of should_checkpoint\(\)"):
                report({"from": "handler"})
            return take()

        dialog._channel.receive_available = interrupted  # type: ignore[method-assign]
        get_context().should_checkpoint()
        dialog._channel.receive_available = take  # type: ignore[method-assign]
        report({"from": "loop"})

    driver = drive(train)
    worker = driver.run()
    assert worker.end == Finished("returned"), worker.end
    assert [row["from"] for row in worker.rows] == ["loop"]


def test_child_processes_know_what_was_known(drive: Any) -> None:
    """They neither take what is for the trial nor break its channel."""

    def train(config: dict[str, Any]) -> None:
        for told in (False, True):
            if told:
                print("training", flush=True)
                until_told()
            pid = os.fork()
            if pid == 0:
                os._exit(get_context().should_checkpoint())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            report({"code": code})

    driver = drive(train)
    worker = started(driver, lambda row: Reply("continue"))
    preempt(driver, worker)
    ended(driver, worker)
    assert [row["code"] for row in worker.rows] == [0, 1]


@pytest.mark.parametrize(
    ("leave", "end"),
    [
        ("return", Finished("stop")),
        ("exit", Finished("stop")),
        ("interrupt", Finished("stop")),
        ("report", Finished("returned")),
        ("value", Finished("stop")),
    ],
)
def test_how_it_ends_when_it_leaves(drive: Any, leave: str, end: Finished) -> None:
    """Right after it was told: it has stopped. After one more report: it has finished."""

    def train(config: dict[str, Any]) -> Any:
        print("training", flush=True)
        until_told()
        if config["leave"] == "exit":
            raise SystemExit(7)
        if config["leave"] == "interrupt":
            raise KeyboardInterrupt
        if config["leave"] == "report":
            report({"n": 1})
        return {"n": 1} if config["leave"] == "value" else None

    driver = drive(train)
    worker = started(driver, lambda row: Reply("continue"), config={"leave": leave})
    preempt(driver, worker)
    assert ended(driver, worker) == end


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "ValueError"])
def test_what_it_raises_without_having_asked(drive: Any, error: str) -> None:
    """It was told, and did not look: an interrupt ends it all the same; an error is an error."""

    def train(config: dict[str, Any]) -> None:
        print("training", flush=True)
        config["wait"]()
        raise {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit(1)}.get(
            config["error"], ValueError("boom")
        )

    def wait() -> None:
        import select

        from milepost.worker import session

        dialog = session.current_dialog()
        assert dialog is not None
        select.select([dialog._channel], [], [])

    driver = drive(train)
    worker = started(driver, config={"error": error, "wait": wait})
    preempt(driver, worker)
    end = ended(driver, worker)
    if error == "ValueError":
        assert end.kind == "ValueError"
    else:
        assert end == Finished("stop")


def test_a_worker_that_is_to_end_stops_at_its_next_report(drive: Any) -> None:
    """Also if the order came while user code asked whether to save."""

    def train(config: dict[str, Any]) -> None:
        print("training", flush=True)
        until_told()
        report({"n": 1})
        report({"n": 2})

    driver = drive(train)
    worker = started(driver, lambda row: Reply("continue"))
    driver.wait(lambda: "training" in worker.stdout)
    worker.handle.channel.send(Shutdown())
    worker.handle.channel.send(Preempt("SIGINT"))
    driver.wait(lambda: worker.gone)
    assert worker.end == Finished("stop")
    assert worker.exited.exit_code == 0
    assert len(worker.rows) == 1


def test_the_next_trial_of_the_process_is_told_nothing(drive: Any) -> None:
    """What was said about one trial is not about another."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        if config["first"]:
            print("training", flush=True)
            until_told()
        return {"told": get_context().should_checkpoint()}

    driver = drive(train)
    worker = started(driver, lambda row: Reply("continue"), config={"first": True})
    preempt(driver, worker)
    ended(driver, worker)
    driver.send_trial(worker, {"first": False}, reset=True)
    driver.wait(lambda: len(worker.rows) == 2 or worker.gone)
    assert [row["told"] for row in worker.rows] == [True, False]


# --- classes ------------------------------------------------------------------------------------


class Steps(Trainable):
    """Trains until it is told, in one step."""

    def step(self) -> dict[str, Any]:
        print("training", flush=True)
        return {"reason": until_told().reason}


def test_steps_can_see_it(drive: Any) -> None:
    """A long step can be cut short."""
    driver = drive(Steps, kind="class")
    worker = started(driver)
    preempt(driver, worker)
    assert ended(driver, worker) == Finished("stop")
    assert worker.rows[0]["reason"] == "SIGTERM"


class Leaves(Trainable):
    """Is interrupted in its step."""

    def step(self) -> dict[str, Any]:
        print("training", flush=True)
        until_told()
        raise KeyboardInterrupt


def test_an_interrupted_step_has_stopped(drive: Any) -> None:
    """No failure; without having been told it is one."""
    driver = drive(Leaves, kind="class")
    worker = started(driver)
    preempt(driver, worker)
    assert ended(driver, worker) == Finished("stop")


# --- what it says -------------------------------------------------------------------------------


def test_the_time_that_is_left() -> None:
    """Never negative; None without a deadline."""
    assert PreemptionInfo("SIGINT").remaining_s is None
    assert PreemptionInfo("SIGTERM", 1).remaining_s == 0
    left = PreemptionInfo("SIGTERM", round(time.time() * 1000) + 60_000).remaining_s
    assert left is not None
    assert 0 < left <= 60.001


def test_it_cannot_be_changed() -> None:
    """It may be kept and compared."""
    info = PreemptionInfo("SIGTERM", 5)
    assert info == PreemptionInfo("SIGTERM", 5)
    with pytest.raises(AttributeError):
        info.reason = "SIGINT"  # type: ignore[misc]
