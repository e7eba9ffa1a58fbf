"""Leases themselves: held up writers, saved bytes, and what is said when bytes were lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import threading

import pytest

from milepost.checkpoint.tree import digest
from milepost.keeper.guard import guard, is_written
from milepost.keeper.intent import FILES_SUFFIX
from milepost.keeper.lease import Leases, OverwrittenError

DATA = bytes(range(256)) * 4096


@pytest.fixture
def broken():
    """A queue that gets an item when a lease of this process is being broken."""
    told = queue.SimpleQueue()  # which a signal handler may use
    before = signal.signal(signal.SIGIO, lambda *_: told.put(None))
    yield told
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def base(tmp_path):
    """A staged capture of two files, each linked from the user's directory."""
    staged = tmp_path / "capture"
    tree = tmp_path / f"capture{FILES_SUFFIX}"
    tree.mkdir()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(DATA)
        os.link(tmp_path / name, tree / name)
    return str(staged)


def staged(base: str, name: str) -> str:
    return os.path.join(base + FILES_SUFFIX, name)


def wait_for(told: queue.SimpleQueue) -> None:
    """Wait for the signal in the main thread, where Python runs its handler."""
    while True:
        with contextlib.suppress(queue.Empty):
            return told.get(timeout=0.01)


class Writer(threading.Thread):
    """Opens a file for writing and overwrites it, which a lease holds up."""

    def __init__(self, path) -> None:
        super().__init__()
        self.path = path
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        with open(self.path, "r+b") as file:
            file.write(b"overwritten")
        self.done.set()


def test_writer_waits_until_the_bytes_are_saved(tmp_path, base, broken):
    """The writer goes on after the rescue, not before; the staged bytes are the old ones."""
    leases = Leases()
    leases.take(base, ["a", "b"])
    assert leases.holds(base, staged(base, "a"))
    assert leases.holds(base, staged(base, "b"))
    assert leases.breaking() == []
    writer = Writer(tmp_path / "a")
    wait_for(broken)
    assert not writer.done.is_set()
    rescues = leases.breaking()
    assert len(rescues) == 1
    assert leases.breaking() == [], "each is handed out once"
    rescues[0]()
    writer.join()
    with open(staged(base, "a"), "rb") as file:
        assert file.read() == DATA
    assert (tmp_path / "a").read_bytes() != DATA
    assert leases.digest(base, staged(base, "a")) == digest(staged(base, "b"))[0]
    assert os.stat(staged(base, "b")).st_ino == os.stat(tmp_path / "b").st_ino
    leases.release(base)
    Writer(tmp_path / "b").join()


def test_private_when_the_other_name_is_gone(tmp_path, base):
    """Then the staged name keeps the inode, and nothing is copied."""
    leases = Leases()
    leases.take(base, ["a"])
    inode = os.stat(tmp_path / "a").st_ino
    (tmp_path / "a").unlink()
    leases.make_private(base, staged(base, "a"))
    assert os.stat(staged(base, "a")).st_ino == inode


def test_private_while_the_other_name_is_there(tmp_path, base):
    """Then the bytes are copied, with their time, and the lease ends."""
    leases = Leases()
    leases.take(base, ["a"])
    before = os.stat(tmp_path / "a")
    leases.make_private(base, staged(base, "a"))
    after = os.stat(staged(base, "a"))
    assert after.st_ino != before.st_ino
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    Writer(tmp_path / "a").join()


def test_refusals(tmp_path, base):
    """A file that is open for writing, is a link, or is not there gets no lease."""
    root = f"{base}{FILES_SUFFIX}"
    os.symlink("b", os.path.join(root, "link"))
    with open(tmp_path / "a", "ab"):
        found = {name: guard(root, name, os.getpid()) for name in ("a", "b", "link", "gone")}
        assert is_written(root, "a", os.getpid())
        assert not is_written(root, "b", os.getpid())
    assert [name for name, guarded in found.items() if guarded is not None] == ["b"]
    leases = Leases()
    leases.adopt(base, [found["b"]])
    leases.release(base)
    Writer(tmp_path / "b").join()


def test_checked_files_are_not_held(tmp_path, base):
    """A file that only has to be free of writers can be opened for writing at once."""
    assert not is_written(f"{base}{FILES_SUFFIX}", "a", os.getpid())
    Writer(tmp_path / "a").join()


def test_released_though_a_child_has_the_descriptor(tmp_path, base):
    """A child that was forked meanwhile must not hold up writers for as long as it lives."""
    leases = Leases()
    leases.take(base, ["a"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        leases.release(base)
        Writer(tmp_path / "a").join(30)
        assert (tmp_path / "a").read_bytes() != DATA
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_taken_twice(base):
    """A worker that asks again, because the answer was lost, does not cost a descriptor."""
    leases = Leases()
    leases.take(base, ["a"])
    count = len(os.listdir("/proc/self/fd"))
    leases.take(base, ["a"])
    assert len(os.listdir("/proc/self/fd")) == count
    leases.release(base)
    assert len(os.listdir("/proc/self/fd")) == count - 1


def test_leases_of_two_kinds_on_one_file(tmp_path, base):
    """A search of staging may be faster than the worker's message: one lease is kept, and ends."""
    root = f"{base}{FILES_SUFFIX}"
    leases = Leases()
    second = guard(root, "a", os.getpid())
    leases.take(base, ["a"])
    leases.adopt(base, [second])
    leases.release(base)
    Writer(tmp_path / "a").join(30)
    assert (tmp_path / "a").read_bytes() != DATA


def test_act_is_repeated_on_saved_bytes(tmp_path, base, broken):
    """What was read while the bytes moved to another file is read again there."""
    leases = Leases()
    leases.take(base, ["a"])
    seen = []

    def read(path: str) -> int:
        with open(path, "rb") as file:
            if not seen:
                writer = Writer(tmp_path / "a")
                wait_for(broken)
                for rescue in leases.breaking():
                    rescue()
                writer.join()
            seen.append(file.read())
        return len(seen)

    assert leases.stable(base, staged(base, "a"), read) == 2
    assert seen[0] != DATA, "the first reading met the writer"
    assert seen[1] == DATA


def test_bytes_that_were_lost(tmp_path, base, monkeypatch):
    """A writer that got in before the bytes were saved is an error that says how."""
    leases = Leases()
    leases.take(base, ["a"])
    # What the kernel does when the holder takes longer than lease-break-time.
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.path.samestat(os.fstat(fd), os.stat(tmp_path / "a")):
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            continue
    with open(tmp_path / "a", "r+b") as file:
        file.write(b"overwritten")
    for rescue in leases.breaking():
        rescue()
    with pytest.raises(OverwrittenError, match=r"a was opened for writing .* 1,048,576 bytes took"):
        leases.make_private(base, staged(base, "a"))
    with pytest.raises(OverwrittenError, match="earlier ones are intact"):
        leases.stable(base, staged(base, "a"), digest)


def test_bytes_that_cannot_be_saved(tmp_path, base, broken, monkeypatch):
    """With no room for a copy the writer goes on at once, and the commit says why it fails."""
    from milepost.storage import posix

    leases = Leases()
    leases.take(base, ["a"])
    writer = Writer(tmp_path / "a")
    wait_for(broken)

    def fail(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(posix, "copy_file", fail)
        for rescue in leases.breaking():
            rescue()
    writer.join()
    with pytest.raises(OverwrittenError, match=r"could not be saved: No space left"):
        leases.make_private(base, staged(base, "a"))
