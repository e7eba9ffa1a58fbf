"""The machine against a world that does anything a real one may do, in any order."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import BOOM, DIED, SIGNALLED, TAKEN, Driven

from milepost.checkpoint.validation import Task
from milepost.control.resources import request_of
from milepost.control.state import Phase

Choice = tuple[str, Callable[[], list[str]]]

NOTHING, _HALF_A_CPU = request_of([{}]), request_of([{"CPU": 0.5}])


@dataclasses.dataclass
class Worker:
    """A worker process as it really is, which the machine learns of by events."""

    trial: str
    attempt: int
    next_index: int
    state: str = "starting"  # training, saving, obeying, idle, dead
    action: str = "continue"
    waits: bool = False  # for resources that a trainer in it needs
    lent: int = 0
    told: bool = False  # it knows that it is to save
    attends: bool = False  # it was told to wait for answers, which it may not do by itself


class World:
    """Workers, a keeper and a scheduler around a machine."""

    def __init__(self, *, groups: bool = False, **options: Any) -> None:
        self.options = options
        self.groups = groups
        self.m = Driven(**options)
        self.kind = options.get("kind", "function")
        self.judged = options.get("judged", True)
        self.workers: dict[int, Worker] = {}
        self.captured: set[tuple[str, int, int]] = set()  # (trial, attempt, index), not settled
        self.on_disk: dict[str, set[int]] = {}
        self.drains: list[tuple[str, int | None]] = []
        self.deletes: list[tuple[str, int]] = []
        self.verifying: dict[tuple[str, int], tuple[str, list[int]]] = {}
        self.forks: dict[str, tuple[str, int, int]] = {}  # who goes on from what, and its floor
        self.given_up: set[str] = set()
        self.ended: dict[str, int] = {}
        self.added = 0
        self.recorded: set[str] = set()
        self.validator: tuple[int, str, bool] | None = None  # number, of what, whether it goes on
        self.validated: set[str] = set()

    def act(self, told: list[str]) -> None:
        """Carry out commands as a controller, a keeper and workers would."""
        for command in told:
            verb, *rest = command.split()
            if verb == "record":
                self.recorded.add(command)
                self._note(rest)
            elif verb == "run":
                self._run(rest)
            elif verb in ("attend", "preempt"):
                self.workers[_worker(rest[0])].attends = True
                self.workers[_worker(rest[0])].told |= verb == "preempt"
            elif verb == "answer":
                worker = self.workers[_worker(rest[0])]
                if worker.state != "dead":
                    worker.action = rest[1]
                    saves = "save" in rest
                    worker.state = (
                        "saving" if saves else "training" if rest[1] == "continue" else "obeying"
                    )
            elif verb == "lend":
                worker = self.workers[_worker(rest[0])]
                assert worker.waits, "it is answered once"
                worker.waits = False
                worker.lent += rest[2] != "size=0"
            elif verb in ("end", "kill"):
                self.workers[_worker(rest[0])].state = "ending"
            elif verb == "validate":
                assert self.validator is None, "one at a time"
                assert rest[0] not in self.given_up, "what is to be validated stays"
                assert rest[0].partition("/")[0] in self.m.machine.trials, "it ends after that"
                self.validator = int(rest[2].removeprefix("validator-")), rest[0], True
            elif verb == "publish":
                assert rest[0] not in self.given_up
                assert rest[0] not in self.validated, "a checkpoint is validated once"
                self.validated.add(rest[0])
            elif verb == "cancel":
                assert self.validator is not None
                self.validator = *self.validator[:2], False
            elif verb == "drain":
                trial, _, attempt = rest[0].rpartition(".")
                self.drains.append((trial, None if attempt == "None" else int(attempt)))
            elif verb == "delete":
                self._delete(rest[0])
            elif verb == "judge":
                trial, _, index = rest[0].partition("/")
                self.act(self.m.judged(trial, int(index)))
            elif verb == "verify":
                indices = command[command.index("[") + 1 : command.index("]")]
                of = command.partition(" of ")[2].split()
                key = rest[0], self.m.trial(rest[0]).ticket
                among = [int(i) for i in indices.split(",")]
                self.verifying[key] = of[0] if of else rest[0], among
            elif verb == "ended":
                assert rest[0] not in self.ended, "a trial ends once"
                self.ended[rest[0]] = 1
                self.forks.pop(rest[0], None)

    def _note(self, record: list[str]) -> None:
        """Keep track of who depends on another trial's checkpoint."""
        if record[0] == "exploited":
            donor, _, index = record[2].partition("/")
            floor = max((i for t, i in self._indices() if t == record[1]), default=-1) + 1
            self.forks[record[1]] = donor, int(index), floor
        elif record[0] == "committed":
            trial, _, index = record[1].partition("/")
            if trial in self.forks and int(index) >= self.forks[trial][2]:
                del self.forks[trial]

    def _indices(self) -> list[tuple[str, int]]:
        return [
            *((trial, index) for trial, _, index in self.captured),
            *((trial, index) for trial, there in self.on_disk.items() for index in there),
        ]

    def _run(self, rest: list[str]) -> None:
        trial, worker = rest[0], _worker(rest[2])
        fields = dict(part.split("=") for part in rest[3:] if "=" in part)
        assert trial not in self.ended, "an ended trial is never started again"
        first = int(fields["first"])
        known = {i for t, _, i in self.captured if t == trial} | self.on_disk.get(trial, set())
        assert all(first > index for index in known), "an index is never handed out twice"
        if "/" in fields.get("from", ""):
            donor, _, index = fields["from"].partition("/")
            assert self.forks[trial][:2] == (donor, int(index)), "it starts from what is on record"
            assert int(index) in self.on_disk[donor], "it starts from what exists"
        elif "from" in fields:
            assert int(fields["from"]) in self.on_disk[trial], "it starts from what exists"
        self.workers[worker] = Worker(trial, int(fields["attempt"]), first)

    def _delete(self, what: str) -> None:
        trial, _, index = what.partition("/")
        assert f"record deleting {what}" in self.recorded, "deleting is recorded first"
        there = self.on_disk.get(trial, set())
        if what not in self.given_up:  # what was busy may have become the latest since
            assert not there or int(index) != max(there), "the latest is never deleted"
        self.given_up.add(what)
        needed = {
            fork[:2] for target, fork in self.forks.items() if target in self.m.machine.trials
        }
        assert (trial, int(index)) not in needed, "what another trial goes on from stays"
        self.deletes.append((trial, int(index)))

    # --- what can happen ----------------------------------------------------------------------

    def choices(self, *, calm: bool) -> list[Choice]:
        """What may happen next; only what moves things forward when ``calm``."""
        found: list[Choice] = []
        m = self.m
        if not calm and self.added < 6:
            found.append(("add", self._add))
        for number, worker in list(self.workers.items()):
            found += self._of_worker(number, worker, calm=calm)
        for trial, attempt, index in self._next_to_settle():
            found.append(("commit", lambda t=trial, a=attempt, i=index: self._commit(t, a, i)))
            if not calm:
                found.append(("lose", lambda t=trial, a=attempt, i=index: self._lose(t, a, i)))
        for trial, attempt in self.drains:
            if not any(t == trial and attempt in (None, a) for t, a, _ in self.captured):
                found.append(("drained", lambda t=trial, a=attempt: self._drained(t, a)))
        for trial, index in self.deletes:
            outcomes = ["deleted"] if calm else ["deleted", "busy", "failed"]
            for outcome in outcomes:
                found.append((outcome, lambda t=trial, i=index, o=outcome: self._deleted(t, i, o)))
        for (trial, ticket), (of, among) in self.verifying.items():
            there = [index for index in among if index in self.on_disk[of]]
            late = trial in m.machine.trials and m.trial(trial).ticket != ticket
            # What a question that nobody asks any more would find bad stays as it is.
            for index in (there[:1] or [None]) if calm or late else [*there, None]:
                verify = functools.partial(self._verified, trial, ticket, index)
                found.append(("verified" if index in there[:1] else "spoil", verify))
        found += self._of_validator(calm=calm)
        if not calm:
            found += self._exploits()
            found += [
                (verb, lambda t=trial, v=verb: getattr(m, v)(t))
                for trial in m.machine.trials
                for verb in ("pause", "stop", "overdue", "release")
            ]
        found += [
            ("unpause", lambda t=trial: m.unpause(t))
            for trial, state in m.machine.trials.items()
            if state.phase is Phase.PAUSED
        ]
        if m.machine.has_room and len(m.machine.state.queue):
            found.append(("place", m.place))
        return found

    def _of_validator(self, *, calm: bool) -> list[Choice]:
        if self.validator is None:
            return []
        number, _, goes_on = self.validator
        if not goes_on:
            return [("is gone", self._validator_gone)]
        found = [("validated", lambda: self._validated(number, "VALIDATED"))]
        if not calm:
            found.append(("is invalid", lambda: self._validated(number, "VALIDATION_FAILED")))
            found.append(("dies", lambda: self._validator_dies(number)))
        return found

    def _validated(self, number: int, status: str) -> list[str]:
        assert self.validator is not None
        self.validator = *self.validator[:2], False
        return self.m.validated(number, status, score=-number)

    def _validator_gone(self) -> list[str]:
        assert self.validator is not None
        (number, *_), self.validator = self.validator, None
        return self.m.validator_gone(number)

    def _validator_dies(self, number: int) -> list[str]:
        return self._validated(number, "VALIDATION_FAILED") + self._validator_gone()

    def _exploits(self) -> list[Choice]:
        """The scheduler has a trial that waits go on from another one's checkpoint, or its own."""
        trials = self.m.machine.trials
        return [
            ("exploit", lambda t=trial, d=donor: self.m.exploit(t, d))
            for trial, state in trials.items()
            for donor in trials
            if state.phase is not Phase.TRAINING and self.m.machine.can_exploit(trial, donor, 1)
        ]

    def _next_to_settle(self) -> list[tuple[str, int, int]]:
        """The oldest capture of each trial: commits keep the order of reports."""
        first: dict[str, tuple[str, int, int]] = {}
        for capture in sorted(self.captured, key=lambda each: each[2]):
            first.setdefault(capture[0], capture)
        return [first[trial] for trial in sorted(first)]

    def _add(self) -> list[str]:
        self.added += 1
        name = f"t{self.added}"
        if not self.groups:
            return self.m.add(name, {"CPU": 1 + self.added % 2})
        size = 1 + self.added % 2
        most = size + 1 if self.added % 3 == 0 else None
        return self.m.add(name, *({"CPU": 1},) * size, size=size, most=most)

    def _peers(self, number: int) -> list[Worker]:
        """The workers of a worker's trial, which do everything together; itself at least."""
        trial = self.m.machine.trials.get(self.workers[number].trial)
        names = [] if trial is None else [_worker(each) for each in trial.workers]
        return [self.workers[each] for each in names if each in self.workers] or [
            self.workers[number]
        ]

    def _may_report(self, number: int) -> bool:
        """Whether it is the one that speaks for its trial, and all others are there."""
        peers = self._peers(number)
        trial = self.m.machine.trials.get(self.workers[number].trial)
        whole = trial is None or len(trial.workers) == trial.size
        return (
            whole
            and peers[0] is self.workers[number]
            and all(peer.state == "training" and not peer.waits for peer in peers)
        )

    def _of_worker(self, number: int, worker: Worker, *, calm: bool) -> list[Choice]:
        m = self.m
        found: list[Choice] = []
        if worker.state == "ending":
            return [("gone", lambda: self._gone(number))]
        if worker.state == "starting":
            found.append(("started", lambda: self._started(number)))
        elif worker.state == "training" and not worker.waits:
            if worker.lent:
                found.append(("give back", lambda: self._give_back(number)))
            elif self.groups and not calm:
                found.append(("borrow", lambda: self._borrow(number)))
            found.append(("finish", lambda: self._finish(number, "returned")))
            if not calm and self._may_report(number):
                actions = ("continue", "stop", "pause") if self.judged else ("continue", "stop")
                for action in actions:
                    found.append((action, lambda a=action: self._report(number, a, keep=False)))
                    if self.kind == "function":
                        found.append((action, lambda a=action: self._report(number, a, keep=True)))
                for keep in {self.kind == "function", False} if self.judged else ():
                    found.append(("offer", lambda k=keep: self._offer(number, keep=k)))
                    found += [
                        ("copy", lambda k=keep, d=donor: self._copy(number, d, keep=k))
                        for donor in m.machine.trials
                        if m.machine.can_exploit(worker.trial, donor, 1)
                    ]
        elif worker.state == "saving":
            found.append(("saved", lambda: self._saved(number)))
        elif worker.state == "obeying":
            found.append(("obey", lambda: self._finish(number, worker.action)))
            if not calm:
                found.append(("again", lambda: m.reported(number)))
        if not calm and worker.state not in ("idle", "dead"):
            found.append(("fail", lambda: self._fail(number)))
            found.append(("die", lambda: self._gone(number)))
            found.append(("is taken along", lambda: self._taken_along(number)))
            found.append(("capture and die", lambda: self._capture_and_die(number)))
            found.append(("is silent", lambda: m.silent(number)))
            if self.groups and worker.state != "obeying":
                found.append(("is preempted", lambda: m.preempting(number, 0)))
                found.append(("room", m.look_for_room))
            found.append(("is signalled", lambda: self._signalled(number)))
            trains = worker.state == "training" and not worker.waits
            if trains and (m.machine.state.interrupted or worker.told):
                found.append(("leaves", lambda: self._finish(number, "stop")))
        return found

    def _started(self, number: int) -> list[str]:
        self.workers[number].state = "training"
        return self.m.started(number)

    def _capture(self, number: int) -> int:
        worker = self.workers[number]
        index = worker.next_index
        for peer in self._peers(number):
            peer.next_index = index + 1
        self.captured.add((worker.trial, worker.attempt, index))
        return index

    def _report(self, number: int, action: str, *, keep: bool) -> list[str]:
        index = self._capture(number) if keep else None
        awaited = self.judged or self.workers[number].attends or action != "continue"
        told = self.m.reported(number, action, checkpoint=index, score=number, awaited=awaited)
        assert awaited or f"answer worker-{number} continue" in told, "it has gone on already"
        return told

    def _offer(self, number: int, *, keep: bool) -> list[str]:
        told = self.m.offer(self.workers[number].trial)
        return told + self._report(number, "continue", keep=keep)

    def _copy(self, number: int, donor: str, *, keep: bool) -> list[str]:
        told = self.m.exploit(self.workers[number].trial, donor)
        return told + self._report(number, "continue", keep=keep)

    def _saved(self, number: int) -> list[str]:
        worker = self.workers[number]
        worker.state = "training" if worker.action == "continue" else "obeying"
        return self.m.saved(number, self._capture(number))

    def _borrow(self, number: int) -> list[str]:
        self.workers[number].waits = True
        return self.m.borrow(number, 1, 1, least=1 + number % 2)

    def _give_back(self, number: int) -> list[str]:
        self.workers[number].lent = 0
        return self.m.give_back(number)

    def _finish(self, number: int, reason: str) -> list[str]:
        self.workers[number].state = "idle"
        return self.m.finished(number, reason)

    def _fail(self, number: int) -> list[str]:
        self.workers[number].state = "idle"
        return self.m.failed(number, BOOM)

    def _gone(self, number: int) -> list[str]:
        del self.workers[number]
        return self.m.gone(number, DIED)

    def _signalled(self, number: int) -> list[str]:
        del self.workers[number]
        return self.m.gone(number, SIGNALLED)

    def _taken_along(self, number: int) -> list[str]:
        del self.workers[number]
        return self.m.gone(number, TAKEN)

    def _capture_and_die(self, number: int) -> list[str]:
        if self.workers[number].state == "training":
            self._capture(number)
        return self._gone(number)

    def _commit(self, trial: str, attempt: int, index: int) -> list[str]:
        self.captured.discard((trial, attempt, index))
        self.on_disk.setdefault(trial, set()).add(index)
        return self.m.committed(trial, index, attempt, validation=self.task(index))

    def task(self, index: int) -> Task | None:
        """How a checkpoint is to be validated, as its manifest says."""
        return Task() if index % 3 and self.options.get("validation") else None

    def _lose(self, trial: str, attempt: int, index: int) -> list[str]:
        self.captured.discard((trial, attempt, index))
        return self.m.commit_failed(trial, index, attempt, full=index % 2 == 0)

    def _drained(self, trial: str, attempt: int | None) -> list[str]:
        self.drains.remove((trial, attempt))
        return self.m.drained(trial, attempt, max(self.on_disk.get(trial, ()), default=-1))

    def _deleted(self, trial: str, index: int, outcome: str) -> list[str]:
        self.deletes.remove((trial, index))
        if outcome == "deleted":
            self.on_disk.get(trial, set()).discard(index)
        return self.m.deleted(trial, index, outcome)

    def _verified(self, trial: str, ticket: int, index: int | None) -> list[str]:
        of, among = self.verifying.pop((trial, ticket))
        for bad in among:
            if bad == index:
                break
            self.on_disk[of].discard(bad)
        return self.m.verified(trial, index, ticket=ticket)


def _worker(text: str) -> int:
    return int(text.removeprefix("worker-"))


def live(world: World, data: st.DataObject, steps: int) -> None:
    """Let so many things happen."""
    for _ in range(steps):
        choices = world.choices(calm=False)
        if not choices:
            break
        _, happen = data.draw(st.sampled_from(choices), "event")
        world.act(happen())


def nothing_is_left(world: World) -> None:
    """Nobody holds a checkpoint but for results that refer to another trial's."""
    state = world.m.machine.state
    left = {(offer.trial_id, offer.index) for offer in state.results}
    assert {trial for trial, _ in left} == state.offers.keys()
    assert state.orphans.keys() <= left


def settle_down(world: World) -> None:
    """Let everything come to its end by itself."""
    world.act(world.m.search_ended())
    for _ in range(1000):
        choices = world.choices(calm=True)
        if world.m.machine.is_over or not choices:
            break
        world.act(choices[0][1]())


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_every_trial_ends(data: st.DataObject) -> None:
    """Resources are never over-committed, nothing that is needed is deleted, and the run ends."""
    kind = data.draw(st.sampled_from(["function", "class"]), "kind")
    validation = data.draw(st.sampled_from([None, NOTHING, _HALF_A_CPU]), "validation")
    world = World(
        groups=kind == "function" and data.draw(st.booleans(), "groups"),
        kind=kind,
        judged=kind == "class" or data.draw(st.booleans(), "judged"),
        cpus=data.draw(st.integers(2, 4), "cpus") + (validation is _HALF_A_CPU) / 2,
        keep=data.draw(st.sampled_from([None, 1, 2]), "keep"),
        rank_by=data.draw(st.sampled_from([None, "score"]), "rank_by"),
        max_failures=data.draw(st.sampled_from([0, 1, -1]), "max_failures"),
        max_concurrent=data.draw(st.sampled_from([None, 1]), "max_concurrent"),
        reuse=data.draw(st.booleans(), "reuse"),
        save_every=data.draw(st.sampled_from([0, 1]), "save_every"),
        save_at_end=data.draw(st.booleans(), "save_at_end"),
        can_save=data.draw(st.booleans(), "can_save"),
        fail_fast=False,
        validation=validation,
    )
    live(world, data, data.draw(st.integers(0, 60), "steps"))
    ending = data.draw(st.sampled_from(["by itself", "stop all", "interrupt"]), "ending")
    if ending == "stop all":
        world.act(world.m.stop_all())
        if data.draw(st.booleans(), "grace over"):
            world.act(world.m.grace_over())
    elif ending == "interrupt":
        world.act(world.m.interrupt())
        live(world, data, data.draw(st.integers(0, 20), "steps after that"))
        if data.draw(st.booleans(), "grace over"):
            world.act(world.m.grace_over())
    settle_down(world)
    assert world.m.machine.is_over, (ending, world.m.machine.state)
    if ending != "interrupt":
        assert len(world.ended) == world.added
        assert not world.m.machine.trials
        nothing_is_left(world)
        assert not world.m.machine.state.validations
    assert not world.captured or ending == "interrupt"


# --- populations -------------------------------------------------------------------------------


def of_population(rng: random.Random) -> dict[str, Any]:
    """Options of a machine for trials that go on from each other's checkpoints."""
    return {
        "kind": rng.choice(["function", "class"]),
        "cpus": rng.randint(3, 9),
        "keep": rng.choice([None, 1, 1, 2]),
        "max_failures": rng.choice([0, 1, -1, -1]),
        "reuse": rng.random() < 0.3,
        "save_every": rng.choice([0, 1]),
        "can_save": True,
        "validation": rng.choice([None, NOTHING]),
    }


#: How often things happen; others are chosen with 1.
_OFTEN = {"copy": 8, "offer": 8, "exploit": 6, "commit": 12, "verified": 8, "place": 12,
          "started": 12, "obey": 12, "saved": 12, "deleted": 4, "drained": 8, "unpause": 4,
          "continue": 6, "gone": 8}  # fmt: skip
_SELDOM = {"finish": 0.1, "stop": 0.1, "fail": 0.3, "die": 0.3, "lose": 0.3, "release": 0.3,
           "is silent": 0.1, "overdue": 0.3, "spoil": 0.1}  # fmt: skip


def evolve(world: World, rng: random.Random, steps: int) -> int:
    """Let so many things happen, as in a population; return how many trials copied another."""
    before = sum(line.startswith("record exploited") for line in world.recorded)
    for _ in range(steps):
        choices = world.choices(calm=False)
        if not choices:
            break
        weights = [_OFTEN.get(verb, _SELDOM.get(verb, 1.0)) for verb, _ in choices]
        _, happen = rng.choices(choices, weights)[0]
        world.act(happen())
    return sum(line.startswith("record exploited") for line in world.recorded) - before


@pytest.mark.parametrize("seed", range(40))
def test_populations(seed: int) -> None:
    """Nothing that a trial goes on from is deleted, nothing is left over, and the run ends."""
    rng = random.Random(seed)
    world = World(**of_population(rng))
    copied = evolve(world, rng, 250)
    settle_down(world)
    assert world.m.machine.is_over, world.m.machine.state
    assert len(world.ended) == world.added
    nothing_is_left(world)
    assert copied > 0 or world.m.machine.state.exploits == 0


# --- groups of workers -------------------------------------------------------------------------

#: How often things happen to trials of several workers.
_TOGETHER = {**_OFTEN, "is preempted": 2, "borrow": 12, "give back": 2, "room": 3,
             "continue": 24, "gone": 12, "offer": 0.2, "copy": 0.2, "exploit": 0.2}  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_groups(seed: int) -> None:
    """Trials of several workers, whose machines go away and come back, all come to an end."""
    rng = random.Random(seed)
    validation = rng.choice([None, NOTHING, _HALF_A_CPU])
    world = World(
        groups=True,
        cpus=rng.randint(3, 6) + (validation is _HALF_A_CPU) / 2,
        judged=rng.random() < 0.5,
        keep=rng.choice([None, 1]),
        max_failures=rng.choice([0, 1, -1]),
        max_preemptions=rng.choice([-1, -1, 1]),
        count_preemption=rng.random() < 0.1,
        validation=validation,
    )
    before = 0
    for _ in range(300):
        choices = world.choices(calm=False)
        if not choices:
            break
        weights = [_TOGETHER.get(verb, _SELDOM.get(verb, 1.0)) for verb, _ in choices]
        _, happen = rng.choices(choices, weights)[0]
        told = happen()
        before += any(line.startswith("preempt") for line in told)
        world.act(told)
    settle_down(world)
    assert world.m.machine.is_over, world.m.machine.state
    assert len(world.ended) == world.added
    nothing_is_left(world)
    assert before > 0
