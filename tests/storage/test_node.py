from __future__ import annotations

import os
import signal
import stat
import threading

import pytest

from milepost.errors import StorageError
from milepost.storage import lock
from milepost.storage.lock import path_lock
from milepost.storage.node import node_root


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A node root of the test's own."""
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "deep" / "root"))
    return tmp_path / "deep" / "root"


def test_node_root_is_private(root):
    """It is created for its user only, and found again."""
    assert node_root() == str(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert node_root() == str(root)


def test_default_node_root(tmp_path, monkeypatch):
    """Without configuration it is in the temporary directory, named by the user."""
    monkeypatch.delenv("MILEPOST_NODE_ROOT")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert node_root() == str(tmp_path / f"milepost-{os.getuid()}")


@pytest.mark.parametrize("kind", ["file", "link", "open", "foreign"])
def test_unsafe_node_root(root, kind, tmp_path, monkeypatch):
    """What somebody else could replace is refused, with the way out."""
    root.parent.mkdir()
    if kind == "file":
        root.write_text("")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        root.symlink_to(tmp_path / "elsewhere")
    else:
        root.mkdir()
        if kind == "open":
            root.chmod(0o777)
        else:
            monkeypatch.setattr("os.getuid", lambda: 54321)
    with pytest.raises(StorageError, match="MILEPOST_NODE_ROOT"):
        node_root()


def test_impossible_node_root(tmp_path, monkeypatch):
    """A place where nothing can be created is named."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "file" / "root"))
    with pytest.raises(StorageError, match="cannot create the node root"):
        node_root()


def test_lock_leaves_nothing(root):
    """A free lock is had at once, again and again, and no file stays."""
    for _ in range(3):
        with path_lock("/some/path") as at_once:
            assert at_once
            assert len(os.listdir(root / "locks")) == 1
    assert os.listdir(root / "locks") == []


def test_different_paths_do_not_wait():
    """Locks of two paths are two locks; the same path by another name is one."""
    with path_lock("/some/path") as first, path_lock("/other/path") as second:
        assert first
        assert second


def test_one_holder_at_a_time(tmp_path):
    """Threads that compete for a path, by whatever name, never hold it together."""
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    inside, most, waited = [0], [0], []

    def work(name: str) -> None:
        for _ in range(20):
            with path_lock(str(tmp_path / name)) as at_once:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                waited.append(not at_once)
                os.sched_yield()
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(name,)) for name in ["real", "alias"] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(waited) == 120


def test_a_dead_holder_holds_nothing():
    """The kernel frees the lock of a process that was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        with path_lock("/some/path"):
            os.write(write_end, b"x")
            signal.pause()
        os._exit(1)
    os.read(read_end, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with path_lock("/some/path") as at_once:
        assert at_once
    os.close(read_end)
    os.close(write_end)


def test_interrupted_wait_leaves_no_descriptor(monkeypatch):
    """An exception while waiting (Ctrl-C) closes the lock file."""
    before = len(os.listdir("/proc/self/fd"))

    def interrupt(fd: int, operation: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lock.fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt), path_lock("/some/path"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
