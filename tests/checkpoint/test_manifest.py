from __future__ import annotations

import json
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.checkpoint.manifest import (
    FORMAT,
    FileEntry,
    Manifest,
    Part,
    Times,
    checkpoint_id,
    checkpoint_name,
    from_bytes,
    link_stays_inside,
    read,
    to_bytes,
)
from milepost.errors import CheckpointError, CorruptCheckpointError

FULL = Manifest(
    id="0f3a-12",
    attempt=2,
    run="7c9e",
    trial="a1b2c_00003",
    index=12,
    iteration=13,
    metrics=msgspec.Raw(b'{"loss": 0.5, "done": false}'),
    files=[
        FileEntry("model.bin", 700, "00" * 16, 0o600),
        FileEntry("state/latest", link="../model.bin"),
        FileEntry("state/é ñ", 1, "ff" * 16),
    ],
    directories=["empty", "state/void"],
    parts=[Part(rank=0, paths=["model.bin"])],
    parent="0f3a-11",
    times=Times(captured=1.5, committed=2.5),
    writer="milepost 0.1.0",
)


def encoded(body: dict[str, object]) -> bytes:
    """A manifest as another program would write it, with a valid check sum."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return data[:-1] + b',"check":"%08x"}\n' % zlib.crc32(data)


def test_round_trip():
    """What is written is read, with nothing lost."""
    assert from_bytes(to_bytes(FULL)) == FULL
    assert FULL.nbytes == 701


def test_it_is_plain_json():
    """Anybody can read it with a JSON parser; metrics are an object in it, not text."""
    plain = json.loads(to_bytes(FULL))
    assert plain["format"] == FORMAT
    assert plain["metrics"] == {"loss": 0.5, "done": False}
    assert plain["files"][0] == {"path": "model.bin", "size": 700, "xxh3": "00" * 16, "mode": 384}
    assert plain["parent"] == "0f3a-11"
    assert to_bytes(FULL).count(b"\n") == 1


def test_names_and_ids():
    """Directories sort by index up to a million, and a commit can be recognised when repeated."""
    assert checkpoint_name(12) == "checkpoint_000012"
    assert checkpoint_name(1234567) == "checkpoint_1234567"
    assert checkpoint_id("abc", 3) == checkpoint_id("abc", 3) == "abc-3"


def test_unknown_fields_are_ignored():
    """A later version of the same format may add fields."""
    data = encoded({"format": FORMAT, "id": "a", "trial": "t", "index": 0, "colour": "red"})
    assert from_bytes(data) == Manifest(id="a", trial="t", index=0)


@given(st.data())
def test_every_damage_is_noticed(data):
    """Any cut, and any changed byte, is an error and never another manifest."""
    good = to_bytes(FULL)
    position = data.draw(st.integers(0, len(good) - 1))
    cut = good[:position]
    changed = bytearray(good)
    changed[position] ^= data.draw(st.integers(1, 255))
    for damaged in (cut, bytes(changed)):
        with pytest.raises(CorruptCheckpointError, match="damaged"):
            from_bytes(damaged, "here/.milepost.json")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"format": 1, "id": "a", "trial": "t"},
        {"format": 1, "id": "a", "trial": "t", "index": "0"},
        {"format": "1", "id": "a", "trial": "t", "index": 0},
    ],
)
def test_wrong_fields(body):
    """Missing fields and wrong types are errors that name them."""
    with pytest.raises(CorruptCheckpointError, match="cannot be read"):
        from_bytes(encoded(body))


def test_newer_format_is_not_corrupt():
    """A format of the future is refused, but not taken for damage."""
    data = encoded({"format": FORMAT + 1, "anything": []})
    with pytest.raises(CheckpointError, match=f"format {FORMAT + 1}") as caught:
        from_bytes(data)
    assert not isinstance(caught.value, CorruptCheckpointError)


@pytest.mark.parametrize(
    "files",
    [
        [{"path": "/etc/passwd"}],
        [{"path": "../outside"}],
        [{"path": "a/../../outside"}],
        [{"path": "a//b"}],
        [{"path": "./a"}],
        [{"path": ""}],
        [{"path": "a/"}],
        [{"path": "a\0b"}],
        [{"path": ".milepost.json"}],
        [{"path": "a"}, {"path": "a"}],
        [{"path": "a", "link": "/etc"}],
        [{"path": "a", "link": ".."}],
        [{"path": "a", "link": ""}],
        [{"path": "d/a", "link": "../.."}],
        [{"path": "a", "link": "b/../.."}],
        [{"path": "d", "link": "e"}, {"path": "d/inner"}],
        [{"path": "d", "link": "e"}, {"path": "d/deep/inner"}],
    ],
)
def test_paths_outside_are_refused(files):
    """No manifest makes a reader touch anything outside of the checkpoint's directory."""
    data = encoded({"format": 1, "id": "a", "trial": "t", "index": 0, "files": files})
    with pytest.raises(CorruptCheckpointError, match="manifest"):
        from_bytes(data)


def test_directories_outside_are_refused():
    """Listed directories are held to the same rule as files."""
    data = encoded({"format": 1, "id": "a", "trial": "t", "index": 0, "directories": ["../x"]})
    with pytest.raises(CorruptCheckpointError, match=r"\.\./x"):
        from_bytes(data)


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("a", "b", True),
        ("a", "./b", True),
        ("a", "d/b", True),
        ("d/a", "../b", True),
        ("d/e/a", "../../b/c", True),
        ("a", ".", True),
        ("a", "../b", False),
        ("d/a", "../../b", False),
        ("a", "/b", False),
        ("a", "", False),
        ("d/a", "e/../../b", False),
        ("d/a", "e/../b", False),  # inside as text, but e may be a link to anywhere deeper
        ("a", "b\0", False),
    ],
)
def test_link_stays_inside(path, target, inside):
    """A link may climb only as far as its own directories go, and only at the front."""
    assert link_stays_inside(path, target) is inside


def test_read(tmp_path):
    """A directory without manifest is not a committed checkpoint."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
    (tmp_path / ".milepost.json").write_bytes(to_bytes(FULL))
    assert read(tmp_path) == FULL
    (tmp_path / ".milepost.json").write_bytes(b"")
    with pytest.raises(CorruptCheckpointError, match=str(tmp_path)):
        read(tmp_path)
