"""What a worker has said last, for those who ask why it died or hung."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from milepost.control.oom import OomKills
from milepost.worker.failure import is_own, keeps_own_frames

_KEPT_BYTES = 1 << 16
_SHOWN_LINES = 10
_FATAL = b"Fatal Python error: "
_STACK = re.compile(rb"^(?:Current thread|Thread) 0x[0-9a-f]+", re.MULTILINE)
_FRAME = '  File "'
_BEGIN = f"{_FRAME}<string>"  # of the process that forks workers
_MODULES = re.compile(r"\n+Extension modules: .*\Z", re.DOTALL)


@dataclass(slots=True)
class _Heard:
    oom_kills: int | None
    tail: bytearray = field(default_factory=bytearray)
    asked_at: int | None = None  # position in the tail


class LastWords:
    """Keeps the end of what each worker writes to standard error while it runs a trial.

    Args:
        oom: tells of processes that were killed for memory.
    """

    def __init__(self, oom: OomKills | None = None) -> None:
        self._oom = oom or OomKills()
        self._workers: dict[str, _Heard] = {}

    def begin(self, worker_id: str) -> None:
        """The worker begins a trial."""
        self._workers[worker_id] = _Heard(self._oom.count())

    def forget(self, worker_id: str) -> None:
        """Nobody will ask about the worker any more."""
        self._workers.pop(worker_id, None)

    def hear(self, worker_id: str, data: bytes) -> None:
        """Take what the worker has written."""
        heard = self._workers.get(worker_id)
        if heard is None:
            return
        heard.tail += data
        surplus = len(heard.tail) - _KEPT_BYTES
        if surplus > 0:
            del heard.tail[:surplus]
            if heard.asked_at is not None:
                heard.asked_at = max(0, heard.asked_at - surplus)

    def ask(self, worker_id: str) -> None:
        """From here on the worker's answer is looked for: where its threads are."""
        heard = self._workers.get(worker_id)
        if heard is not None:
            heard.asked_at = len(heard.tail)

    def stack(self, worker_id: str) -> str:
        """Where the worker's threads were when it was asked; empty without an answer."""
        heard = self._workers.get(worker_id)
        if heard is None or heard.asked_at is None:
            return ""
        found = _STACK.search(heard.tail, heard.asked_at)
        return "" if found is None else _trimmed(bytes(heard.tail[found.start() :]))

    def of_crash(self, worker_id: str) -> str:
        """Where the worker crashed, as Python said; else the last lines that it wrote."""
        heard = self._workers.get(worker_id)
        if heard is None:
            return ""
        at = heard.tail.rfind(_FATAL)
        if at >= 0:
            return _trimmed(bytes(heard.tail[at:]))
        lines = heard.tail.decode(errors="replace").split("\n")[-_SHOWN_LINES - 1 :]
        shown = "\n".join(f"  {line}" for line in lines if line.strip())
        return f"The last it wrote to standard error:\n{shown}" if shown else ""

    def oom_kills(self, worker_id: str) -> int:
        """How many processes around the worker were killed for memory since it began its trial."""
        heard = self._workers.get(worker_id)
        now = self._oom.count()
        if heard is None or heard.oom_kills is None or now is None:
            return 0
        return now - heard.oom_kills


def _trimmed(data: bytes) -> str:
    """A dump of Python's, without the frames of ours below user code."""
    text = _MODULES.sub("", data.decode(errors="replace")).strip()
    if keeps_own_frames():
        return text
    threads = re.split(r"\n+(?=(?:Current thread|Thread) 0x)", text)
    return "\n\n".join(map(_without_own_frames, threads))


def _without_own_frames(thread: str) -> str:
    """One thread of a dump, most recent call first: what called user code comes last."""
    lines = thread.split("\n")
    end = len(lines)
    if lines[end - 1].startswith(_BEGIN):
        end -= 1
    while end and _is_own(lines[end - 1]):
        end -= 1
    has_user_code = end and lines[end - 1].startswith(_FRAME)
    return "\n".join(lines[:end]) if has_user_code else thread


def _is_own(line: str) -> bool:
    return line.startswith(_FRAME) and is_own(line.removeprefix(_FRAME).partition('"')[0])
