from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.commit import commit
from milepost.errors import CheckpointError


def truncate(directory: Path) -> None:
    os.truncate(directory / "model.bin", 5)


def lengthen(directory: Path) -> None:
    with open(directory / "model.bin", "ab") as file:
        file.write(b"!")


def flip(directory: Path) -> None:
    with open(directory / "state" / "optimizer.bin", "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def remove(directory: Path) -> None:
    os.unlink(directory / "model.bin")


def remove_directory(directory: Path) -> None:
    shutil.rmtree(directory / "state")


def remove_empty(directory: Path) -> None:
    shutil.rmtree(directory / "empty")


def swap_for_directory(directory: Path) -> None:
    os.unlink(directory / "model.bin")
    os.mkdir(directory / "model.bin")


def swap_for_link(directory: Path) -> None:
    os.rename(directory / "model.bin", directory / "elsewhere")
    os.symlink("elsewhere", directory / "model.bin")


def retarget_link(directory: Path) -> None:
    os.unlink(directory / "latest")
    os.symlink("model.bin", directory / "latest")


def link_to_file(directory: Path) -> None:
    os.unlink(directory / "latest")
    shutil.copy(directory / "model.bin", directory / "latest")


def remove_link(directory: Path) -> None:
    os.unlink(directory / "latest")


def cut_manifest(directory: Path) -> None:
    path = directory / manifests.MANIFEST_NAME
    os.truncate(path, path.stat().st_size // 2)


def empty_manifest(directory: Path) -> None:
    os.truncate(directory / manifests.MANIFEST_NAME, 0)


def flip_manifest(directory: Path) -> None:
    path = directory / manifests.MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"iteration":3', b'"iteration":2'))


DAMAGES: list[tuple[Callable[[Path], None], str, bool]] = [
    (truncate, "size", False),
    (lengthen, "size", False),
    (flip, "digest", True),
    (remove, "missing", False),
    (remove_directory, "missing", False),
    (remove_empty, "missing", False),
    (swap_for_directory, "type", False),
    (swap_for_link, "type", False),
    (retarget_link, "type", False),
    (link_to_file, "size", False),
    (remove_link, "missing", False),
    (cut_manifest, "manifest", False),
    (empty_manifest, "manifest", False),
    (flip_manifest, "manifest", False),
]
IDS = [damage.__name__ for damage, _, _ in DAMAGES]


@pytest.fixture
def three(trial: str, stage) -> str:
    """A trial with three committed checkpoints."""
    items = [stage(trial, index, full=True) for index in range(3)]
    assert commit(items) == [item.manifest for item in items]
    return trial


@pytest.mark.parametrize(("damage", "kind", "needs_digests"), DAMAGES, ids=IDS)
def test_damage_is_found(three, damage, kind, needs_digests):
    """Every kind of damage is named; those that leave sizes alone need the digests."""
    newest = Path(three, "checkpoint_000002")
    assert verify.check(str(newest), digests=True) == []
    damage(newest)
    problems = verify.check(str(newest), digests=True)
    assert {problem.kind for problem in problems} == {kind}
    assert bool(verify.check(str(newest))) is not needs_digests
    assert all(problem.path in problem.detail for problem in problems)


@pytest.mark.parametrize(("damage", "kind", "needs_digests"), DAMAGES, ids=IDS)
def test_the_next_older_one_is_used(three, damage, kind, needs_digests, caplog):
    """A damaged newest checkpoint goes to quarantine, loudly, and the one before it is used."""
    damage(Path(three, "checkpoint_000002"))
    with caplog.at_level(logging.WARNING):
        found = verify.newest_good(three, digests=True, quarantine=True)
    assert found is not None
    assert found[0] == 1
    (line,) = caplog.messages
    assert "checkpoint_000002" in line
    assert "using checkpoint_000001" in line
    assert ".milepost-quarantine-checkpoint_000002-" in line
    names = sorted(os.listdir(three))
    assert names[0].startswith(".milepost-quarantine-checkpoint_000002-")
    assert names[1:] == ["checkpoint_000000", "checkpoint_000001"]
    caplog.clear()
    assert verify.newest_good(three, digests=True, quarantine=True) == found
    assert caplog.messages == []


def test_without_quarantine_nothing_is_renamed(three, caplog):
    """A reader that does not hold the experiment falls back, says so, and changes nothing."""
    truncate(Path(three, "checkpoint_000002"))
    remove(Path(three, "checkpoint_000001"))
    before = sorted(os.listdir(three))
    found = verify.newest_good(three)
    assert found is not None
    assert found[0] == 0
    assert len(caplog.messages) == 2
    assert sorted(os.listdir(three)) == before


def test_all_bad(three, caplog):
    """When no checkpoint is good there is none, and each of them is explained."""
    for index in range(3):
        remove(Path(three, f"checkpoint_00000{index}"))
    assert verify.newest_good(three, quarantine=True) is None
    assert len(caplog.messages) == 3
    assert all("no older checkpoint is left" in line for line in caplog.messages)


def test_second_read_must_agree(three, monkeypatch, caplog):
    """A difference that a second read does not see (bad memory) puts nothing aside."""
    check_files = verify.check_files
    answers = [[verify.Problem("digest", "model.bin", "model.bin flipped")]]
    monkeypatch.setattr(
        verify,
        "check_files",
        lambda *args, **kwargs: answers.pop() if answers else check_files(*args, **kwargs),
    )
    found = verify.newest_good(three, digests=True, quarantine=True)
    assert found is not None
    assert found[0] == 1
    assert "a second read did not agree" in caplog.text
    assert sorted(os.listdir(three)) == [f"checkpoint_00000{index}" for index in range(3)]


def test_failed_quarantine_is_told(three, monkeypatch, caplog):
    """When the bad one cannot be moved it is passed over all the same."""
    truncate(Path(three, "checkpoint_000002"))

    def refuse(src: str, dst: str) -> None:
        raise PermissionError(13, "Permission denied", src)

    monkeypatch.setattr(verify.posix, "rename_noreplace", refuse)
    found = verify.newest_good(three, quarantine=True)
    assert found is not None
    assert found[0] == 1
    assert "moving it to quarantine failed too" in caplog.text


def test_newer_format_is_neither_used_nor_moved(three, caplog):
    """A checkpoint of a newer version is left for that version."""
    path = Path(three, "checkpoint_000002")
    manifest = manifests.read(path)
    newer = manifests.Manifest(format=99, id="x", trial="t", index=2, files=manifest.files)
    (path / manifests.MANIFEST_NAME).write_bytes(manifests.to_bytes(newer))
    with pytest.raises(CheckpointError, match="format 99"):
        verify.check(str(path))
    found = verify.newest_good(three, quarantine=True)
    assert found is not None
    assert found[0] == 1
    assert path.exists()
    assert "format 99" in caplog.text


def test_extra_files_are_ignored(three):
    """What the manifest does not list is nobody's business; metadata is never listed."""
    path = Path(three, "checkpoint_000001")
    (path / "notes.txt").write_text("mine")
    (path / manifests.METADATA_NAME).write_text("{}")
    assert verify.check(str(path), digests=True) == []


def test_listing_goes_by_manifests(three, caplog):
    """Foreign directories, copies, renamed ones, files and leftovers are not checkpoints."""
    os.mkdir(os.path.join(three, "checkpoint_000009"))
    shutil.copytree(os.path.join(three, "checkpoint_000001"), os.path.join(three, "my_best"))
    shutil.copytree(
        os.path.join(three, "checkpoint_000001"), os.path.join(three, "checkpoint_000005")
    )
    shutil.copytree(
        os.path.join(three, "checkpoint_000001"), os.path.join(three, ".milepost-tmp-copy")
    )
    os.symlink("checkpoint_000001", os.path.join(three, "checkpoint_000008"))
    Path(three, "checkpoint_000007").write_text("a file")
    Path(three, "checkpoint_best").mkdir()
    assert [index for index, _ in verify.committed(three)] == [0, 1, 2]
    found = verify.newest_good(three, quarantine=True)
    assert found is not None
    assert found[0] == 2
    assert caplog.messages == []


def test_listing_skips_torn_manifests(three, caplog):
    """A manifest that cannot be read lists nothing, with one warning."""
    cut_manifest(Path(three, "checkpoint_000001"))
    assert [index for index, _ in verify.committed(three)] == [0, 2]
    assert "checkpoint_000001 is not listed" in caplog.text


def test_missing_trial(tmp_path):
    """A trial without a directory has no checkpoints."""
    assert verify.committed(str(tmp_path / "none")) == []
    assert verify.newest_good(str(tmp_path / "none")) is None


def test_foreign_directory_cannot_be_checked(tmp_path):
    """A directory without manifest is not called good or bad."""
    with pytest.raises(FileNotFoundError):
        verify.check(str(tmp_path))


@pytest.mark.parametrize("links", [True, False])
def test_moved_tree_verifies(three, tmp_path, links):
    """A copied or moved experiment is as valid as the original: nothing in it is absolute.

    Also when the copy, as through an object store, has no links but what they lead to.
    """
    moved = tmp_path / "elsewhere"
    shutil.copytree(os.path.dirname(three), moved, symlinks=links)
    found = verify.newest_good(str(moved / "trial"), digests=True)
    assert found is not None
    assert found[0] == 2
