"""Drives the machine in tests: short events in, short descriptions of commands out."""

from __future__ import annotations

from typing import Any

import msgspec

from milepost.checkpoint import retention
from milepost.checkpoint.validation import Outcome, Task
from milepost.control import commands, events
from milepost.control.checkpoints import Checkpoint
from milepost.control.commands import AnyCommand
from milepost.control.events import AnyEvent, Problem
from milepost.control.machine import Machine
from milepost.control.resources import Pool, Request, request_of
from milepost.control.state import Settings, TrialState
from milepost.journal.records import AnyRecord

RAW = msgspec.Raw(b"{}")
BOOM = Problem(kind="ValueError", message="boom")
HANGS = Problem(kind="TrialTimeoutError", message="silent for 5 s")
DIED = Problem(kind="ActorDiedError", message="died: signal 9 (SIGKILL)")
TAKEN = Problem(kind="ActorDiedError", message="the engine died", signalled=True, engine_died=True)
LOST = Problem(kind="PreemptionError", message="machines went away", signalled=True)
LATE = Problem(kind="PreemptionError", message="and workers still ran", signalled=True)
SIGNALLED = Problem(kind="ActorDiedError", message="died: signal 15 (SIGTERM)", signalled=True)


class Driven:
    """A machine whose invariants are checked after each event."""

    def __init__(
        self,
        *,
        cpus: float = 4,
        gpus: tuple[str, ...] = (),
        keep: int | None = None,
        rank_by: str | None = None,
        order: str = "max",
        **settings: Any,
    ) -> None:
        self.journal: list[AnyRecord] = []
        policy = None if keep is None else retention.from_config(keep, rank_by, order)
        self.machine = Machine(
            Settings(run_id="run", root="/exp", retention=policy, rank_by=rank_by, **settings),
            Pool({"CPU": cpus}, gpus),
        )

    def __call__(self, event: AnyEvent) -> list[str]:
        """Handle an event; return what is to be done."""
        told = self.machine.handle(event)
        self.journal += [each.record for each in told if isinstance(each, commands.Record)]
        self.machine.validate()
        return [describe(command) for command in told]

    def trial(self, trial_id: str) -> TrialState:
        return self.machine.trials[trial_id]

    # --- events, with what does not matter filled in ----------------------------------------

    def add(
        self, trial_id: str, *bundles: dict[str, float], size: int = 1, most: int | None = None
    ) -> list[str]:
        request = request_of(bundles or ({"CPU": 1},))
        return self(
            events.TrialAdded(
                at=0,
                trial_id=trial_id,
                name=trial_id,
                directory=trial_id,
                tag="",
                request=request,
                config=RAW,
                evaluated=RAW,
                resources=RAW,
                size=size,
                most=None if most is None else Request(request.bundles[:1] * most),
            )
        )

    def place(self, first: str | None = None) -> list[str]:
        return self(events.Place(at=0, first=first))

    def search_ended(self) -> list[str]:
        return self(events.SearchEnded(at=0))

    def started(self, worker: int) -> list[str]:
        return self(events.WorkerStarted(at=0, worker_id=f"worker-{worker}"))

    def reported(
        self,
        worker: int,
        action: Any = "continue",
        *,
        iteration: int = 1,
        checkpoint: int | None = None,
        save: bool = False,
        score: object = None,
        asks: bool = False,
        awaited: bool = True,
    ) -> list[str]:
        return self(
            events.Reported(
                at=0,
                worker_id=f"worker-{worker}",
                iteration=iteration,
                row=RAW,
                score=score,
                action=action,
                save=save,
                checkpoint=checkpoint,
                asks=asks,
                awaited=awaited,
            )
        )

    def saved(self, worker: int, index: int | None) -> list[str]:
        return self(events.Saved(at=0, worker_id=f"worker-{worker}", index=index))

    def finished(self, worker: int, reason: Any = "returned") -> list[str]:
        return self(events.Finished(at=0, worker_id=f"worker-{worker}", reason=reason))

    def failed(self, worker: int, problem: Problem = BOOM) -> list[str]:
        return self(events.WorkerFailed(at=0, worker_id=f"worker-{worker}", problem=problem))

    def gone(self, worker: int, problem: Problem = DIED) -> list[str]:
        return self(events.WorkerGone(at=0, worker_id=f"worker-{worker}", problem=problem))

    def preempting(self, worker: int, *ranks: int) -> list[str]:
        return self(
            events.Preempting(
                at=0,
                worker_id=f"worker-{worker}",
                reason="SIGTERM",
                deadline_ms=5,
                ranks=ranks,
                problem=LOST,
            )
        )

    def borrow(
        self, worker: int, *cpus: float, least: int | None = None, number: int = 0
    ) -> list[str]:
        return self(
            events.BorrowAsked(
                at=0,
                worker_id=f"worker-{worker}",
                number=number,
                most=request_of({"CPU": each} for each in cpus),
                least=len(cpus) if least is None else least,
            )
        )

    def give_back(self, worker: int, number: int = 0) -> list[str]:
        return self(events.LoanReturned(at=0, worker_id=f"worker-{worker}", number=number))

    def look_for_room(self) -> list[str]:
        return self(events.LookForRoom(at=0))

    def silent(self, worker: int) -> list[str]:
        return self(events.Silent(at=0, worker_id=f"worker-{worker}", problem=HANGS))

    def committed(
        self,
        trial_id: str,
        index: int,
        attempt: int = 0,
        *,
        row: msgspec.Raw = RAW,
        validation: Task | None = None,
    ) -> list[str]:
        return self(
            events.Committed(
                at=0,
                trial_id=trial_id,
                attempt=attempt,
                index=index,
                iteration=1,
                path=f"/exp/{trial_id}/checkpoint_{index:06d}",
                nbytes=1,
                digest="d",
                row=row,
                validation=validation,
            )
        )

    def validated(
        self,
        number: int,
        status: Any = "VALIDATED",
        *,
        score: object = None,
        metrics: msgspec.Raw = RAW,
    ) -> list[str]:
        return self(
            events.ValidationEnded(
                at=0,
                worker_id=f"validator-{number}",
                outcome=Outcome(status=status, metrics=metrics, reason="reason"),
                row=metrics,
                score=score,
            )
        )

    def validator_gone(self, number: int) -> list[str]:
        return self(events.ValidatorGone(at=0, worker_id=f"validator-{number}"))

    def commit_failed(
        self, trial_id: str, index: int, attempt: int = 0, *, full: bool = False
    ) -> list[str]:
        return self(
            events.CommitFailed(
                at=0,
                trial_id=trial_id,
                attempt=attempt,
                index=index,
                error="no room" if full else "bad disk",
                storage_full=full,
            )
        )

    def drained(self, trial_id: str, attempt: int | None = 0, highest: int = -1) -> list[str]:
        return self(events.Drained(at=0, trial_id=trial_id, attempt=attempt, highest_index=highest))

    def judged(
        self,
        trial_id: str,
        index: int,
        action: Any = "continue",
        *,
        iteration: int = 1,
        on_record: bool = False,
    ) -> list[str]:
        return self(
            events.ReportJudged(
                at=0,
                trial_id=trial_id,
                index=index,
                iteration=iteration,
                row=RAW,
                action=action,
                on_record=on_record,
            )
        )

    def restored(self, trial_id: str, *, order: int = 0, **fields: Any) -> list[str]:
        return self(
            events.TrialRestored(
                at=0,
                trial_id=trial_id,
                name=trial_id,
                directory=trial_id,
                request=fields.pop("request", request_of(({"CPU": 1},))),
                order=order,
                **fields,
            )
        )

    def deleted(self, trial_id: str, index: int, outcome: str = "deleted") -> list[str]:
        return self(events.Deleted(at=0, trial_id=trial_id, index=index, outcome=outcome))

    def verified(self, trial_id: str, index: int | None, *, ticket: int | None = None) -> list[str]:
        """The last question is answered, or that of an earlier ticket."""
        trial = self.machine.trials.get(trial_id)
        if ticket is None:
            ticket = 0 if trial is None else trial.ticket
        return self(
            events.Verified(at=0, trial_id=trial_id, ticket=ticket, index=index, id=f"id-{index}")
        )

    def offer(self, trial_id: str) -> list[str]:
        return self(events.SaveAsked(at=0, trial_id=trial_id))

    def release(self, trial_id: str) -> list[str]:
        return self(events.OfferEnded(at=0, trial_id=trial_id))

    def exploit(self, trial_id: str, donor: str, iteration: int | None = 1) -> list[str]:
        return self(
            events.ExploitAsked(
                at=0,
                trial_id=trial_id,
                donor_id=donor,
                iteration=iteration,
                config=RAW,
                tag=f"{trial_id}@perturbed",
            )
        )

    def pause(self, trial_id: str, *, save: bool = True) -> list[str]:
        return self(events.PauseAsked(at=0, trial_id=trial_id, save=save))

    def unpause(self, trial_id: str, *, in_front: bool = False) -> list[str]:
        return self(events.UnpauseAsked(at=0, trial_id=trial_id, in_front=in_front))

    def stop(self, trial_id: str) -> list[str]:
        return self(events.StopAsked(at=0, trial_id=trial_id))

    def stop_all(self) -> list[str]:
        return self(events.StopAll(at=0))

    def interrupt(self, reason: str = "SIGINT", deadline_ms: int | None = None) -> list[str]:
        return self(events.Interrupt(at=0, reason=reason, deadline_ms=deadline_ms))

    def grace_over(self) -> list[str]:
        return self(events.GraceOver(at=0))

    def overdue(self, trial_id: str) -> list[str]:
        return self(events.Overdue(at=0, trial_id=trial_id, problem=LATE))

    # --- ways to get somewhere ----------------------------------------------------------------

    def running(self, *trial_ids: str) -> None:
        """Have these trials train, on workers 0, 1, ..."""
        for trial_id in trial_ids:
            self.add(trial_id)
        self.place()
        for worker in range(len(trial_ids)):
            self.started(worker)


def describe(command: AnyCommand) -> str:
    """A command as one short line."""
    match command:
        case commands.Record(record):
            return f"record {_record(record)}"
        case commands.StartWorker(worker_id=w, cpus=cpus, gpus=gpus):
            return f"start {w} cpus={cpus:g}" + (f" gpus={','.join(gpus)}" if gpus else "")
        case commands.RunTrial(worker_id=w, trial_id=t, attempt=a, first_index=i, start=s):
            reset = " reset" if command.reset else ""
            source = "" if s is None else f" from={_source(t, s)}"
            return f"run {t} on {w} attempt={a} first={i}{source}{reset}"
        case commands.Answer(worker_id=w, action=action, save=save):
            return f"answer {w} {action}{' save' if save else ''}"
        case commands.Attend(w):
            return f"attend {w}"
        case commands.Preempt(worker_id=w, reason=reason, deadline_ms=deadline):
            return f"preempt {w} {reason}" + (f" by={deadline}" if deadline else "")
        case commands.Lend(worker_id=w, number=n, size=size, gpus=gpus):
            return f"lend {w} {n} size={size}" + (f" gpus={','.join(gpus)}" if gpus else "")
        case commands.EndWorker(w):
            return f"end {w}"
        case commands.KillWorker(w):
            return f"kill {w}"
        case commands.Drain(trial_id=t, attempt=a):
            return f"drain {t}.{a}"
        case commands.Delete(trial_id=t, index=i):
            return f"delete {t}/{i}"
        case commands.Verify(trial_id=t, candidates=c, contents=contents):
            owner = _source(t, c[0]).rpartition("/")[0]
            of = f" of {owner}" if owner else ""
            return f"verify {t} {[x.index for x in c]}{of}{' contents' if contents else ''}"
        case commands.Validate(worker_id=w, trial_id=t, checkpoint=c, cpus=cpus, gpus=gpus):
            held = f" cpus={cpus:g}" + (f" gpus={','.join(gpus)}" if gpus else "")
            return f"validate {t}/{c.index} on {w}{held}"
        case commands.PublishOutcome(trial_id=t, checkpoint=c, outcome=outcome):
            return f"publish {t}/{c.index} {outcome.status}"
        case commands.CancelValidation(w):
            return f"cancel {w}"
        case commands.Judge(trial_id=t, index=i):
            return f"judge {t}/{i}"
        case commands.CheckpointKept(trial_id=t, checkpoint=c):
            return f"kept {t}/{c.index}"
        case commands.TrialExploited(trial_id=t, donor_id=d):
            return f"exploited {t} {d}"
        case commands.TrialFailed(trial_id=t, failures=n, retried=r):
            return f"failed {t} {n}{' retried' if r else ''}"
        case commands.TrialRecovered(t):
            return f"recovered {t}"
        case commands.TrialCompleted(trial_id=t, ran=ran):
            return f"completed {t}{'' if ran else ' unrun'}"
        case commands.TrialErrored(t):
            return f"errored {t}"
        case commands.TrialEnded(t):
            return f"ended {t}"
        case commands.Notice(level=level):
            return f"notice {level}"
        case commands.Abort():
            return "abort"
    raise AssertionError(command)


def _source(trial_id: str, start: Checkpoint) -> str:
    """A checkpoint's number, with the trial whose it is when that is another one."""
    owner = start.path.split("/")[-2] if "/" in start.path else trial_id
    return f"{start.index}" if owner == trial_id else f"{owner}/{start.index}"


def _record(record: Any) -> str:
    kind = type(record).__name__.lower()
    match kind:
        case "changed":
            return f"{record.trial} {record.status}"
        case "committed" | "lost" | "deleting" | "deleted" | "saving" | "validated":
            return f"{kind} {record.trial}/{record.index}"
        case "exploited":
            return f"exploited {record.trial} {record.donor}/{record.index}"
        case "reported":
            return f"reported {record.trial} {record.action}"
    return f"{kind} {record.trial}"
