"""The bytes in staging, as ``docs/format.md`` describes them."""

from __future__ import annotations

import base64
import json
import os

import pytest

from milepost.keeper import intent as intents
from milepost.keeper.intent import CapturedFile, ExperimentRef, FileList
from milepost.keeper.place import ensure_place
from milepost.process import boot_id, started_at
from milepost.storage import posix

BIG = (1 << 20) + 1


@pytest.fixture
def quiet(place, driver, monkeypatch):
    """A capturer whose keeper is never told, so that staging stays as it is."""
    from milepost.keeper.connection import KeeperConnection

    monkeypatch.setattr(KeeperConnection, "announce", lambda self, capture: None)
    return place.capturer(driver, attempt=2, attempt_id="abc", parent="abc-6")


def record(place) -> tuple[str, list[bytes]]:
    (path,) = (path for path in place.staged() if path.endswith(".captured"))
    with open(path, "rb") as file:
        return path, [file.readline(), file.readline(), file.read()]


def test_packed_record(place, driver, quiet):
    """Two lines of JSON and the bytes of the files, in the order of the list."""
    source = place.source(b=b"second", a=b"first")
    (source / "a").chmod(0o755)
    (source / "sub").mkdir()
    (source / "link").symlink_to("a")
    quiet.capture(source, 7, b'{"loss": 0.5}', {"d1": b"pickled"}, iteration=9)
    path, (first, second, rest) = record(place)
    me, started = os.getpid(), started_at(os.getpid())
    directory, name = os.path.split(path)
    assert name == f"t1.2.7.0.{me}-{started}.captured"
    assert directory == os.path.join(place.node_root, "staging", driver.reference.uuid)
    info = os.stat(place.experiment)
    assert json.loads(first) == {
        "format": 1,
        "experiment": {
            "path": place.experiment,
            "uuid": driver.reference.uuid,
            "device": info.st_dev,
            "inode": info.st_ino,
        },
        "trial_id": "t1",
        "trial_dir": "trial",
        "attempt": 2,
        "attempt_id": "abc",
        "index": 7,
        "iteration": 9,
        "parent": "abc-6",
        "rank": 0,
        "ranks": [0],
        "row": {"loss": 0.5},
        "objects": {"d1": base64.b64encode(b"pickled").decode()},
        "pid": me,
        "started": started,
        "boot": boot_id(),
    }
    listed = json.loads(second)
    assert listed.pop("at") > 1_700_000_000
    files = {file["path"]: file for file in listed.pop("files")}
    assert listed == {"packed": True, "directories": ["sub"], "links": [["link", "a"]]}
    assert files == {
        "a": {"path": "a", "size": 5, "way": "copied", "executable": True},
        "b": {"path": "b", "size": 6, "way": "copied"},
    }
    contents = {"a": b"first", "b": b"second"}
    assert rest == b"".join(contents[path] for path in files)
    assert os.stat(path).st_mode & 0o077 == 0


def test_record_beside_a_tree(place, quiet):
    """A large capture has its files beside the record, which names their times."""
    source = place.source(model=BIG)
    quiet.capture(source, 0, b"{}")
    path, (_, second, rest) = record(place)
    listed = json.loads(second)
    del listed["at"]
    time = os.stat(source / "model").st_mtime_ns
    file = {"path": "model", "size": BIG, "way": "leased", "mtime_ns": time}
    assert listed == {"files": [file]}
    assert rest == b""
    assert os.listdir(path.removesuffix(".captured") + ".files") == ["model"]


def test_records_are_read_back(tmp_path, quiet, place):
    """What was written is what is read, complete or not."""
    base = str(tmp_path / "capture")
    quiet.capture(place.source(model=1), 0, b"{}")
    intent = intents.read(record(place)[0].removesuffix(".captured")).intent
    assert intents.read(base) is None
    intents.write(base, intent)
    assert intents.read(base) == (base, intent, None, 0)
    captured = FileList(files=(CapturedFile(path="a", size=1, way="copied"),), at=1.5)
    intents.complete(base, captured)
    staged = intents.read(base)
    assert (staged.intent, staged.captured) == (intent, captured)
    assert staged.tree == base + ".files"
    intents.remove(base)
    intents.remove(base)
    assert intents.read(base) is None


def test_record_that_cannot_be_completed(tmp_path, quiet, place, monkeypatch):
    """Without the rename it stays an intent, whatever was appended."""
    base = str(tmp_path / "capture")
    quiet.capture(place.source(model=1), 0, b"{}")
    intent = intents.read(record(place)[0].removesuffix(".captured")).intent
    intents.write(base, intent)

    def fail(src, dst):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(posix, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        intents.complete(base, FileList(files=(), at=0.0))
    assert intents.read(base) == (base, intent, None, 0)


def test_identity_of_an_experiment():
    """Another path is the same experiment; another directory is not."""
    one = ExperimentRef(path="/a", device=1, inode=2, uuid="u")
    assert one.is_same(ExperimentRef(path="/b", device=1, inode=2, uuid="u"))
    assert not one.is_same(ExperimentRef(path="/a", device=1, inode=3, uuid="u"))
    assert not one.is_same(ExperimentRef(path="/a", device=9, inode=2, uuid="u"))
    assert not one.is_same(ExperimentRef(path="/a", device=1, inode=2, uuid="v"))


def test_records_of_places(place, tmp_path):
    """One line of JSON per place, written before the place is made, once; bad lines are skipped."""
    records = os.path.join(place.node_root, "places.jsonl")
    with open(records, "w") as file:
        file.write('{"path": "/tor')
    wanted = str(tmp_path / ".milepost-staging-1")
    ensure_place(place.node_root, wanted)
    ensure_place(place.node_root, wanted)
    with open(records) as file:
        lines = [line for line in file.read().split("\n") if line]
    assert lines == ['{"path": "/tor', json.dumps({"path": wanted}, separators=(",", ":"))]
    assert os.stat(wanted).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["loose", "file", "link"])
def test_places_that_are_not_ours(place, tmp_path, kind):
    """What others could write to, or is no directory, is never used for staging."""
    path = tmp_path / ".milepost-staging-1"
    if kind == "loose":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "file":
        path.touch()
    else:
        (tmp_path / "real").mkdir(mode=0o700)
        path.symlink_to("real")
    with pytest.raises(PermissionError, match="not a private directory of this user"):
        ensure_place(place.node_root, str(path))
