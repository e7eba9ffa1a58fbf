"""When surfaces draw, and how they treat the streams they write to."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Any

import pytest

from milepost.display.ansi import harmless
from milepost.display.choice import choose
from milepost.display.notebook import Notebook
from milepost.display.plain import Plain
from milepost.display.surface import Silent, Surface
from milepost.display.terminal import Terminal


class Counting(Surface):
    """Counts its drawings; each takes ``cost_s``."""

    def __init__(self, clock: Any, cost_s: float = 0.0) -> None:
        super().__init__(period_s=0.25, clock=clock)
        self.clock = clock
        self.cost_s = cost_s
        self.drawn = 0
        self.finished = 0

    def draw(self, view: Any) -> None:
        self.drawn += 1
        self.clock.advance(self.cost_s)

    def finish(self, view: Any) -> None:
        self.finished += 1


def test_updates_between_two_drawings_cost_nothing(view: Any, clock: Any) -> None:
    """The run is looked at only when it is drawn."""
    surface = Plain(clock=clock)
    for _ in range(1000):
        surface.update(view)
    assert view.looks == 0


def test_the_first_drawing_does_not_delay_the_next(view: Any, clock: Any) -> None:
    """The first drawing imports what draws; the picture is live a period later all the same."""
    surface = Counting(clock, cost_s=0.15)
    surface.update(view)
    clock.advance(0.2)
    surface.update(view)
    assert surface.drawn == 1
    clock.advance(0.06)
    surface.update(view)
    assert surface.drawn == 2


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.01, 0.25), (0.03, 0.6), (0.2, 1.0), (3.0, 3.0)])
def test_drawing_takes_a_bounded_share_of_the_time(
    view: Any, clock: Any, cost_s: float, pause_s: float
) -> None:
    """Slow drawings are rarer, once a second at least or half of the time at most."""
    surface = Counting(clock)
    surface.update(view)
    clock.advance(1.0)
    surface.cost_s = cost_s
    surface.update(view)
    clock.advance(pause_s - 0.01)
    surface.update(view)
    assert surface.drawn == 2
    clock.advance(0.02)
    surface.update(view)
    assert surface.drawn == 3


def test_a_change_of_status_is_drawn_after_one_period(view: Any, clock: Any) -> None:
    """When a trial starts or ends, a long pause after a slow drawing is cut short."""
    surface = Counting(clock)
    surface.update(view)
    clock.advance(1.0)
    surface.cost_s = 0.1
    surface.update(view)
    assert surface.drawn == 2
    clock.advance(0.3)
    surface.update(view)
    assert surface.drawn == 2
    view.ended.append(view.running.pop())
    surface.update(view)
    assert surface.drawn == 3
    view.ended.append(view.running.pop())
    surface.update(view)
    assert surface.drawn == 3


def test_closing_twice_draws_the_end_once(view: Any, clock: Any) -> None:
    """The end of a run is shown once, and not at all when there was no run."""
    surface = Counting(clock)
    surface.close()
    assert surface.finished == 0
    surface.update(view)
    surface.close()
    surface.close()
    assert surface.finished == 1


def test_plain_lines_every_half_minute(view: Any, clock: Any, capsys: Any) -> None:
    """A file gets one status line per 30 s and a table at the end, without escape sequences."""
    surface = Plain(clock=clock)
    for _ in range(7):
        clock.advance(10)
        surface.update(view)
    status = capsys.readouterr().out.splitlines()
    assert len(status) == 2
    assert status[0].startswith("digits: 2 of 8 trials ended, 3.0 s; trials: 2 running")
    surface.close()
    end = capsys.readouterr().out
    assert "train_1a2b3_00003" in end
    assert "\x1b" not in end


def test_silence_still_shows_what_workers_print(view: Any, capsys: Any) -> None:
    """verbose=0 hides the run, not the user's own output."""
    surface = Silent()
    surface.update(view)
    surface.line("(train pid=1) hello", "stdout")
    surface.line("(train pid=1) trouble", "stderr")
    surface.close()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("(train pid=1) hello\n", "(train pid=1) trouble\n")
    assert view.looks == 0


def test_a_closed_pipe_ends_the_display_and_not_the_run(
    view: Any, clock: Any, monkeypatch: Any, caplog: Any
) -> None:
    """``script | head`` goes on after head has gone; one log line says so."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        with caplog.at_level(logging.WARNING, "milepost.display"):
            surface = Plain(clock=clock)
            surface.line("lost")
            surface.line("lost as well")
            surface.update(view)
            surface.close()
        # What the file object still holds can never be written; it must not fail at its close.
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())
    assert [r.getMessage() for r in caplog.records] == [
        "Progress is not shown any more, output failed: [Errno 32] Broken pipe. The run goes on."
    ]


@pytest.mark.parametrize("gone", ["missing", "closed"])
@pytest.mark.parametrize("make", [Silent, Plain, Terminal])
def test_without_streams_the_run_goes_on(
    view: Any, monkeypatch: Any, caplog: Any, make: Any, gone: str
) -> None:
    """``script >&- 2>&-``, where Python has no streams, is no reason to fail; nor are closed ones.

    Streams that never were are passed over in silence; ones that were closed are told once.
    """
    closed = io.StringIO()
    closed.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if gone == "missing" else closed)
    assert type(choose(1).surface) is Plain
    with caplog.at_level(logging.WARNING, "milepost.display"):
        surface = make()
        surface.line("lost")
        surface.line("lost as well", "stderr")
        surface.draw(view)
        surface.finish(view)
        surface.close()
    assert len(caplog.records) == (1 if gone == "closed" else 0)


def test_a_narrow_encoding_loses_characters_and_not_lines(monkeypatch: Any) -> None:
    """Where output is ASCII, other characters become question marks."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    Silent().line("naïve…")
    assert raw.getvalue() == b"na?ve?\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("\x1b[2A\x1b[Kup", "up"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b[?25lhidden", "hidden"),
        ("bell\x07", "bell"),
    ],
)
def test_worker_lines_cannot_move_the_cursor(written: str, shown: str) -> None:
    """Colours pass; what would tear the live table does not."""
    assert harmless(written) == shown


def test_a_notebook_cell_is_updated_in_place(view: Any, clock: Any, monkeypatch: Any) -> None:
    """One display is made, later drawings replace it, as HTML with a text form beside it."""
    import IPython.display

    messages: list[tuple[str, dict[str, str]]] = []

    class Handle:
        def update(self, formats: dict[str, str], raw: bool) -> None:
            messages.append(("update", formats))

    def display(formats: dict[str, str], raw: bool, display_id: bool) -> Handle:
        messages.append(("display", formats))
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    surface = Notebook(clock=clock)
    surface.update(view)
    surface.update(view)
    clock.advance(1.5)
    surface.update(view)
    surface.close()
    assert [kind for kind, _ in messages] == ["display", "update", "update"]
    assert "<table" in messages[-1][1]["text/html"]
    assert "train_1a2b3_00003" in messages[-1][1]["text/plain"]
