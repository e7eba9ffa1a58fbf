"""Checkpoints whose directories have names of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.collect import is_another
from milepost.checkpoint.commit import commit
from milepost.checkpoint.manifest import MANIFEST_NAME
from milepost.errors import CheckpointError, CorruptCheckpointError


@pytest.fixture
def mixed(trial: str, stage) -> str:
    """A trial with the checkpoints ``zero`` (0), ``checkpoint_000001`` and ``a`` (2)."""
    items = []
    for index, name in enumerate(["zero", msgspec.UNSET, "a"]):
        item = stage(trial, index)
        manifest = msgspec.structs.replace(item.manifest, dir_name=name)
        target = os.path.join(trial, manifest.directory)
        items.append(item._replace(manifest=manifest, target=target))
    assert commit(items) == [item.manifest for item in items]
    return trial


def test_they_are_listed_by_their_numbers(mixed):
    """Where they have the name that their manifests say; copies have another."""
    shutil.copytree(os.path.join(mixed, "a"), os.path.join(mixed, "copy"))
    shutil.copytree(os.path.join(mixed, "a"), os.path.join(mixed, "checkpoint_000002"))
    shutil.copytree(os.path.join(mixed, "checkpoint_000001"), os.path.join(mixed, "b"))
    os.mkdir(os.path.join(mixed, "foreign"))
    found = [(index, each.directory) for index, each in verify.committed(mixed)]
    assert found == [(0, "zero"), (1, "checkpoint_000001"), (2, "a")]
    newest = verify.newest_good(mixed)
    assert newest is not None
    assert newest[1].directory == "a"


@pytest.mark.parametrize("among", [None, {"a": 2, "zero": 0}])
@pytest.mark.parametrize("damage", ["manifest", "file"])
def test_damaged_ones_go_to_quarantine(mixed, caplog, among, damage):
    """The next older one is used, and the line names it."""
    name = MANIFEST_NAME if damage == "manifest" else manifests.read(Path(mixed, "a")).files[0].path
    Path(mixed, "a", name).write_text("")
    found = verify.newest_good(mixed, quarantine=True, among=among)
    instead = "zero" if among else "checkpoint_000001"
    assert found is not None
    assert found[1].directory == instead
    assert caplog.messages[0].startswith("a of trial directory")
    assert f"using {instead}" in caplog.messages[0]
    assert any(each.startswith(".milepost-quarantine-a-") for each in os.listdir(mixed))


def test_manifests_without_a_name_are_as_before():
    """The usual name is not written; one of its own is, and is read."""
    plain = manifests.Manifest(id="x-3", trial="t", index=3)
    assert b"dir_name" not in manifests.to_bytes(plain)
    assert plain.directory == "checkpoint_000003"
    given = msgspec.structs.replace(plain, dir_name="best")
    assert manifests.from_bytes(manifests.to_bytes(given)) == given
    assert given.directory == "best"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0", "a\n/b"])
def test_names_that_lead_out(mixed, name, caplog):
    """A manifest with a name that is no plain one is damaged, and nothing uses it."""
    path = Path(mixed, "a", MANIFEST_NAME)
    bad = msgspec.structs.replace(manifests.read(path.parent), dir_name=name)
    path.write_bytes(manifests.to_bytes(bad))
    with pytest.raises(CorruptCheckpointError, match="dir_name"):
        manifests.read(path.parent)
    assert [index for index, _ in verify.committed(mixed)] == [0, 1]
    assert "is not listed" in caplog.text


def test_another_checkpoint_of_a_name(mixed):
    """Only where the number is no part of the name can it be another's."""
    assert is_another(os.path.join(mixed, "a"), 0)
    assert not is_another(os.path.join(mixed, "a"), 2)
    assert not is_another(os.path.join(mixed, "gone"), 2)
    assert not is_another(os.path.join(mixed, "checkpoint_000001"), 1)
    Path(mixed, "a", MANIFEST_NAME).write_text("")
    with pytest.raises(CheckpointError, match="damaged"):
        is_another(os.path.join(mixed, "a"), 2)
