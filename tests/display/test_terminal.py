"""The live table on a real pseudo-terminal, seen through a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

CHILD = Path(__file__).with_name("terminal_child.py")


class Session:
    """A child under a pseudo-terminal, and what its user sees."""

    def __init__(
        self, columns: int, lines: int, running: int, env: dict[str, str], errors: str | None
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        with open(errors or os.devnull, "w") as file:
            self.child = subprocess.Popen(
                [sys.executable, str(CHILD), str(running)],
                stdin=slave,
                stdout=slave,
                stderr=slave if errors is None else file,
                env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **env},
            )
        os.close(slave)
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def until(self, title: str) -> list[str]:
        """Read until the child waits under this title; return the lines on the screen."""
        while self.screen.title != title:
            ready, _, _ = select.select([self.master], [], [], 30)
            assert ready, f"the child never came to {title!r}:\n{self.raw.decode()}"
            data = os.read(self.master, 65536)
            self.raw += data
            self.stream.feed(data)
        return [line.rstrip() for line in self.screen.display]

    def go_on(self) -> None:
        os.write(self.master, b"\n")

    def scrolled(self) -> list[str]:
        """Everything the user can scroll back to, oldest first, and the screen."""
        lines = [
            "".join(row[i].data for i in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return lines + [line.rstrip() for line in self.screen.display]

    def close(self) -> None:
        os.close(self.master)
        self.child.kill()
        self.child.wait()


Start = Callable[..., Session]


@pytest.fixture
def start() -> Iterator[Start]:
    sessions: list[Session] = []

    def begin(
        columns: int = 100,
        lines: int = 30,
        running: int = 2,
        errors: str | None = None,
        **env: str,
    ) -> Session:
        sessions.append(Session(columns, lines, running, env, errors))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()


def test_lines_scroll_above_one_table(start: Start) -> None:
    """Whatever workers and the script print stands above the table, which is there once."""
    session = start()
    screen = session.until("running")
    title = screen.index("digits: 13 of 20 trials ended, 2.0 s")
    above = screen[:title]
    assert above[0] == "before the run Terminal"
    assert [line for line in above if "epoch" in line] == [
        f"(train pid=7) epoch {i} done" for i in (1, 2, 3)
    ]
    assert [line for line in above if "trouble" in line] == [
        f"(train pid=7) trouble {i}" for i in (1, 2, 3)
    ]
    assert [line for line in above if "script" in line] == [f"script says {i}" for i in (1, 2, 3)]
    below = "\n".join(screen[title:])
    assert "2 running, 12 ended, 1 failed" in below
    assert below.count("train_1a2b3_00000") == 1
    assert "0.03" in below  # the newest accuracy, not an older one
    assert "ValueError: bad" in below


def test_the_end_stands_and_the_cursor_is_back(start: Start) -> None:
    """The final table lists all trials once, longer than the screen; the prompt comes after."""
    session = start(lines=20)
    session.until("running")
    session.go_on()
    session.until("ended")
    lines = session.scrolled()
    assert len([line for line in lines if line.startswith("digits: ")]) == 1
    assert len([line for line in lines if line.startswith("train_1a2b3_000")]) == 16
    assert lines.index("after the run") > lines.index("digits: 13 of 20 trials ended, 2.0 s")
    assert not session.screen.cursor.hidden


@pytest.mark.parametrize(("columns", "lines"), [(40, 12), (60, 24), (200, 50)])
def test_the_table_fits_any_terminal(start: Start, columns: int, lines: int) -> None:
    """However small the terminal and however many trials run, nothing is drawn twice."""
    session = start(columns, lines, running=40)
    screen = session.until("running")
    drawn = session.scrolled()
    assert len([line for line in drawn if line.startswith("digits: ")]) == 1
    assert any("train_1a2b3_00000" in line for line in screen)
    session.go_on()
    session.until("ended")
    assert len([line for line in session.scrolled() if line.startswith("digits: ")]) == 1


def test_no_color_is_honoured(start: Start) -> None:
    """With NO_COLOR no colour is sent, and the table is still live."""
    colours = (b"\x1b[36m", b"\x1b[32m", b"\x1b[31m")
    plain = start(NO_COLOR="1")
    plain.until("running")
    assert not any(colour in plain.raw for colour in colours)
    coloured = start()
    coloured.until("running")
    assert any(colour in coloured.raw for colour in colours)


def test_a_dumb_terminal_gets_lines(start: Start) -> None:
    """A terminal that cannot move its cursor is treated like a file."""
    session = start(TERM="dumb")
    session.until("running")
    assert b"before the run Plain" in session.raw
    assert b"\x1b[1A" not in session.raw


def test_a_redirected_stream_stays_redirected(start: Start, tmp_path: Path) -> None:
    """With ``2> file`` what workers write to stderr goes into the file, not onto the screen."""
    errors = tmp_path / "errors"
    session = start(errors=str(errors))
    screen = session.until("running")
    assert not any("trouble" in line for line in screen)
    assert errors.read_text() == "".join(f"(train pid=7) trouble {i}\n" for i in (1, 2, 3))
