"""Every change to the file system fails, is torn, or is the last thing the process does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from milepost.checkpoint import collect, retention, verify
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.commit import commit
from milepost.checkpoint.handle import Checkpoint
from milepost.checkpoint.manifest import Manifest, checkpoint_name
from milepost.storage.local import LocalStorage
from milepost.testing.interposer import EXIT_CODE, FAULTS, Fault, Interposer, run_in_child


class Log:
    """What a scenario claims to have done, on disk so that it outlives the process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def say(self, what: str, value: object) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps([what, value]) + "\n")

    def said(self, what: str) -> list[object]:
        if not os.path.exists(self.path):
            return []
        with open(self.path) as file:
            return [value for said, value in map(json.loads, file) if said == what]


class Scenario:
    """A sequence of changes, and what must hold wherever it was cut."""

    def __init__(self, root: str, stage) -> None:
        self.root = root
        self.stage = stage
        self.trial = os.path.join(root, "experiment", "trial")
        self.log = Log(os.path.join(root, "log"))

    def prepare(self) -> None:
        os.makedirs(self.trial)
        for index in range(4):
            item = self.stage(self.trial, index, metrics={"acc": [1.0, 3.0, 2.0, 0.0][index]})
            assert commit([item]) == [item.manifest]

    def run(self) -> None:
        raise NotImplementedError

    def commit_and_say(self, items) -> None:
        for outcome in commit(items):
            if isinstance(outcome, Manifest):
                self.log.say("committed", outcome.index)

    def check(self) -> None:
        """What is visible is whole; what was claimed is there; a sweep leaves nothing else."""
        visible = dict(verify.committed(self.trial))
        for index in visible:
            path = os.path.join(self.trial, checkpoint_name(index))
            assert verify.check(path, digests=True) == []
        assert set(self.log.said("committed")) <= set(visible)
        assert {0, 1, 2, 3} - set(self.log.said("retiring")) <= set(visible)
        assert not set(self.log.said("retired")) & set(visible)
        collect.sweep(self.trial)
        assert sorted(os.listdir(self.trial)) == [checkpoint_name(index) for index in visible]


class CommitOne(Scenario):
    def run(self) -> None:
        self.commit_and_say([self.stage(self.trial, 4, full=True)])


class CommitGroup(Scenario):
    def run(self) -> None:
        self.commit_and_say([self.stage(self.trial, index) for index in (4, 5, 6)])


class Retire(Scenario):
    def run(self) -> None:
        self.retire(1)

    def retire(self, index: int) -> None:
        self.log.say("retiring", index)
        path = os.path.join(self.trial, checkpoint_name(index))
        if collect.retire(path) is collect.Retirement.DELETED:
            self.log.say("retired", index)


class Retain(Retire):
    """Commit, then delete what the policy does not keep: never before the commit is known."""

    def run(self) -> None:
        self.commit_and_say([self.stage(self.trial, 4, metrics={"acc": 2.5})])
        entries = [
            retention.Entry(index, metrics=json.loads(bytes(manifest.metrics)))
            for index, manifest in verify.committed(self.trial)
        ]
        for index in retention.plan(entries, retention.from_config(2, "acc", "max")).drop:
            self.retire(index)

    def check(self) -> None:
        super().check()
        assert 1 in dict(verify.committed(self.trial)), "the best one is never deleted"


class Metadata(Scenario):
    def run(self) -> None:
        checkpoint = Checkpoint.from_directory(os.path.join(self.trial, checkpoint_name(2)))
        checkpoint.set_metadata({"a": 1})
        self.log.say("metadata", {"a": 1})
        checkpoint.update_metadata({"b": 2})
        self.log.say("metadata", {"a": 1, "b": 2})

    def check(self) -> None:
        super().check()
        path = os.path.join(self.trial, checkpoint_name(2))
        found = Checkpoint.from_directory(path).get_metadata()
        said = self.log.said("metadata") or [{}]
        possible = [{}, {"a": 1}, {"a": 1, "b": 2}]
        assert found in possible[possible.index(said[-1]) :]
        Checkpoint.from_directory(path).set_metadata({"next": 1})
        assert not [name for name in os.listdir(path) if name.startswith(".milepost-tmp")]


class CopyOut(Scenario):
    def run(self) -> None:
        path = os.path.join(self.trial, checkpoint_name(2))
        Checkpoint.from_directory(path).to_directory(os.path.join(self.root, "out", "copy"))

    def check(self) -> None:
        super().check()
        copy = Path(self.root, "out", "copy")
        if copy.exists():
            manifest = manifests.read(os.path.join(self.trial, checkpoint_name(2)))
            assert verify.check_files(str(copy), manifest, digests=True) == []


class Objects(Scenario):
    def run(self) -> None:
        storage = LocalStorage(os.path.join(self.root, "objects"))
        with contextlib.suppress(FileExistsError):  # from the run that was cut
            storage.create("a/one", b"first")
        self.log.say("object", ["a/one", "first"])
        storage.put("a/two", b"second")
        storage.put("a/two", b"third")
        self.log.say("object", ["a/two", "third"])
        storage.delete("a/one")

    def check(self) -> None:
        super().check()
        storage = LocalStorage(os.path.join(self.root, "objects"))
        for key in storage.list_keys():
            assert storage.get(key) in (b"first", b"second", b"third")
        if ["a/two", "third"] in self.log.said("object"):
            assert storage.get("a/two") == b"third"
        elif ["a/one", "first"] in self.log.said("object"):
            assert storage.get("a/one") == b"first"  # it is deleted after all else


SCENARIOS = [CommitOne, CommitGroup, Retire, Retain, Metadata, CopyOut, Objects]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("scenario_type", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.always(
    "Retain-exit",
    "Objects-torn",
    "CommitOne-eio",
    "CommitOne-torn",
    "Metadata-enospc",
    "CommitGroup-exit",
    "CommitGroup-torn",
    "Retire-exit",
    "Retire-eio",
    "CopyOut-exit",
)
def test_crash_matrix(
    scenario_type: type[Scenario],
    kind,
    tmp_path: Path,
    stage,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """Wherever it is cut: nothing torn is visible, nothing committed is lost, a repeat succeeds."""
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))

    def build(name: str) -> Scenario:
        scenario = scenario_type(str(tmp_path / name), stage)
        scenario.prepare()
        return scenario

    counted = build("count")
    with Interposer() as counting:
        counted.run()
    counted.check()
    assert counting.count > 4

    for at in range(1, counting.count + 1):
        scenario = build(str(at))
        code = run_in_child(scenario.run, Interposer(Fault(kind, at)))
        if kind in ("exit", "torn"):
            assert code == EXIT_CODE, f"operation {at} was not reached"
        else:
            assert code in (0, 1)
        scenario.check()
        scenario.run()
        scenario.check()
        capfd.readouterr()  # tracebacks of children that were made to fail
    with capfd.disabled():
        print(f"\n{scenario_type.__name__}: {counting.count} points with {kind}", end=" ")


def test_a_wrong_order_is_noticed(tmp_path: Path, stage, monkeypatch):
    """The matrix can fail: it does when the rename comes before the manifest."""
    from milepost.checkpoint import commit as commits

    publish = commits._publish
    monkeypatch.setattr(commits, "_write_manifest", lambda work: None)

    def publish_then_write(item) -> None:
        publish(item)
        commits.posix.write_new(
            os.path.join(item.target, ".milepost.json"), manifests.to_bytes(item.manifest)
        )

    monkeypatch.setattr(commits, "_publish", publish_then_write)
    scenario = CommitOne(str(tmp_path / "wrong"), stage)
    scenario.prepare()
    with Interposer() as counting:
        scenario.run()
    scenario.check()

    def survives(at: int) -> bool:
        cut = CommitOne(str(tmp_path / str(at)), stage)
        cut.prepare()
        run_in_child(cut.run, Interposer(Fault("torn", at)))
        try:
            cut.check()
        except AssertionError:
            return False
        return True

    checks: list[Callable[[], bool]] = [
        lambda at=at: survives(at) for at in range(1, counting.count + 1)
    ]
    assert not all(check() for check in checks)
