from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from milepost.storage import posix
from milepost.testing import powerloss
from milepost.testing.interposer import (
    EXIT_CODE,
    Fault,
    Interposer,
    Step,
    _runs,
    environment,
    read_trace,
    run_in_child,
)


def test_numbers_and_records(tmp_path):
    """Each operation is one number and one step with paths and bytes; sequences are their parts."""
    with Interposer() as seen:
        posix.durable_replace(str(tmp_path / "a"), b"data", temporary=str(tmp_path / "t"))
        fd = posix.create_new(str(tmp_path / "log"))
        posix.append(fd, b"line")
        posix.pwrite(fd, b"L", 0)
        posix.truncate(fd, 3)
        os.close(fd)
        posix.copy_file(str(tmp_path / "a"), str(tmp_path / "b"))
        posix.symlink("a", str(tmp_path / "c"))
        seen.mark("done", "1")
    here = str(tmp_path)
    assert seen.count == 10
    assert seen.steps == [
        Step("write_new", (f"{here}/t",), b"data"),
        Step("fsync_file", (f"{here}/t",)),
        Step("replace", (f"{here}/t", f"{here}/a")),
        Step("fsync_dir", (here,)),
        Step("create_new", (f"{here}/log",)),
        Step("append", (f"{here}/log",), b"line"),
        Step("pwrite", (f"{here}/log",), b"L"),
        Step("truncate", (f"{here}/log",), offset=3),
        Step("copy_file", (f"{here}/a", f"{here}/b"), b"data"),
        Step("symlink", ("a", f"{here}/c")),
        Step("mark", ("done", "1")),
    ]


def test_uninstalls_and_refuses_twice(tmp_path):
    """After the block the operations are the real ones; it cannot be nested in itself."""
    real = posix.rename
    with Interposer() as seen:
        assert posix.rename is not real
        with pytest.raises(RuntimeError, match="installed already"):
            seen.install()
    assert posix.rename is real


def test_errors_strike_once_and_full_disks_stay_full(tmp_path):
    """EIO is one failure; ENOSPC leaves half of the bytes, and no later write succeeds."""
    with Interposer(Fault("eio", 1)):
        with pytest.raises(OSError, match="Input/output error"):
            posix.write_new(str(tmp_path / "a"), b"1234")
        posix.write_new(str(tmp_path / "a"), b"1234")
    with Interposer(Fault("enospc", 1)):
        with pytest.raises(OSError, match="No space left"):
            posix.write_new(str(tmp_path / "b"), b"1234")
        with pytest.raises(OSError, match="No space left"):
            posix.write_new(str(tmp_path / "c"), b"1234")
        posix.unlink(str(tmp_path / "a"))
    assert (tmp_path / "b").read_bytes() == b"12"
    assert os.listdir(tmp_path) == ["b"]


def test_processes_end_where_they_were_told(tmp_path):
    """By "exit" no part of the operation is made, by "torn" a half; later ones are not reached."""

    def scenario() -> None:
        posix.write_new(str(tmp_path / "first"), b"1")
        posix.copy_file(str(tmp_path / "source"), str(tmp_path / "second"))
        posix.write_new(str(tmp_path / "third"), b"3")

    (tmp_path / "source").write_bytes(b"1234")
    assert run_in_child(scenario, Interposer(Fault("exit", 2))) == EXIT_CODE
    assert sorted(os.listdir(tmp_path)) == ["first", "source"]
    os.unlink(tmp_path / "first")
    assert run_in_child(scenario, Interposer(Fault("torn", 2))) == EXIT_CODE
    assert (tmp_path / "second").read_bytes() == b"12"
    assert not (tmp_path / "third").exists()


def test_children_tell_how_they_ended(capfd):
    """0 for a scenario that returned, 1 with a traceback for one that raised."""
    assert run_in_child(lambda: None, Interposer()) == 0
    assert run_in_child(lambda: 1 // 0, Interposer()) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


SCRIPT = """
import os, sys
from milepost.storage import posix
posix.write_new(sys.argv[1] + "/one", b"1")
if os.fork() == 0:
    posix.write_new(sys.argv[1] + "/two", b"22")
    posix.write_new(sys.argv[1] + "/three", b"333")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "worker_script.py"
    path.write_text(SCRIPT)
    return path


def run(script: Path, out: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    out.mkdir()
    return subprocess.run(
        [sys.executable, str(script), str(out)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_real_processes_are_armed_by_role(script, tmp_path):
    """A process whose command line has the role dies there; its successor does not, nor others."""
    env = environment(str(tmp_path / "faults"), "worker_script.py", Fault("exit", 1))
    assert run(script, tmp_path / "first", env).returncode == EXIT_CODE
    assert os.listdir(tmp_path / "first") == []
    assert run(script, tmp_path / "second", env).returncode == 0
    other = environment(str(tmp_path / "others"), "milepost.keeper", Fault("exit", 1))
    assert run(script, tmp_path / "third", other).returncode == 0


def test_forked_children_are_armed(script, tmp_path):
    """With ``fork:`` the children count from 1 and their parent is left alone."""
    trace = str(tmp_path / "trace")
    env = environment(
        str(tmp_path / "faults"), "fork:worker_script.py", Fault("torn", 2), trace_file=trace
    )
    done = run(script, tmp_path / "out", env)
    assert done.stdout == f"{EXIT_CODE}\n"
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "one": b"1",
        "two": b"22",
        "three": b"3",
    }
    assert read_trace(trace) == [Step("write_new", (str(tmp_path / "out" / "two"),), b"22")]


@pytest.mark.parametrize(
    ("arguments", "program", "runs"),
    [
        (["-m", "milepost.keeper", "x.py"], "milepost.keeper", True),
        (["-m", "milepost.keeper", "x.py"], "x.py", False),
        (["-X", "dev", "-u", "-m", "pkg.mod"], "pkg.mod", True),
        (["-W", "error", "/a/train.py", "milepost.keeper"], "train.py", True),
        (["-W", "error", "/a/train.py", "milepost.keeper"], "milepost.keeper", False),
        (["-P", "-c", "import pkg.mod; pkg.mod.main()", "x.py"], "pkg.mod", True),
        (["-P", "-c", "import pkg.mod; pkg.mod.main()", "x.py"], "x.py", False),
        (["-i"], "", False),
    ],
)
def test_roles_are_programs(arguments, program, runs):
    """A process is told by what it runs, not by its arguments."""
    assert _runs(arguments, program) is runs


# --- power loss ---------------------------------------------------------------------------------


def contents(root: Path, steps: list[Step]) -> list[powerloss.Frozen]:
    return [state.content for state in powerloss.states(powerloss.Disk(str(root)), steps)]


def test_power_loss_model(tmp_path):
    """Bytes need a flush of the file, names a flush of the directory, and each may come alone."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    with Interposer() as seen:
        posix.write_new(str(root / "new"), b"data")
        posix.fsync_file(str(root / "new"))
        posix.rename(str(root / "new"), str(root / "old"))
        posix.fsync_dir(str(root))
    root_before = tmp_path / "copy"
    root_before.mkdir()
    (root_before / "old").write_bytes(b"old")
    moved = [
        Step(s.operation, tuple(p.replace(str(root), str(root_before)) for p in s.paths), s.data)
        for s in seen.steps
    ]
    assert set(contents(root_before, moved)) == {
        (("old", b"old"),),
        (("new", b""), ("old", b"old")),
        (("new", b"data"), ("old", b"old")),
        (("old", b"data"),),
    }
    without_flush = [step for step in moved if step.operation != "fsync_file"]
    assert (("old", b""),) in contents(root_before, without_flush)
    last = list(powerloss.states(powerloss.Disk(str(root_before)), moved))[-1]
    powerloss.materialise(last.content, str(tmp_path / "out"))
    assert (tmp_path / "out" / "old").read_bytes() in (b"data", b"old")


def test_power_loss_shows_a_wrong_order(tmp_path):
    """Two changes that nothing orders can each come without the other."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    steps = [
        Step("unlink", (str(tmp_path / "a" / "file"),)),
        Step("unlink", (str(tmp_path / "b" / "file"),)),
    ]
    found = set(contents(tmp_path, steps))
    full, empty = (("file", b"x"),), ()
    assert found == {(("a", one), ("b", two)) for one in (full, empty) for two in (full, empty)}


def test_power_loss_refuses_what_it_cannot_see(tmp_path):
    """A change outside of the recorded root is an error, not a wrong answer."""
    disk = powerloss.Disk(str(tmp_path))
    with pytest.raises(ValueError, match="outside of the recorded root"):
        disk.apply(Step("unlink", ("/elsewhere/file",)))
