"""What is shown of a run, the same on all surfaces."""

from __future__ import annotations

from html.parser import HTMLParser
from types import MappingProxyType
from typing import Any

from milepost.display import html, text
from milepost.display.picture import final_picture, live_picture
from milepost.display.table import Table


def column(of: Table, title: str) -> list[str]:
    at = [c.title for c in of.columns].index(title)
    return [row[at] for row in of.rows]


def test_the_facts_of_a_run(view: Any) -> None:
    """Counts, resources, checkpoints with their pending commits, and the best trial are told."""
    shown = live_picture(view, max_rows=10)
    assert shown.title == "digits: 2 of 8 trials ended, 3.0 s"
    assert dict(shown.facts) == {
        "Trials": "2 running, 1 ended, 1 failed",
        "Resources": "2/4 CPU",
        "Checkpoints": "12 committed (3.0 MiB), 1 on the way",
        "Best": "accuracy=0.97 by train_1a2b3_00002 at iteration 9 (lr=0.01)",
    }


def test_running_trials_have_parameters_and_metrics(view: Any) -> None:
    """A row tells parameters, iteration, time, metrics (nested ones too) and the checkpoint."""
    shown = live_picture(view, max_rows=10).trials
    assert column(shown, "trial") == ["train_1a2b3_00000", "train_1a2b3_00001"]
    assert column(shown, "lr") == ["0.01", "0.01"]
    assert column(shown, "iter") == ["3", "3"]
    assert column(shown, "accuracy") == ["0.93", "0.93"]
    assert column(shown, "eval/loss") == ["0.25", "0.25"]
    assert column(shown, "checkpoint") == ["000002", "000002"]


def test_fields_that_every_row_has_are_no_columns(view: Any) -> None:
    """Only what the user reports is a metric."""
    view.running[0].row.update(
        pid=7, hostname="h", timestamp=1, perf={"cpu": 3.0}, config={"momentum": 0.5}, done=False
    )
    titles = [c.title for c in live_picture(view, max_rows=10).trials.columns]
    assert titles == [
        "trial",
        "status",
        "lr",
        "iter",
        "time",
        "accuracy",
        "eval/loss",
        "checkpoint",
    ]


def test_rows_beyond_the_limit_are_counted(view: Any) -> None:
    """A long table says how much it leaves out."""
    shown = live_picture(view, max_rows=1).trials
    assert (len(shown.rows), shown.more) == (1, 1)


def test_the_end_lists_all_trials_and_why_some_failed(view: Any) -> None:
    """At the end running, ended and failed trials stand in one table, errors in a second."""
    shown = final_picture(view)
    assert column(shown.trials, "status") == ["running", "running", "ended", "failed"]
    assert column(shown.errors, "error") == ["ValueError: lr is too large"]


def test_no_fewer_than_none_are_left_out(view: Any) -> None:
    """A restore that failed before it had taken its trials in shows them all the same."""

    class Early(type(view)):  # type: ignore[misc]
        counts = MappingProxyType[str, int]({})

    early = Early(running=view.running, ended=view.ended)
    assert final_picture(early).trials.more == 0


def test_a_run_that_has_not_begun_can_be_drawn(make_view: Any) -> None:
    """No trial, no metric, no total: nothing is missing but what is not there."""
    empty = make_view(metric=None, mode=None, total=None, resources_used={}, resources_total={})
    shown = live_picture(empty, max_rows=10)
    assert shown.title == "digits: 0 trials ended, 3.0 s"
    assert shown.facts == ()
    assert text.render(shown, width=80) == "digits: 0 trials ended, 3.0 s\n"


def test_text_is_aligned_and_no_wider_than_asked(view: Any) -> None:
    """Numbers stand to the right under their headings, and narrow tables drop columns."""
    lines = text.render(final_picture(view), width=44).splitlines()
    start = lines.index("trial              iter  accuracy  eval/loss")
    assert lines[start + 1] == "-----------------  ----  --------  ---------"
    assert lines[start + 2] == "train_1a2b3_00000     3      0.93       0.25"
    assert max(len(line) for line in lines[start:]) <= 44


class Cells(HTMLParser):
    """Collects the text of a document, and refuses tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)


def test_html_is_well_formed_and_escaped(view: Any) -> None:
    """User's texts cannot become markup."""
    view.name = "<script>alert(1)</script>"
    view.running[0].evaluated["lr"] = "<b>&"
    document = html.render(final_picture(view))
    cells = Cells()
    cells.feed(document)
    assert cells.open == []
    assert "<b>&" in cells.said
    assert "<script>" not in document
    assert "ValueError: lr is too large" in cells.said
