"""Trials that hang: who is silent for how long, and what the machine makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Driven

from milepost.control.last_words import LastWords
from milepost.control.oom import OomKills
from milepost.control.silence import ANSWER_S, Silence

# --- the machine -----------------------------------------------------------------------------


def test_a_trial_that_hangs_is_killed_and_tried_again() -> None:
    """Its failure is recorded when its worker is dead, and its captures are drained first."""
    m = Driven(max_failures=1)
    m.running("a")
    m.reported(0, checkpoint=0)
    assert m.silent(0) == ["kill worker-0"]
    assert m.gone(0) == ["record failure a", "record a PENDING", "failed a 1 retried", "drain a.0"]
    m.committed("a", 0)
    m.drained("a", highest=0)
    m.verified("a", 0)
    assert "run a on worker-1 attempt=1 first=1 from=0" in m.place()


def test_a_trial_that_hangs_without_retries_has_failed() -> None:
    """It ends with the error, and its checkpoints are kept."""
    m = Driven()
    m.running("a")
    m.silent(0)
    assert m.gone(0) == ["record failure a", "failed a 1", "drain a.0"]
    assert m.drained("a") == ["record a ERROR", "errored a", "ended a"]


def to_starting(m: Driven) -> None:
    m.add("a")
    m.place()


def to_saving(m: Driven) -> None:
    m.running("a")
    m.reported(0, save=True)


@pytest.mark.parametrize("phase", [to_starting, to_saving])
def test_it_may_hang_in_setup_and_while_it_saves(phase: Callable[[Driven], None]) -> None:
    """A class that hangs in setup() or save_checkpoint() is killed like any other."""
    m = Driven(kind="class", max_failures=1)
    phase(m)
    assert m.silent(0) == ["kill worker-0"]
    assert "failed a 1 retried" in m.gone(0)


def test_a_hang_at_the_start_is_no_excused_failure_to_restore() -> None:
    """Only errors of loading a checkpoint are excused, not hours of silence."""
    m = Driven(max_failures=0, restore_retries=3)
    m.running("a")
    m.reported(0, "pause", checkpoint=0)
    m.finished(0, "pause")
    m.committed("a", 0)
    m.unpause("a")
    m.verified("a", 0)
    m.place()
    m.silent(1)
    assert "failed a 1" in m.gone(1)


def to_nothing(m: Driven) -> None:
    m.running("a")
    m.finished(0)
    m.gone(0)


def to_stopping(m: Driven) -> None:
    m.running("a")
    m.reported(0, "stop")


def to_dying(m: Driven) -> None:
    m.running("a")
    m.silent(0)


def to_halted(m: Driven) -> None:
    m.running("a")
    m.stop_all()


@pytest.mark.parametrize("place", [to_nothing, to_stopping, to_dying, to_halted])
def test_whom_other_deadlines_are_for_is_left_alone(place: Callable[[Driven], None]) -> None:
    """Trials that were told to end, and those that are being killed, have their own patience."""
    m = Driven(max_failures=1)
    place(m)
    assert m.silent(0) == []


def test_a_hanging_worker_takes_its_group_along() -> None:
    """All workers of a trial are killed when one hangs, and the failure counts once."""
    m = Driven(max_failures=1)
    m.add("a", size=2)
    m.place()
    m.started(0)
    m.started(1)
    assert m.silent(1) == ["kill worker-0", "kill worker-1"]
    assert m.silent(0) == []
    assert m.gone(0) == []
    assert "failed a 1 retried" in m.gone(1)


# --- who is due ------------------------------------------------------------------------------


def test_a_silent_worker_is_asked_and_then_due() -> None:
    """It has its time, then a moment for its answer, and is then told of once."""
    silence = Silence(5)
    silence.heard("w", 100)
    assert silence.next_deadline() == 105
    assert silence.due(104.9) == []
    assert silence.due(105) == [("w", False)]
    assert silence.due(105) == []
    assert silence.due(105 + ANSWER_S) == [("w", True)]
    assert silence.next_deadline() is None


def test_a_word_is_enough() -> None:
    """Whoever says something has its whole time again, also when it had been asked already."""
    silence = Silence(5)
    silence.heard("w", 100)
    silence.heard("w", 104)
    assert silence.due(105) == []
    assert silence.due(109) == [("w", False)]
    silence.heard("w", 109.5)
    assert silence.due(110) == []
    assert silence.next_deadline() == 114.5


def test_whoever_waits_for_us_is_excused() -> None:
    """Time in which a worker waits for a capture or a commit is not its silence."""
    silence = Silence(5)
    silence.heard("w", 100)
    silence.excuse("w")
    assert silence.next_deadline() is None
    assert silence.due(1000) == []
    silence.heard("w", 1000)
    assert silence.due(1005) == [("w", False)]


def test_time_in_which_the_driver_stood_still_does_not_count() -> None:
    """After a long stop of the driver, workers are first listened to."""
    silence = Silence(5)
    silence.heard("one", 100)
    silence.heard("two", 102)
    assert silence.due(300) == []
    silence.heard("one", 300)
    assert silence.due(300) == []
    assert silence.due(302) == [("two", False)]


def test_without_a_limit_nobody_is_due() -> None:
    """The default costs nothing and kills nobody."""
    silence = Silence(None)
    silence.heard("w", 0)
    assert silence.next_deadline() is None
    assert silence.due(1e9) == []


# --- what a worker has said ------------------------------------------------------------------

DUMP = """Thread 0x00007f1 (most recent call first):
  File "/lib/threading.py", line 5 in wait

Current thread 0x00007f2 (most recent call first):
  File "/home/me/train.py", line 12 in step
  File "/home/me/train.py", line 3 in train
"""


class Oom:
    """A counter of kills."""

    def __init__(self) -> None:
        self.kills: int | None = 3

    def count(self) -> int | None:
        return self.kills


def heard(*pieces: bytes) -> LastWords:
    words = LastWords()
    words.begin("w")
    for piece in pieces:
        words.hear("w", piece)
    return words


def test_the_stack_of_a_crash_is_found() -> None:
    """What Python said of a fatal error is returned, wherever the pipe cut it; modules are not."""
    said = (
        f"noise\nFatal Python error: Segmentation fault\n\n{DUMP}\nExtension modules: a (total: 1)"
    )
    words = heard(said[:20].encode(), said[20:].encode())
    assert words.of_crash("w") == f"Fatal Python error: Segmentation fault\n\n{DUMP}".rstrip()


def test_the_last_lines_stand_for_a_stack() -> None:
    """Of a death without a stack, the last lines on standard error are all there is."""
    words = heard(b"".join(b"line %d\n" % n for n in range(50)))
    lines = words.of_crash("w").splitlines()
    assert lines[0] == "The last it wrote to standard error:"
    assert lines[1:] == [f"  line {n}" for n in range(40, 50)]
    assert heard().of_crash("w") == ""
    assert heard(b"\n \n").of_crash("w") == ""


def test_an_answer_is_what_comes_after_the_question() -> None:
    """Stacks that user code had printed before are not taken for the answer."""
    words = heard(DUMP.encode())
    assert words.stack("w") == ""
    words.ask("w")
    assert words.stack("w") == ""
    words.hear("w", b"other\n" + DUMP.encode())
    assert words.stack("w") == DUMP.rstrip()


def test_long_output_is_not_kept() -> None:
    """Memory per worker is bounded, and the question's place moves with what is cut."""
    words = heard(b"x" * 1_000_000)
    words.ask("w")
    words.hear("w", b"y" * 60_000 + b"\n" + DUMP.encode())
    assert words.stack("w") == DUMP.rstrip()
    assert len(words._workers["w"].tail) <= 1 << 16
    words.begin("w")
    assert words.of_crash("w") == ""
    words.forget("w")
    assert words.of_crash("w") == words.stack("w") == ""
    words.hear("w", b"late")


def test_kills_for_memory_count_from_the_trials_start() -> None:
    """Older ones were others'; where the kernel does not tell, there are none."""
    oom = Oom()
    words = LastWords(oom)  # type: ignore[arg-type]
    words.begin("w")
    assert words.oom_kills("w") == 0
    oom.kills = 5
    assert words.oom_kills("w") == 2
    oom.kills = None
    assert words.oom_kills("w") == 0
    assert words.oom_kills("nobody") == 0


V2 = "low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"


@pytest.mark.parametrize(
    ("groups", "file", "content"),
    [
        ("0::/user.slice/run-1.scope\n", "user.slice/run-1.scope/memory.events", V2),
        ("0::/docker/abc\n", "memory.events", V2),
        ("4:memory:/docker/abc\n0::/\n", "memory/docker/abc/memory.oom_control", V1),
        ("5:cpu,cpuacct:/\n4:memory:/docker/abc\n", "memory/memory.oom_control", V1),
        ("4:cpu:/x\n0::/a\n", "unified/a/memory.events", V2),
    ],
)
def test_kinds_of_control_groups(tmp_path: Path, groups: str, file: str, content: str) -> None:
    """Both versions are understood, also from inside a container that sees only its own group."""
    for path, text in (("proc/self/cgroup", groups), (f"cgroup/{file}", content)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    oom = OomKills(str(tmp_path / "proc"), str(tmp_path / "cgroup"))
    assert oom.count() == 2
    (tmp_path / "cgroup" / file).unlink()
    assert oom.count() is None


@pytest.mark.parametrize("content", ["", "oom_kill many\n", "max 1\n"])
def test_control_groups_that_do_not_tell(tmp_path: Path, content: str) -> None:
    """A kernel without the counter is no obstacle."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    assert OomKills(str(tmp_path / "proc"), str(tmp_path)).count() is None
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert OomKills(str(tmp_path / "proc"), str(tmp_path)).count() is None
    (tmp_path / "memory.events").write_text(content)
    assert OomKills(str(tmp_path / "proc"), str(tmp_path)).count() is None
