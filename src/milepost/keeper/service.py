"""The keeper: what it does for its driver, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import msgspec

from milepost.checkpoint.collect import Retirement, is_another, retire
from milepost.errors import MilepostError
from milepost.journal.epochs import newest_epoch
from milepost.keeper import recovery
from milepost.keeper.assemble import Assembler
from milepost.keeper.captures import Captures
from milepost.keeper.job import Owner
from milepost.keeper.lease import Leases
from milepost.keeper.loop import Loop
from milepost.keeper.owner import OwnerLock, try_lock
from milepost.keeper.peer import Peer
from milepost.keeper.place import prune, staging_places
from milepost.keeper.protocol import (
    Delete,
    Deleted,
    Drain,
    Drained,
    Hello,
    KeeperEvent,
    Notice,
    Own,
    Release,
    Released,
    decode_driver_request,
    encode,
)
from milepost.keeper.publish import Publisher
from milepost.keeper.recovery import Found
from milepost.keeper.room import Room
from milepost.keeper.sessions import end_sessions
from milepost.keeper.workers import Workers

log = logging.getLogger("milepost.keeper")

_OWN_RETRY_S = 0.05
_KILL_WAIT_S = 5.0


class Settings(NamedTuple):
    """How a keeper is started.

    Attributes:
        node_root: directory of this node's staging.
        driver_pid: the process that started it.
        staging_bytes: how many bytes may wait in staging.
        drain_s: how long it works on when that process has ended.
        umask: what the modes of committed files follow.
    """

    node_root: str
    driver_pid: int
    staging_bytes: int
    drain_s: float
    umask: int


class Keeper:
    """One keeper process.

    Args:
        settings: how it was started.
        driver: the connection to the driver.
        listener: the socket to which workers connect.
    """

    def __init__(self, settings: Settings, driver: socket.socket, listener: socket.socket) -> None:
        self._settings = settings
        self._loop = Loop()
        self._driver: Peer | None = Peer(driver, self._loop.want_writable)
        self._listener = listener
        self._owners: dict[str, Owner] = {}
        self._locks: dict[str, OwnerLock] = {}
        self._claims: dict[str, Own] = {}
        self._recovering: set[str] = set()
        self._searching = 0
        self._drains: list[Drain] = []
        self._releases: list[Release] = []
        self._told_of_others = False
        self._ending = False
        self._hurried = False
        self._failure: BaseException | None = None
        leases = Leases()
        self._leases = leases
        room = Room(settings.staging_bytes)
        self._workers = Workers(leases, room, lambda: self._captures)
        self._captures = Captures(
            self._loop,
            Publisher(Assembler(leases, settings.umask), self._owners.__getitem__),
            leases,
            room,
            tell=self._tell,
            answer=self._workers.answer,
            settled=self._review,
            fenced=self._let_go,
            failed=self._fail,
        )
        self._searcher = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._deleter = ThreadPoolExecutor(1, thread_name_prefix="delete")

    def run(self) -> bool:
        """Serve until the driver has ended and its captures are settled, or the time is up.

        Returns:
            Whether everything was settled. If not, threads may still be waiting for a disk, and
            the process should not wait for them.

        Raises:
            BaseException: what a thread failed with that must not; nothing captured is lost.
        """
        loop = self._loop
        loop.on_signal(signal.SIGIO, self._workers.save_leased)
        loop.on_signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # batch systems warn whole jobs with it
        assert self._driver is not None
        loop.on_readable(self._driver, self._on_driver)
        loop.on_readable(self._listener, self._on_connection)
        try:
            driver_pidfd = os.pidfd_open(self._settings.driver_pid)
        except ProcessLookupError:
            driver_pidfd = -1
            loop.post(self._driver_has_ended)
        else:
            # A child of the driver may hold the connection open after the driver's death.
            loop.on_readable(driver_pidfd, self._driver_has_ended)
        try:
            loop.run()
        finally:
            if driver_pidfd >= 0:
                os.close(driver_pidfd)
            self._listener.close()
        if self._failure is not None:
            raise self._failure
        if not self._hurried:
            self._finish()
        return not self._hurried

    @property
    def has_driver(self) -> bool:
        """Whether the driver is still there."""
        return self._driver is not None

    # --- the driver ----------------------------------------------------------------------------

    def notice(self, level: str, text: str) -> None:
        """Have the driver log a line; may be called by any thread."""
        self._loop.post(lambda: self._tell(Notice(level=level, text=text)))

    def _tell(self, event: KeeperEvent, sent: Callable[[], None] | None = None) -> None:
        if self._driver is None:
            if sent is not None:
                sent()
            return
        self._driver.send(encode(event), sent)

    def _on_driver(self) -> None:
        driver = self._driver
        if driver is None:
            return
        driver.flush()
        for frame in driver.wire.receive_available():
            message = decode_driver_request(frame)
            if isinstance(message, Own):
                self._claim(message)
            elif isinstance(message, Drain):
                answer_later = partial(self._drains.append, message)
                self._search(message.uuid, message.trial_id, message.attempt, then=answer_later)
            elif isinstance(message, Release):
                self._search(message.uuid, then=partial(self._releases.append, message))
            else:
                self._deleter.submit(self._delete, message)
        if driver.wire.ended:
            self._driver_has_ended()

    def _driver_has_ended(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        self._loop.forget(driver)
        driver.close()
        if self._owners:
            log.info("the driver has ended; what was captured is committed now")
        mine = self._settings.driver_pid
        leaders = [each for each in self._workers.processes() if each.pid != mine]
        self._in_search(lambda: end_sessions(leaders, _KILL_WAIT_S))
        self._end()

    # --- experiments ---------------------------------------------------------------------------

    def _claim(self, message: Own) -> None:
        """Take the lock on an experiment's staging, then commit what is in it."""
        uuid = message.experiment.uuid
        if self._ending:
            return
        if uuid in self._owners:
            self._owners[uuid] = Owner(message.experiment, message.epoch)
            return
        lock = try_lock(self._settings.node_root, message.experiment)
        if lock is None:
            if uuid not in self._claims:
                log.warning(
                    "another keeper still serves %s; waiting for it to finish",
                    message.experiment.path,
                )
            self._claims[uuid] = message
            self._loop.call_later(_OWN_RETRY_S, partial(self._claim, message))
            return
        self._claims.pop(uuid, None)
        if _is_taken_over(message):
            log.warning(
                "another driver has taken %s over; what was captured stays in staging for its "
                "keeper",
                message.experiment.path,
            )
            lock.release()
            return
        self._locks[uuid] = lock
        self._owners[uuid] = Owner(message.experiment, message.epoch)
        self._recovering.add(uuid)
        self._in_search(partial(self._recover, message))

    def _recover(self, message: Own) -> None:
        """In the search thread: find what is in staging, and guard it again."""
        experiment = message.experiment
        places = self._places(experiment.path)
        owner = Owner(experiment, message.epoch)
        recovery.sweep_drafts(places, experiment)
        found = recovery.find(places, experiment)
        for staged in found.complete:
            assert staged.captured is not None
            leased = [file.path for file in staged.captured.files if file.way == "leased"]
            if leased and os.path.isdir(staged.tree):
                self._leases.take(staged.base, leased)
        # In the first epoch too: the keeper before this one may have been killed.
        recovery.sweep_trials(experiment.path, may_sweep=owner.is_held)
        self._loop.post(partial(self._on_recovered, experiment.uuid, found))
        if not self._told_of_others:
            self._told_of_others = True
            recovery.report_left_behind(places, experiment)
            recovery.report_others(self._settings.node_root, places, experiment.uuid)

    def _on_recovered(self, uuid: str, found: Found) -> None:
        self._recovering.discard(uuid)
        self._captures.open(uuid)
        self._add_found(uuid, found)
        self._captures.begin(uuid)
        self._review()

    def _search(
        self,
        uuid: str,
        trial_id: str | None = None,
        attempt: int | None = None,
        *,
        then: Callable[[], None],
    ) -> None:
        """Find captures of ended workers that were never announced, then call back."""

        def search() -> None:
            owner = self._owners.get(uuid)
            found = Found([], {})
            if owner is not None:
                places = self._places(owner.experiment.path)
                found = recovery.find(places, owner.experiment, known=known, trial_id=trial_id)
            self._loop.post(partial(finish, found))

        def finish(found: Found) -> None:
            self._add_found(uuid, found)
            self._captures.give_up_incomplete(uuid, trial_id, attempt)
            then()
            self._review()

        known = self._captures.known()
        self._in_search(search)

    def _add_found(self, uuid: str, found: Found) -> None:
        for trial_id, index in found.highest.items():
            self._captures.note_index(uuid, trial_id, index)
        for staged in found.complete:
            self._captures.add_found(staged)

    def _review(self) -> None:
        """Answer what has become true, and end when nothing is left to do."""
        for drain in list(self._drains):
            if self._is_settled(drain.uuid, drain.trial_id, drain.attempt):
                self._drains.remove(drain)
                self._tell(
                    Drained(
                        uuid=drain.uuid,
                        trial_id=drain.trial_id,
                        attempt=drain.attempt,
                        highest_index=self._captures.highest_index(drain.uuid, drain.trial_id),
                    )
                )
        for release in list(self._releases):
            if self._is_settled(release.uuid):
                self._releases.remove(release)
                self._let_go(release.uuid, Released(uuid=release.uuid))
        if self._ending and not self._searching and not self._recovering:
            for uuid in list(self._owners):
                if not self._captures.pending(uuid):
                    self._let_go(uuid)
            if not self._owners and not self._locks:
                self._loop.stop()

    def _is_settled(
        self, uuid: str, trial_id: str | None = None, attempt: int | None = None
    ) -> bool:
        """Whether nothing waits that was captured, as far as can be known by now."""
        if uuid in self._claims or uuid in self._recovering:
            return False  # it is not known what there is
        return not self._captures.pending(uuid, trial_id, attempt)

    def _let_go(self, uuid: str, answer: Released | None = None) -> None:
        owner = self._owners.pop(uuid, None)
        if owner is not None:
            # Another keeper may begin as soon as the lock is free, on the very same captures.
            self._captures.close(uuid, partial(self._free, owner, answer))
        elif answer is not None:
            self._tell(answer)

    def _free(self, owner: Owner, answer: Released | None) -> None:
        uuid = owner.experiment.uuid
        prune(self._settings.node_root, self._places(owner.experiment.path), uuid)
        self._locks.pop(uuid).release()
        if answer is not None:
            self._tell(answer)
        if self._ending:
            self._review()

    def _places(self, experiment_path: str) -> list[str]:
        return staging_places(self._settings.node_root, os.path.dirname(experiment_path))

    # --- deletion ------------------------------------------------------------------------------

    def _delete(self, message: Delete) -> None:
        """In the deletion thread: what journal and retention have decided."""
        reason = ""
        try:
            owner = self._owners.get(message.uuid)
            if owner is None:
                raise MilepostError("the keeper does not serve this experiment")
            owner.require_held()
            if not message.path.startswith(owner.experiment.path + os.sep):
                raise MilepostError(f"{message.path} is not in {owner.experiment.path}")
            places = self._places(owner.experiment.path)
            recovery.forget(places, owner.experiment, message.trial_id, message.index)
            if is_another(message.path, message.index):
                outcome = str(Retirement.GONE)
            else:
                outcome = str(retire(message.path, fence=owner.require_held))
        except (OSError, MilepostError) as error:
            outcome, reason = "failed", str(error)
            log.warning("%s could not be deleted: %s", message.path, error)
        event = Deleted(
            uuid=message.uuid,
            trial_id=message.trial_id,
            index=message.index,
            outcome=outcome,
            reason=reason,
        )
        self._loop.post(partial(self._tell, event))

    # --- workers -------------------------------------------------------------------------------

    def _on_connection(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return
        peer = Peer(sock, self._loop.want_writable)
        hello: list[Hello] = []
        self._loop.on_readable(peer, partial(self._on_worker, peer, hello))

    def _on_worker(self, peer: Peer, hello: list[Hello]) -> None:
        peer.flush()
        try:
            for frame in peer.wire.receive_available():
                if hello:
                    self._workers.request(peer, hello[0], frame)
                else:
                    hello.append(self._workers.greet(peer, frame))
        except msgspec.DecodeError as error:
            log.warning("process %d is no worker of ours: %s", peer.process_id(), error)
            self._part(peer, hello)
            return
        if peer.wire.ended:
            self._part(peer, hello)

    def _part(self, peer: Peer, hello: list[Hello]) -> None:
        self._loop.forget(peer)
        peer.close()
        if hello:
            self._workers.part(peer, hello[0])

    # --- the end -------------------------------------------------------------------------------

    def _end(self) -> None:
        """Settle everything that was captured, for a bounded time, and stop."""
        if self._ending:
            return
        self._ending = True
        self._loop.call_later(self._settings.drain_s, self._out_of_time)
        self._claims.clear()
        for uuid in self._owners:
            self._search(uuid, then=lambda: None)
        self._review()

    def _out_of_time(self) -> None:
        log.warning(
            "not everything was committed within %.0f s; the rest stays in staging and is "
            "committed when the experiment is restored",
            self._settings.drain_s,
        )
        self._hurried = True
        self._loop.stop()

    def _in_search(self, act: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - the keeper ends with it, loudly
                self._loop.post(partial(self._fail, error))
            finally:
                self._loop.post(done)

        def done() -> None:
            self._searching -= 1
            self._review()

        self._searching += 1
        self._searcher.submit(guarded)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._loop.stop()

    def _finish(self) -> None:
        self._searcher.shutdown()
        self._deleter.shutdown()
        self._workers.stop()
        self._captures.stop()
        for lock in self._locks.values():
            lock.release()


def _is_taken_over(message: Own) -> bool:
    try:
        return newest_epoch(message.experiment.path) > message.epoch
    except FileNotFoundError:
        return False  # it was moved, and what becomes of its captures is found out one by one
