from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from milepost.tune import Result


class Refused(Exception):
    """Raised by user code in these tests."""


class Trap:
    """A value whose unpickling is noticed."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["TRAP"],)


def test_metrics_are_the_last_row_and_the_frame_has_all(new_run: Any) -> None:
    """The last logged row is ``metrics``; the frame holds every row with flat names."""
    path = new_run().trial("a", [{"m": {"loss": 3.0}}, {"m": {"loss": 1.0}}], config={"lr": 0.5})
    result = Result.from_path(path)
    assert result.metrics is not None
    assert result.metrics["m"]["loss"] == 1.0
    assert result.config == {"lr": 0.5}
    assert list(result.metrics_dataframe["m/loss"]) == [3.0, 1.0]
    assert list(result.metrics_dataframe["config/lr"]) == [0.5, 0.5]
    assert result.error is None
    assert result.path == path


def test_only_committed_checkpoints_count(new_run: Any) -> None:
    """Half-written, foreign, copied and quarantined directories never become checkpoints."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}], config={"lr": 1})
    good = run.checkpoint(path, 1, {"loss": 2.0})
    for name in ("checkpoint_000002", ".milepost-tmp-checkpoint_000003", "checkpoint_x"):
        Path(path, name).mkdir()
        Path(path, name, "model.bin").write_bytes(b"half")
    Path(path, "checkpoint_000009").mkdir()
    Path(path, "checkpoint_000009", ".milepost.json").write_bytes(b'{"torn')
    result = Result.from_path(path)
    assert result.checkpoint is not None
    assert result.checkpoint.path == good
    assert [(c.path, row) for c, row in result.best_checkpoints or []] == [
        (good, {"loss": 2.0, "config": {"lr": 1}})
    ]


def test_a_damaged_checkpoint_is_left_out_with_a_message(
    new_run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A truncated newest checkpoint is passed over for the one before, and the log says why."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}])
    older, newest = run.checkpoint(path, 0, {}), run.checkpoint(path, 1, {})
    os.truncate(os.path.join(newest, "model.bin"), 3)
    result = Result.from_path(path)
    assert result.checkpoint is not None
    assert result.checkpoint.path == older
    assert "model.bin has 3 bytes" in caplog.text


def test_checkpoints_come_in_index_order(new_run: Any) -> None:
    """The newest checkpoint by number is ``checkpoint``, in whatever order they were made."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}])
    for index in (10, 2, 1_000_001):
        run.checkpoint(path, index, {"index": index})
    result = Result.from_path(path)
    assert [row["index"] for _, row in result.best_checkpoints or []] == [2, 10, 1_000_001]
    assert result.checkpoint is not None
    assert result.checkpoint.path.endswith("checkpoint_1000001")
    best = result.get_best_checkpoint("index", "min")
    assert best is not None
    assert best.path.endswith("checkpoint_000002")


def test_listing_unpickles_nothing(
    new_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``error.pkl`` is opened when ``error`` is read, and not before."""
    trap = tmp_path / "sprung"
    monkeypatch.setenv("TRAP", str(trap))
    path = new_run().trial("a", [{"loss": 1.0}], status="ERROR")
    Path(path, "error.pkl").write_bytes(pickle.dumps(Trap()))
    Path(path, "error.txt").write_text("it broke")
    result = Result.from_path(path)
    assert result.metrics is not None
    assert not trap.exists()
    assert result.error == "it broke"
    assert trap.is_dir()


def test_the_error_is_the_exception_itself(new_run: Any) -> None:
    """A trial that failed for good has its exception; one whose class is unknown has the text."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}], status="ERROR")
    run.fail(path, ValueError("no good"))
    error = Result.from_path(path).error
    assert isinstance(error, ValueError)
    assert str(error) == "no good"
    Path(path, "error.pkl").write_bytes(b"cnowhere\nNothing\n.")
    assert Result.from_path(path).error == "Failure # 1\nno good\n"


def test_a_trial_that_recovered_has_no_error(new_run: Any) -> None:
    """Files of a failure that a retry made good do not make a finished trial look failed."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}], status="TERMINATED")
    run.fail(path, ValueError("the first attempt"))
    assert Result.from_path(path).error is None


def test_rows_survive_nan_and_a_torn_end(new_run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """NaN and infinities are read as numbers, and a cut-off last line does not count."""
    path = new_run().trial("a", [{"loss": math.nan, "worst": -math.inf}])
    with open(os.path.join(path, "result.json"), "a") as file:
        file.write('{"loss": 1.0, "cut')
    result = Result.from_path(path)
    assert result.metrics is not None
    assert math.isnan(result.metrics["loss"])
    assert result.metrics["worst"] == -math.inf
    assert "was cut off" in caplog.text
    assert len(result.metrics_dataframe) == 1


def test_the_last_row_of_a_long_log(tmp_path: Path) -> None:
    """Rows longer than one read from the end are put together again."""
    with open(tmp_path / "result.json", "w") as file:
        for number in range(5):
            file.write(json.dumps({"number": number, "text": "é" * 100_000}) + "\n")
    metrics = Result.from_path(tmp_path).metrics
    assert metrics is not None
    assert metrics["number"] == 4
    assert metrics["text"] == "é" * 100_000


def test_progress_csv_alone_is_enough(tmp_path: Path) -> None:
    """Without result.json the table is read, and numbers come back as numbers."""
    (tmp_path / "progress.csv").write_text(
        "loss,a/b,done,name,empty\n1.5,3,False,x,\n0.5,4,True,1_0,\n"
    )
    result = Result.from_path(tmp_path)
    assert result.metrics == {"loss": 0.5, "a/b": 4, "done": True, "name": "1_0", "empty": None}
    assert list(result.metrics_dataframe["a/b"]) == [3, 4]


def test_what_is_no_trial_directory_is_named(tmp_path: Path) -> None:
    """A missing directory and one without results are errors that name the path."""
    with pytest.raises(RuntimeError, match="nowhere"):
        Result.from_path(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match=r"neither result\.json nor progress\.csv"):
        Result.from_path(tmp_path)


def test_a_trial_that_failed_before_its_first_row(tmp_path: Path) -> None:
    """A directory with nothing but the files of a failure still gives the error."""
    (tmp_path / "error.txt").write_text("it never began")
    result = Result.from_path(tmp_path)
    assert result.error == "it never began"
    assert result.metrics == {}
    assert result.metrics_dataframe.empty


def test_get_best_checkpoint_says_what_is_wrong(new_run: Any) -> None:
    """No checkpoint, an unknown metric and a wrong mode are three clear errors."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}])
    with pytest.raises(RuntimeError, match="No checkpoint exists"):
        Result.from_path(path).get_best_checkpoint("loss", "min")
    run.checkpoint(path, 0, {"m": {"loss": 2.0}})
    run.checkpoint(path, 1, {"m": {"loss": math.nan}})
    result = Result.from_path(path)
    with pytest.raises(ValueError, match="'min' or 'max', got 'lowest'"):
        result.get_best_checkpoint("m/loss", "lowest")
    with pytest.raises(RuntimeError, match="'acc'"):
        result.get_best_checkpoint("acc", "max")
    best = result.get_best_checkpoint("m/loss", "max")
    assert best is not None
    assert best.path.endswith("000000")


def test_repr_shows_what_the_user_reported(new_run: Any) -> None:
    """Repr lists the user's metrics, path, file system, checkpoint, and an error only if any."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0, "done": True}], status="ERROR")
    assert repr(Result.from_path(path)) == (
        f"Result(\n  metrics={{'loss': 1.0}},\n  path='{path}',\n  filesystem='local',\n"
        "  checkpoint=None\n)"
    )
    run.fail(path, ValueError("no good"))
    assert "\n  error='ValueError',\n" in repr(Result.from_path(path))
    assert "<td>metrics</td>" in Result.from_path(path)._repr_html_()


def test_results_pickle_without_loading_the_frame(new_run: Any) -> None:
    """A result travels by pickle with its frame still to be read."""
    path = new_run().trial("a", [{"loss": 1.0}])
    copy = pickle.loads(pickle.dumps(Result.from_path(path)))
    assert copy.metrics["loss"] == 1.0
    assert list(copy.metrics_dataframe["loss"]) == [1.0]


def test_pandas_is_loaded_on_access_only(new_run: Any) -> None:
    """Reading a result and choosing its checkpoint imports neither pandas nor numpy."""
    run = new_run()
    path = run.trial("a", [{"loss": 1.0}])
    run.checkpoint(path, 0, {"loss": 1.0})
    code = (
        "import sys\n"
        "from milepost.tune import Result\n"
        f"result = Result.from_path({path!r})\n"
        "result.get_best_checkpoint('loss', 'min'); repr(result)\n"
        "print([m for m in ('pandas', 'numpy', 'pyarrow', 'torch') if m in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
