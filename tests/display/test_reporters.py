"""CLIReporter and JupyterNotebookReporter, as scripts configure them."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.display.reporters import CLIReporter, JupyterNotebookReporter
from milepost.testing import FakeClock


class FacadeTrial(SimpleNamespace):
    """A trial as reporters see it."""

    def __str__(self) -> str:
        return f"train_{self.trial_id}"

    def get_error(self) -> Exception | None:
        return self.error


def trial(number: int, status: str = "RUNNING", **row: Any) -> Any:
    return FacadeTrial(
        trial_id=f"{number:05d}",
        status=status,
        config={"lr": 0.1 * number, "net": {"width": 32}},
        evaluated_params={"lr": 0.1 * number},
        last_result={"training_iteration": 2, "pid": 7, **row},
        error=ValueError("bad lr") if status == "ERROR" else None,
        error_file="/results/error.txt" if status == "ERROR" else None,
    )


TRIALS = [
    trial(1, loss=0.5, extra=1),
    trial(2, "TERMINATED", loss=0.1, extra=2),
    trial(3, "ERROR", loss=float("nan")),
    trial(4, "PENDING"),
]


def printed(reporter: CLIReporter, capsys: Any, *, done: bool = True, trials: Any = TRIALS) -> str:
    reporter.report(trials, done, "Resources in use: 2/4 CPU")
    return str(capsys.readouterr().out)


def headings(out: str) -> list[str]:
    """The words of the table's heading, after the two fixed columns."""
    heading = next(line for line in out.splitlines() if line.startswith("Trial name"))
    return heading.removeprefix("Trial name").split()[1:]


def test_the_arguments_are_rays() -> None:
    """Names, order and defaults of the arguments, all by keyword."""
    arguments = inspect.signature(CLIReporter).parameters
    assert {name: p.default for name, p in arguments.items()} == {
        "metric_columns": None,
        "parameter_columns": None,
        "total_samples": None,
        "max_progress_rows": 20,
        "max_error_rows": 20,
        "max_column_length": 20,
        "max_report_frequency": 5,
        "infer_limit": 3,
        "print_intermediate_tables": None,
        "metric": None,
        "mode": None,
        "sort_by_metric": False,
    }
    assert {p.kind for p in arguments.values()} == {inspect.Parameter.KEYWORD_ONLY}
    notebook = inspect.signature(JupyterNotebookReporter).parameters
    assert list(notebook) == ["overwrite", *arguments]
    assert notebook["overwrite"].default is True


def test_columns_are_found_by_themselves(capsys: Any) -> None:
    """Known metrics, up to infer_limit reported numbers and the searched parameters are shown."""
    out = printed(CLIReporter(infer_limit=1), capsys)
    assert headings(out) == ["lr", "iter", "loss"]
    assert "Trials: 4 (1 RUNNING, 1 PENDING, 1 TERMINATED, 1 ERROR)" in out
    assert "Resources in use: 2/4 CPU" in out
    assert "/results/error.txt" in out


def test_chosen_columns_replace_found_ones(capsys: Any) -> None:
    """With columns given, only they are shown, under their headings; nested ones too."""
    reporter = CLIReporter(
        metric_columns={"loss": "Loss!"}, parameter_columns={"net/width": "width"}
    )
    reporter.add_metric_column("training_iteration", "it")
    reporter.add_parameter_column("lr", "rate")
    assert headings(printed(reporter, capsys)) == ["width", "rate", "Loss!", "it"]


def test_adding_a_metric_ends_the_finding(capsys: Any) -> None:
    """add_metric_column on the defaults keeps them and adds exactly that one."""
    reporter = CLIReporter()
    reporter.add_metric_column("extra")
    assert headings(printed(reporter, capsys)) == ["lr", "iter", "extra"]


@pytest.mark.parametrize("kind", ["metric", "parameter"])
def test_columns_that_cannot_be_added(kind: str) -> None:
    """A column twice, or a heading for a list, is an error that names the column."""
    reporter = CLIReporter(metric_columns=["loss"], parameter_columns=["loss"])
    add = getattr(reporter, f"add_{kind}_column")
    with pytest.raises(ValueError, match=r"column for the \w+ 'loss' already"):
        add("loss")
    with pytest.raises(ValueError, match="'Heading' for 'accuracy' cannot be shown"):
        add("accuracy", "Heading")


def test_the_users_list_is_not_changed() -> None:
    """Columns added to a reporter are not added to the list it was given."""
    columns = ["loss"]
    CLIReporter(metric_columns=columns).add_metric_column("accuracy")
    assert columns == ["loss"]


def test_the_best_trial_and_the_order(capsys: Any) -> None:
    """With metric and mode the best is named; sorted on request, NaN and missing scores last."""
    reporter = CLIReporter(metric="loss", mode="min", sort_by_metric=True)
    lines = printed(reporter, capsys).splitlines()
    assert "Best so far: train_00002, loss=0.1 with lr=0.2" in lines
    names = [line.split()[0] for line in lines if line.startswith("train_")]
    assert names[:4] == ["train_00002", "train_00001", "train_00003", "train_00004"]


def test_metric_and_mode_come_from_one_place() -> None:
    """Given twice they are an error that names both values; given once they are used."""
    reporter = CLIReporter(metric="loss", mode="min")
    with pytest.raises(ValueError, match="metric='loss', and TuneConfig has metric='accuracy'"):
        reporter.setup(metric="accuracy")
    with pytest.raises(ValueError, match="mode='min', and TuneConfig has mode='max'"):
        reporter.setup(mode="max")


def test_sorting_without_a_metric_warns() -> None:
    """An option that has no effect is not silent."""
    with pytest.warns(UserWarning, match="sort_by_metric=True has no effect"):
        CLIReporter(sort_by_metric=True).setup()


def test_long_tables_are_cut_until_the_end(capsys: Any) -> None:
    """max_progress_rows limits tables on the way, the last one is whole."""
    trials = [trial(i) for i in range(5)]
    reporter = CLIReporter(max_progress_rows=2)
    underway = printed(reporter, capsys, done=False, trials=trials)
    assert underway.count("train_0") == 2
    assert "... and 3 more" in underway
    assert printed(reporter, capsys, trials=trials).count("train_0") == 5
    quiet = CLIReporter(print_intermediate_tables=False)
    assert "train_0" not in printed(quiet, capsys, done=False, trials=trials)


def test_long_cells_are_cut(capsys: Any) -> None:
    """max_column_length holds for headings and values, not for the names of trials."""
    one = trial(1, a_very_long_metric_name=1.0)
    out = printed(CLIReporter(max_column_length=8), capsys, trials=[one])
    assert "a_very_…" in out
    assert "train_00001" in out


def test_reports_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """max_report_frequency seconds lie between reports; the last one always comes."""
    clock = FakeClock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    reporter = CLIReporter(max_report_frequency=5)
    assert reporter.should_report([])
    clock.advance(4)
    assert not reporter.should_report([])
    assert reporter.should_report([], done=True)
    clock.advance(6)
    assert reporter.should_report([])


def test_the_notebook_reporter_updates_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables replace each other; outside a notebook it warns."""
    import IPython.display

    shown: list[str] = []

    def display(table: Any, display_id: bool) -> Any:
        shown.append(table.data)
        return SimpleNamespace(update=lambda later: shown.append(later.data))

    monkeypatch.setattr(IPython.display, "display", display)
    with pytest.warns(UserWarning, match="outside a notebook"):
        reporter = JupyterNotebookReporter(metric="loss", mode="min")
    reporter.report(TRIALS, False, "<Resources>")
    reporter.report(TRIALS, True)
    assert len(shown) == 2
    assert "&lt;Resources&gt;" in shown[0]
    assert "<td>train_00002</td>" in shown[1]
