"""Which captured checkpoint is committed when, and by which thread.

Checkpoints of one trial are committed in the order of their capture; trials go on side by side.
Small ones are committed as a group, one group at a time: what is captured meanwhile makes up the
next group, so the cost of a flush is shared by as many as wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from milepost.keeper.job import Job, Outcome

log = logging.getLogger("milepost.keeper")

THREADS = 4
GROUP = 64
SMALL_BYTES = 1 << 20

_Line = tuple[str, str]  # uuid and trial id


class Pipeline:
    """Threads that commit jobs.

    Args:
        settle: commits a group of jobs.
        done: is called in a commit thread with each group's outcomes, in order per trial.
        failed: is called when ``settle`` raised, which it never should.
    """

    def __init__(
        self,
        settle: Callable[[Sequence[Job]], list[Outcome]],
        done: Callable[[list[Outcome]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._settle = settle
        self._done = done
        self._failed = failed
        self._lines: OrderedDict[_Line, deque[Job]] = OrderedDict()
        self._busy: set[_Line] = set()
        self._open: set[str] = set()
        self._closing: list[tuple[str, Callable[[], None]]] = []
        self._grouping = False
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"commit-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Commit a job after those of its trial; jobs of a closed experiment wait."""
        with self._changed:
            self._lines.setdefault((job.uuid, job.trial_id), deque()).append(job)
            self._changed.notify()

    def open(self, uuid: str) -> None:
        """Begin to commit the jobs of an experiment."""
        with self._changed:
            self._open.add(uuid)
            self._changed.notify_all()

    def close(self, uuid: str, then: Callable[[], None]) -> None:
        """Begin no further job of an experiment, and forget those that wait.

        Args:
            uuid: the experiment.
            then: is called once those under way have ended, at once or in a commit thread.
        """
        with self._changed:
            self._open.discard(uuid)
            for line in [line for line in self._lines if line[0] == uuid]:
                del self._lines[line]
            if self._is_busy(uuid):
                self._closing.append((uuid, then))
                return
        then()

    def _is_busy(self, uuid: str) -> bool:
        return any(line[0] == uuid for line in self._busy)

    def _closed(self) -> list[Callable[[], None]]:
        """What is to be called because an experiment has no job under way any more."""
        over = [(uuid, then) for uuid, then in self._closing if not self._is_busy(uuid)]
        self._closing = [waiting for waiting in self._closing if waiting not in over]
        return [then for _, then in over]

    def stop(self) -> None:
        """End the threads after what they are doing now."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (group := self._next_group()):
                    if self._stopped:
                        return
                    self._changed.wait()
            lines = {(job.uuid, job.trial_id) for job in group}
            small = _is_small(group[0])
            try:
                self._done(self._settle(group))
            except BaseException as error:  # noqa: BLE001 - the keeper ends with it, loudly
                self._failed(error)
                return
            with self._changed:
                self._busy -= lines
                if small:
                    self._grouping = False
                closed = self._closed()
                self._changed.notify_all()
            for then in closed:
                then()

    def _next_group(self) -> list[Job]:
        """Take the next jobs off their lines; trials take turns."""
        if self._stopped:
            return []
        group: list[Job] = []
        for line in list(self._lines):
            if line in self._busy or line[0] not in self._open:
                continue
            queue = self._lines[line]
            if not _is_small(queue[0]):
                if group:
                    continue
                self._take(line, queue, group)
                return group
            if self._grouping:
                continue
            while queue and _is_small(queue[0]) and len(group) < GROUP:
                self._take(line, queue, group)
            if len(group) == GROUP:
                break
        self._grouping = self._grouping or bool(group)
        return group

    def _take(self, line: _Line, queue: deque[Job], group: list[Job]) -> None:
        group.append(queue.popleft())
        self._busy.add(line)
        if queue:
            self._lines.move_to_end(line)
        else:
            self._lines.pop(line)


def _is_small(job: Job) -> bool:
    return job.nbytes <= SMALL_BYTES
