from __future__ import annotations

import ast
import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

import milepost
from milepost.storage import posix
from milepost.testing.interposer import Fault, Interposer


@pytest.fixture(params=["renameat2", "steps"])
def way(request, monkeypatch) -> str:
    """Both ways to rename without replacing."""
    if request.param == "steps":

        class Libc:
            @staticmethod
            def renameat2(*args: object) -> int:
                import ctypes

                ctypes.set_errno(errno.EINVAL)
                return -1

        monkeypatch.setattr(posix, "_libc", Libc)
    return request.param


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_rename_noreplace(way, kind, tmp_path):
    """A free name is taken; the old one is gone."""
    make(tmp_path / "a", kind)
    posix.rename_noreplace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["b"]
    assert kind_of(tmp_path / "b") == kind


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("taken", ["file", "directory", "full directory", "link"])
def test_rename_noreplace_of_a_taken_name(way, kind, taken, tmp_path):
    """Whatever is there, an empty directory or a dangling link too, stays; so does the source."""
    make(tmp_path / "a", kind)
    make(tmp_path / "b", taken)
    before = os.lstat(tmp_path / "b").st_ino
    with pytest.raises(FileExistsError):
        posix.rename_noreplace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert os.lstat(tmp_path / "b").st_ino == before


def test_rename_noreplace_of_nothing(way, tmp_path):
    """A missing source is the usual error."""
    with pytest.raises(FileNotFoundError):
        posix.rename_noreplace(str(tmp_path / "a"), str(tmp_path / "b"))


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text(kind)
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        if kind == "full directory":
            (path / "inner").touch()


def kind_of(path: Path) -> str:
    if path.is_symlink():
        return "link"
    return "directory" if path.is_dir() else "file"


def test_write_new(tmp_path):
    """A whole new file, or an error that touches nothing."""
    path = tmp_path / "file"
    posix.write_new(str(path), b"one")
    with pytest.raises(FileExistsError):
        posix.write_new(str(path), b"two")
    assert path.read_bytes() == b"one"


def test_partial_writes_are_completed(tmp_path, monkeypatch):
    """A write that takes only a part, as signals and full disks cause, is continued."""
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:2], offset))
    path = tmp_path / "file"
    posix.write_new(str(path), b"0123456789")
    assert path.read_bytes() == b"0123456789"
    fd = os.open(path, os.O_RDWR)
    try:
        posix.pwrite(fd, b"abcde", 3)
    finally:
        os.close(fd)
    assert path.read_bytes() == b"012abcde89"


def test_append_and_truncate(tmp_path):
    """A file that was created for appending grows at its end, also after it was cut."""
    path = tmp_path / "log"
    fd = posix.create_new(str(path))
    try:
        posix.append(fd, b"first")
        posix.append(fd, b"second")
        posix.fsync(fd)
        posix.truncate(fd, 5)
        posix.append(fd, b"!")
    finally:
        os.close(fd)
    assert path.read_bytes() == b"first!"
    with pytest.raises(FileExistsError):
        posix.create_new(str(path))


@pytest.mark.parametrize("size", [0, 1, posix.BLOCK_BYTES, 2 * posix.BLOCK_BYTES + 7])
@pytest.mark.parametrize("way_to_copy", ["range", "blocks", "hash"])
def test_copy_file(size, way_to_copy, tmp_path, monkeypatch):
    """Every byte arrives, by each way; the hasher sees all of them."""
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    if way_to_copy == "blocks":

        def refuse(*args: object) -> int:
            raise OSError(errno.EXDEV, "not here")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    hasher = hashlib.sha256() if way_to_copy == "hash" else None
    assert posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"), hasher) == size
    assert (tmp_path / "b").read_bytes() == data
    if hasher is not None:
        assert hasher.digest() == hashlib.sha256(data).digest()
    with pytest.raises(FileExistsError):
        posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("pieces", [[], [0], [5 << 20], [0, 3 << 20, (64 << 20) - 7]])
@pytest.mark.parametrize("hashed", [False, True])
def test_holes_stay_holes(pieces, hashed, tmp_path):
    """A large sparse file takes no more room as a copy; its bytes and its digest are the same."""
    with open(tmp_path / "a", "wb") as file:
        file.truncate(64 << 20)
        for at in pieces:
            file.seek(at)
            file.write(b"x" * 7)
    hasher = hashlib.sha256() if hashed else None
    assert posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"), hasher) == 64 << 20
    data = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == data
    assert (tmp_path / "b").stat().st_blocks * 512 <= 1 << 20
    if hasher is not None:
        assert hasher.digest() == hashlib.sha256(data).digest()


def test_a_sparse_file_that_is_cut_meanwhile(tmp_path):
    """What is copied ends where the file ends by then, and the count says so."""

    class Cutter:
        def update(self, data: object) -> None:
            os.truncate(tmp_path / "a", 3 << 20)

    with open(tmp_path / "a", "wb") as file:
        file.write(b"x" * (4 << 20))
        file.truncate(64 << 20)
        file.flush()
    copied = posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"), Cutter())
    assert copied >= 3 << 20
    assert (tmp_path / "b").stat().st_size == copied
    assert (tmp_path / "b").read_bytes()[: 3 << 20] == b"x" * (3 << 20)


def test_copy_from_proc(tmp_path):
    """Files that have bytes but no size are copied too."""
    copied = posix.copy_file("/proc/self/status", str(tmp_path / "status"))
    assert copied == len((tmp_path / "status").read_bytes()) > 100


@pytest.mark.parametrize(("source", "expected"), [(0o600, 0o644), (0o700, 0o755), (0o444, 0o644)])
def test_copies_follow_the_umask(source, expected, tmp_path):
    """A copy has the bits that a new file has, and stays executable."""
    previous = os.umask(0o022)
    try:
        (tmp_path / "a").write_bytes(b"x")
        (tmp_path / "a").chmod(source)
        posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"))
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == expected


def test_reflink_or_nothing(tmp_path):
    """Either a copy that shares blocks, or False and no file."""
    (tmp_path / "a").write_bytes(b"data" * 4096)
    if posix.reflink(str(tmp_path / "a"), str(tmp_path / "b")):
        assert (tmp_path / "b").read_bytes() == b"data" * 4096
    else:
        assert not (tmp_path / "b").exists()


def test_reflink_errors_are_errors(tmp_path, monkeypatch):
    """Only "cannot be done here" is an answer; a full disk is not."""
    import fcntl

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fcntl, "ioctl", fail)
    (tmp_path / "a").write_bytes(b"data")
    with pytest.raises(OSError, match="No space"):
        posix.reflink(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["a"]


def test_syncfs(tmp_path):
    """It works on a directory and on a file, and says which path is missing."""
    (tmp_path / "a").write_bytes(b"data")
    posix.syncfs(str(tmp_path))
    posix.syncfs(str(tmp_path / "a"))
    with pytest.raises(FileNotFoundError):
        posix.syncfs(str(tmp_path / "b"))


def test_durable_replace(tmp_path):
    """The content is flushed before the name, and the name before it returns."""
    path = tmp_path / "file"
    posix.durable_replace(str(path), b"one")
    with Interposer() as steps:
        posix.durable_replace(str(path), b"two")
    assert [step.operation for step in steps.steps] == [
        "write_new",
        "fsync_file",
        "replace",
        "fsync_dir",
    ]
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"two"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_failed_durable_replace(tmp_path, at):
    """Until the name is replaced a failure leaves the old content and nothing else."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with Interposer(Fault("enospc", at)), pytest.raises(OSError, match="No space"):
        posix.durable_replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_durable_replace_in_the_current_directory(tmp_path, monkeypatch):
    """A bare file name works."""
    monkeypatch.chdir(tmp_path)
    posix.durable_replace("file", b"data")
    assert os.listdir(tmp_path) == ["file"]


def test_durable_makedirs(tmp_path):
    """Each new directory is flushed into its parent; repeating it makes nothing."""
    target = str(tmp_path / "a" / "b")
    with Interposer() as steps:
        posix.durable_makedirs(target)
    made = [(step.operation, os.path.basename(step.paths[0])) for step in steps.steps]
    top = tmp_path.name
    assert made == [
        ("fsync_dir", tmp_path.parent.name),
        ("mkdir", "a"),
        ("fsync_dir", top),
        ("mkdir", "b"),
        ("fsync_dir", "a"),
    ]
    posix.durable_makedirs(target)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        posix.durable_makedirs(str(tmp_path / "file" / "inner"))


def test_make_below(tmp_path):
    """Directories are made below a root that is there; one that is gone stays gone."""
    root = str(tmp_path / "root")
    for path in (root + "/a", root + "/a/b"):
        with pytest.raises(FileNotFoundError):
            posix.make_below(root, path)
        assert not os.path.exists(root)
    os.mkdir(root)
    for path in (root + "/a/b/c", root + "/a/b", root + "/d"):
        posix.make_below(root, path)
        assert os.path.isdir(path)


def test_remove_tree(tmp_path):
    """Trees, files and links go, links are not followed, what is gone is no error."""
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "file").touch()
    tree = tmp_path / "tree"
    (tree / "inner" / "deep").mkdir(parents=True)
    (tree / "inner" / "file").touch()
    (tree / "link").symlink_to(tmp_path / "keep")
    (tree / "inner").chmod(0o500)
    posix.remove_tree(str(tree))
    posix.remove_tree(str(tree))
    (tmp_path / "link").symlink_to(tmp_path / "keep")
    posix.remove_tree(str(tmp_path / "link"))
    (tmp_path / "file").touch()
    posix.remove_tree(str(tmp_path / "file"))
    assert os.listdir(tmp_path) == ["keep"]
    assert os.listdir(tmp_path / "keep") == ["file"]


def test_operations_are_named():
    """Every name that the interposer replaces is a function here, and flushes are among them."""
    assert all(callable(getattr(posix, name)) for name in posix.OPERATIONS)
    assert set(posix.FLUSHES) <= set(posix.OPERATIONS)
    assert len(set(posix.OPERATIONS)) == len(posix.OPERATIONS)


ROOMS = ("storage", "checkpoint", "journal", "keeper")
CHANGES = {
    "rename", "renames", "replace", "link", "symlink", "unlink", "remove", "removedirs", "rmdir",
    "mkdir", "makedirs", "fsync", "fdatasync", "sync", "truncate", "ftruncate", "chmod",
}  # fmt: skip
OWN_BUSINESS = {"lock.py", "node.py"}  # locks and the node root are not state that must survive


def modules() -> list[Path]:
    root = Path(milepost.__file__).parent
    return [
        path
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
        if path.name not in {"posix.py"} | OWN_BUSINESS
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nobody_changes_files_behind_our_back(path):
    """Changes go through ``posix.<name>``, so that no crash test misses one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "milepost.storage.posix", f"line {node.lineno}: import the module"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id == "os" and node.attr in CHANGES), f"line {node.lineno}"
            assert node.value.id != "shutil", f"line {node.lineno}"
