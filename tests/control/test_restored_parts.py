"""The pure parts of a restore, as tables: fates, goals, comparison with disk, what is told."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import msgspec
import pytest

from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.checkpoint.manifest import Manifest
from milepost.control import announcing, fates, reconciling
from milepost.control.announcing import Prospect, Prospects
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.fates import Fate
from milepost.control.reconciling import Holdings
from milepost.control.sameness import differs
from milepost.journal.image import CheckpointImage, TrialImage
from milepost.journal.objects import digest
from milepost.storage import codec

RAW = msgspec.Raw(b"{}")
RESUME, RESTART, SKIP = ResumeType.RESUME, ResumeType.RESTART, ResumeType.SKIP
DEFAULT = ResumeConfig()
ALL = ResumeConfig(finished=RESUME, unfinished=RESUME, errored=RESUME)


def trial(**fields: Any) -> TrialImage:
    return TrialImage(
        trial="t", name="t", directory="t", tag="0", order=0,
        config=RAW, evaluated=RAW, resources=RAW, **fields,
    )  # fmt: skip


def images(*indices: int, iteration: int = 1) -> dict[int, CheckpointImage]:
    return {i: CheckpointImage(index=i, attempt=0, iteration=iteration) for i in indices}


# --- fates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "resume", "fate"),
    [
        ({"status": "TERMINATED"}, DEFAULT, Fate.STAYS),
        ({"status": "TERMINATED"}, ALL, Fate.GOES_ON),
        ({"status": "TERMINATED"}, ResumeConfig(finished=RESTART), Fate.RESTARTS),
        ({"status": "ERROR"}, DEFAULT, Fate.STAYS),
        ({"status": "ERROR"}, ALL, Fate.GOES_ON),
        ({"status": "ERROR"}, ResumeConfig(errored=RESTART), Fate.RESTARTS),
        ({"status": "PENDING"}, DEFAULT, Fate.GOES_ON),
        ({"status": "RUNNING"}, ResumeConfig(unfinished=RESTART), Fate.RESTARTS),
        ({"status": "PAUSED"}, ResumeConfig(unfinished=SKIP), Fate.ENDS),
        # It had failed for good, and the driver died before it could write down the end.
        ({"status": "RUNNING", "given_up": True}, DEFAULT, Fate.GOES_ON),
        ({"status": "RUNNING", "given_up": True}, ResumeConfig(unfinished=SKIP), Fate.GOES_ON),
        ({"status": "RUNNING", "given_up": True}, ResumeConfig(errored=RESTART), Fate.RESTARTS),
    ],
)
def test_fates(fields: dict[str, Any], resume: ResumeConfig, fate: Fate) -> None:
    """What becomes of a trial follows from its group."""
    assert fates.fate_of(trial(**fields), resume) is fate


CUT = {"status": "TERMINATED", "cut_by": "budget"}


@pytest.mark.parametrize(
    ("fields", "resume", "lifted", "fate"),
    [
        (CUT, DEFAULT, {"budget"}, Fate.GOES_ON),
        (CUT, DEFAULT, {"stopper"}, Fate.STAYS),
        (CUT, DEFAULT, set(), Fate.STAYS),
        (CUT, ALL, set(), Fate.GOES_ON),
        (CUT, ResumeConfig(unfinished=SKIP), {"budget"}, Fate.STAYS),
        (CUT, ResumeConfig(unfinished=RESTART), {"budget"}, Fate.RESTARTS),
        (CUT, ResumeConfig(unfinished=RESTART), set(), Fate.STAYS),
        ({**CUT, "cut_by": "stopper"}, DEFAULT, {"budget", "stopper"}, Fate.GOES_ON),
        ({"status": "TERMINATED"}, DEFAULT, {"budget", "stopper"}, Fate.STAYS),
        ({"status": "RUNNING"}, DEFAULT, {"budget", "stopper"}, Fate.GOES_ON),
    ],
)
def test_fates_of_trials_that_were_cut_short(
    fields: dict[str, Any], resume: ResumeConfig, lifted: set[str], fate: Fate
) -> None:
    """They are unfinished as soon as what stopped their run does not hold any more."""
    assert fates.fate_of(trial(**fields), resume, lifted) is fate


@pytest.mark.parametrize(
    ("fields", "facts", "resume", "goal"),
    [
        ({"status": "RUNNING"}, {}, DEFAULT, "PENDING"),
        ({"status": "PENDING"}, {}, ResumeConfig(unfinished=SKIP), "TERMINATED"),
        ({"status": "RUNNING", "given_up": True}, {}, DEFAULT, "ERROR"),
        ({"status": "RUNNING", "given_up": True}, {}, ALL, "PENDING"),
        ({"status": "ERROR"}, {}, ALL, "PENDING"),
        ({"status": "TERMINATED", "action": "stop"}, {"is_done": True}, ALL, "PENDING"),
        ({"status": "RUNNING", "action": "stop"}, {"is_done": True}, DEFAULT, "TERMINATED"),
        (
            {"status": "RUNNING", "action": "stop", "by_condition": True},
            {"is_done": True},
            DEFAULT,
            "TERMINATED",
        ),
        # Another condition may let it go on.
        (
            {"status": "RUNNING", "action": "stop", "by_condition": True},
            {"is_done": True, "other_condition": True},
            DEFAULT,
            "PENDING",
        ),
        (
            {"status": "RUNNING", "action": "stop"},
            {"is_done": True, "other_condition": True},
            DEFAULT,
            "TERMINATED",
        ),
        # Cut short together with the run, and on record as ended.
        (CUT, {}, DEFAULT, "PENDING"),
        ({**CUT, "action": "stop"}, {}, DEFAULT, "PENDING"),
        ({**CUT, "action": "stop"}, {"is_done": True}, DEFAULT, "TERMINATED"),
        ({**CUT, "action": "pause"}, {}, DEFAULT, "PAUSED"),
        ({**CUT, "cut_from": "PAUSED"}, {}, DEFAULT, "PAUSED"),
        ({**CUT, "cut_from": "PAUSED"}, {"pauses_count": False}, DEFAULT, "PENDING"),
        # Cut short together with the run.
        ({"status": "RUNNING", "action": "stop"}, {}, DEFAULT, "PENDING"),
        ({"status": "RUNNING", "action": "pause"}, {}, DEFAULT, "PAUSED"),
        ({"status": "RUNNING", "action": "pause"}, {"pauses_count": False}, DEFAULT, "PENDING"),
        ({"status": "PAUSED"}, {}, DEFAULT, "PAUSED"),
        ({"status": "PAUSED"}, {"pauses_count": False}, DEFAULT, "PENDING"),
        ({"status": "PAUSED"}, {"asked": "go on"}, DEFAULT, "PENDING"),
        ({"status": "RUNNING"}, {"asked": "pause"}, DEFAULT, "PAUSED"),
        ({"status": "RUNNING"}, {"asked": "stop"}, DEFAULT, "TERMINATED"),
    ],
)
def test_goals(
    fields: dict[str, Any], facts: dict[str, Any], resume: ResumeConfig, goal: str
) -> None:
    """What was decided before the end counts, and what was asked for is done."""
    facts = {
        "is_done": False,
        "other_condition": False,
        "asked": None,
        "pauses_count": True,
        **facts,
    }
    assert fates.goal_of(trial(**fields), resume, **facts) == goal


@pytest.mark.parametrize(
    ("fields", "saves_at_end", "needed"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"iteration": 2, "committed": images(0)}, False, False),
        ({"iteration": 2, "captured": images(1, iteration=2)}, False, True),
        ({"iteration": 3, "captured": images(1, iteration=2)}, False, False),
        ({"iteration": 2, "committed": images(0), "lost": {1: "disk full"}}, False, True),
        ({"iteration": 2, "committed": images(2), "lost": {1: "disk full"}}, False, False),
    ],
)
def test_when_an_end_needs_its_checkpoint(
    fields: dict[str, Any], saves_at_end: bool, needed: bool
) -> None:
    """A class's checkpoint at the end, and a function's of its last row, must be there."""
    assert fates.needs_last_save(trial(**fields), saves_at_end=saves_at_end) is needed


# --- comparison ----------------------------------------------------------------------------------


def holdings(*indices: int, foreign: tuple[int, ...] = (), attempt: int = 0) -> Holdings:
    manifests = {i: Manifest(id=f"a-{i}", trial="t", index=i, attempt=attempt) for i in indices}
    return Holdings(manifests, frozenset({*indices, *foreign}))


def recorded(*indices: int) -> list[Checkpoint]:
    return [Checkpoint(index=i, path=f"c{i}", iteration=1, row=RAW) for i in indices]


def compare(image: TrialImage, there: Holdings) -> dict[str, Any]:
    kept = sorted(image.committed.keys() - image.deleting.keys())
    inflight = {i: Capture(1, RAW, None) for i in image.captured}
    found = reconciling.reconcile(image, recorded(*kept), inflight, there)
    return {
        "kept": [checkpoint.index for checkpoint in found.checkpoints],
        "inflight": sorted(found.inflight),
        "adopted": list(found.adopted),
        "missing": [index for index, _ in found.missing],
        "attempt": found.attempt,
    }


@pytest.mark.parametrize(
    ("fields", "there", "expected"),
    [
        ({"attempts": 1}, holdings(), {}),
        ({"attempts": 1, "next_index": 2, "committed": images(0, 1)}, holdings(0, 1),
         {"kept": [0, 1]}),
        ({"attempts": 1, "next_index": 2, "committed": images(0, 1)}, holdings(0),
         {"kept": [0], "missing": [1]}),
        # Captured on record: committed by the keeper since, or still in its hands.
        ({"attempts": 1, "next_index": 2, "captured": images(0, 1)}, holdings(0),
         {"inflight": [0, 1], "adopted": [0]}),
        # Nobody has heard of them.
        ({"attempts": 1, "next_index": 1, "committed": images(0)}, holdings(0, 1, 2),
         {"kept": [0], "adopted": [1, 2]}),
        ({"attempts": 0}, holdings(0, attempt=1), {"adopted": [0], "attempt": 1}),
        # What is to be deleted, was lost, or was deleted and put back, is left alone.
        ({"attempts": 1, "next_index": 3, "committed": images(0, 1), "deleting": {0: "old"},
          "lost": {2: "disk full"}}, holdings(0, 1, 2), {"kept": [1]}),
        ({"attempts": 1, "next_index": 3, "committed": images(2)}, holdings(0, 2), {"kept": [2]}),
    ],
)  # fmt: skip
def test_journal_and_disk(
    fields: dict[str, Any], there: Holdings, expected: dict[str, Any]
) -> None:
    """Manifests decide what exists, records what it was."""
    nothing = {"kept": [], "inflight": [], "adopted": [], "missing": [], "attempt": 0}
    if not fields["attempts"]:
        nothing["attempt"] = -1
    assert compare(trial(**fields), there) == {**nothing, **expected}


def test_numbers_in_use(tmp_path: Any) -> None:
    """Foreign directories keep their numbers, too; other names mean nothing."""
    assert reconciling.look(str(tmp_path / "none"), "t", "run") == Holdings({}, frozenset())
    for name in ("checkpoint_000003", "checkpoint_12", ".milepost-tmp-checkpoint_000009", "x"):
        (tmp_path / name).mkdir()
    there = reconciling.look(str(tmp_path), "t", "run")
    assert (there.manifests, there.highest) == ({}, 3)


# --- what is told --------------------------------------------------------------------------------


def test_the_announcement_names_what_was_found() -> None:
    """What only the look into the directories could tell; who just goes on is not listed."""
    prospects = Prospects(
        trials=[
            Prospect("a", "PENDING"),
            Prospect("b", "PENDING", adopted=[5, 6]),
            Prospect("d", "PENDING", unsettled=2),
            Prospect("f", "PAUSED"),
            Prospect("g", "TERMINATED"),
            Prospect("g2", "TERMINATED"),
            Prospect("h", "ERROR", missing=[3]),
        ],
        deletions=1,
    )
    assert announcing.losses(prospects) == [
        "1 checkpoint on record, but gone or damaged: not used (h 000003)"
    ]
    assert announcing.describe(prospects) == [
        "1 trial stays paused",
        "2 trials end where they are",
        "1 trial had failed for good, and ends",
        "2 checkpoints committed, but not on record: adopted (b 000005, b 000006)",
        "2 checkpoints were captured and not committed: what is still there is committed first",
        "1 checkpoint is no longer worth keeping: deleting goes on",
    ]


def test_the_announcement_stays_short() -> None:
    """However many trials there are."""
    trials = [Prospect(f"t{n}", "PENDING", adopted=[n]) for n in range(5000)]
    (told,) = announcing.describe(Prospects(trials=trials))
    assert told.startswith("5000 checkpoints committed")
    assert told.endswith("t9 000009, ...)")


# --- proposals -----------------------------------------------------------------------------------


class Plain:
    """Has no ``__eq__``."""

    def __init__(self, value: int = 0) -> None:
        self.value = value


@dataclasses.dataclass
class Holding:
    """Is compared by what it holds."""

    value: Any


def made_here(name: str, **members: Any) -> type:
    """A class as of a script: each process has one of its own."""
    return type(name, (), {"__module__": "__main__", **members})


@pytest.mark.parametrize(
    ("recorded", "proposed", "is_other"),
    [
        ({"x": 1}, {"x": 1}, False),
        ({"x": 1}, {"x": 2}, True),
        ({"x": 1}, {"x": 1.0}, True),
        ({"x": 1}, {"y": 1}, True),
        ({"x": [1, (2, {3})]}, {"x": [1, (2, {4})]}, True),
        ({"x": [1, 2]}, {"x": [1]}, True),
        # Nobody can tell whether these do the same.
        ({"f": lambda: 1}, {"f": lambda: 2}, False),
        ({"f": [lambda: 1], "x": 1}, {"f": [lambda: 2], "x": 2}, True),
        ({"v": Plain(1)}, {"v": Plain(2)}, False),
        ({"v": {Plain(1), 1}}, {"v": {Plain(2), 1}}, False),
        ({"v": Holding(Plain(1))}, {"v": Holding(Plain(2))}, False),
        ({"v": made_here("A")()}, {"v": made_here("A", b=1)()}, False),
        ({"v": made_here("A")}, {"v": made_here("A")}, False),
        # These can be compared.
        ({"v": Holding(1)}, {"v": Holding(1)}, False),
        ({"v": Holding(1)}, {"v": Holding(2)}, True),
        ({"v": Plain(1)}, {"v": Holding(1)}, True),
        ({"v": Plain(1)}, {"v": 1}, True),
        ({"v": Plain}, {"v": Holding}, True),
        ({"f": len}, {"f": max}, True),
        # Not even this can be stored, so it was not.
        ({"v": 1}, {"v": threading.Lock()}, False),
    ],
)
def test_whether_a_proposal_is_another_one(
    recorded: dict[str, Any], proposed: dict[str, Any], is_other: bool
) -> None:
    """Values that can be compared decide; of others nobody knows, whatever their bytes are."""
    stored: dict[str, bytes] = {}

    def put(data: bytes) -> str:
        stored[digest(data)] = data
        return digest(data)

    raw = msgspec.Raw(codec.encode(recorded, put))
    assert differs(proposed, raw, stored.__getitem__) is is_other
