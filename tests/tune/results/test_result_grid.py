from __future__ import annotations

import math
from typing import Any

import pytest

from milepost.tune import ExperimentAnalysis, ResultGrid


def grid_of(run: Any, **defaults: Any) -> ResultGrid:
    return ResultGrid(ExperimentAnalysis(run.path, **defaults))


@pytest.fixture
def three(new_run: Any) -> Any:
    """Three trials whose best differs by scope."""
    run = new_run()
    run.trial("a", [{"loss": 1.0}, {"loss": 9.0}], config={"lr": 1})
    run.trial("b", [{"loss": 3.0}, {"loss": 3.0}], config={"lr": 2})
    run.trial("c", [{"loss": 8.0}, {"loss": 2.0}], config={"lr": 3}, status="ERROR")
    return run


def test_a_grid_is_a_sequence_of_results(three: Any) -> None:
    """Length, positions, slices and iteration give results in the order of creation."""
    grid = grid_of(three)
    assert len(grid) == 3
    assert [r.config["lr"] for r in grid] == [1, 2, 3]  # type: ignore[index]
    assert grid[-1].config == {"lr": 3}
    assert [r.config["lr"] for r in grid[1:]] == [2, 3]  # type: ignore[index]
    first = grid[0]
    assert grid[0] is first
    with pytest.raises(IndexError):
        grid[3]


@pytest.mark.parametrize(
    ("scope", "mode", "best"),
    [
        ("last", "min", 3),
        ("last", "max", 1),
        ("all", "min", 1),
        ("all", "max", 1),
        ("avg", "min", 2),
        ("last-5-avg", "max", 1),
        ("last-10-avg", "min", 2),
    ],
)
def test_the_best_result_by_scope(three: Any, scope: str, mode: str, best: int) -> None:
    """Each scope compares the value it names; failed trials take part."""
    assert grid_of(three).get_best_result("loss", mode, scope).config == {"lr": best}


def test_the_runs_own_metric_is_the_default(three: Any) -> None:
    """Metric and mode of the run count when none are passed; passed ones win."""
    grid = grid_of(three, default_metric="loss", default_mode="min")
    assert grid.get_best_result().config == {"lr": 3}
    assert grid.get_best_result(mode="max").config == {"lr": 1}


def test_ties_go_to_the_first_and_nan_never_wins(new_run: Any) -> None:
    """Of equal trials the first is the best; NaN and infinities count only when asked for."""
    run = new_run()
    run.trial("n", [{"loss": math.nan}], config={"k": 0})
    run.trial("i", [{"loss": -math.inf}], config={"k": 1})
    run.trial("x", [{"loss": 2.0}], config={"k": 2})
    run.trial("y", [{"loss": 2}], config={"k": 3})
    run.trial("z", [{"other": 1}], config={"k": 4})
    grid = grid_of(run)
    assert grid.get_best_result("loss", "min").config == {"k": 2}
    assert grid.get_best_result("loss", "min", filter_nan_and_inf=False).config == {"k": 1}
    assert grid.get_best_result("loss", "max", filter_nan_and_inf=False).config == {"k": 2}


def test_nested_metrics_have_flat_names(new_run: Any) -> None:
    """``a/b`` names a nested metric."""
    run = new_run()
    run.trial("a", [{"val": {"acc": 0.5}}], config={"k": 0})
    run.trial("b", [{"val": {"acc": 0.7}}], config={"k": 1})
    assert grid_of(run).get_best_result("val/acc", "max").config == {"k": 1}


def test_a_single_trial_is_the_best_whatever_it_reported(new_run: Any) -> None:
    """With one trial neither metric nor mode is needed."""
    run = new_run()
    run.trial("a", [], config={"k": 0}, status="ERROR")
    assert grid_of(run).get_best_result().path.endswith("train_a")


def test_errors_name_what_is_missing(three: Any) -> None:
    """No metric, an unknown scope or mode, and a misspelt metric are clear errors."""
    grid = grid_of(three)
    with pytest.raises(ValueError, match="No metric and mode"):
        grid.get_best_result()
    with pytest.raises(ValueError, match="No mode"):
        grid.get_best_result("loss")
    with pytest.raises(ValueError, match=r"'lats'.*'last'"):
        grid.get_best_result("loss", "min", "lats")
    with pytest.raises(ValueError, match="'lowest'"):
        grid.get_best_result("loss", "lowest")
    with pytest.raises(RuntimeError, match=r"'los'.*Did you mean 'loss'"):
        grid.get_best_result("los", "min")


def test_only_nan_is_said_so(new_run: Any) -> None:
    """When every value is NaN the error says that and how to let them count."""
    run = new_run()
    run.trial("a", [{"loss": math.nan}])
    run.trial("b", [{"loss": math.inf}])
    with pytest.raises(RuntimeError, match=r"2 of 2 trials .* filter_nan_and_inf=False"):
        grid_of(run).get_best_result("loss", "min")


def test_counts_and_errors(three: Any) -> None:
    """Failed trials are counted, and their errors listed."""
    three.fail(f"{three.path}/train_c", KeyError("gone"))
    grid = grid_of(three)
    assert (grid.num_errors, grid.num_terminated) == (1, 2)
    assert [type(e) for e in grid.errors] == [KeyError]
    assert grid[0].error is None
    assert grid.experiment_path == three.path
    assert grid.filesystem.type_name == "local"


def test_dataframe_of_last_or_best_rows(three: Any) -> None:
    """One row per trial: its last one, or the one with the best value of a metric."""
    grid = grid_of(three)
    last = grid.get_dataframe()
    assert list(last["loss"]) == [9.0, 3.0, 2.0]
    assert list(last["config/lr"]) == [1, 2, 3]
    assert list(last["logdir"]) == [r.path for r in grid]
    best = grid.get_dataframe("loss", "min")
    assert list(best["loss"]) == [1.0, 3.0, 2.0]
    assert list(best["training_iteration"]) == [1, 1, 2]
    with pytest.raises(ValueError, match="needs a metric"):
        grid.get_dataframe(filter_mode="min")
    with pytest.raises(ValueError, match="'min' or 'max'"):
        grid.get_dataframe(filter_metric="loss")


def test_trials_that_never_reported_are_not_in_the_dataframe(new_run: Any) -> None:
    """A trial without rows has a result, and no line in the frame."""
    run = new_run()
    run.trial("a", [])
    run.trial("b", [{"loss": 1.0}])
    grid = grid_of(run)
    assert len(grid.get_dataframe()) == 1
    assert grid[0].metrics == {"trial_id": "a"}
    assert grid[0].metrics_dataframe.empty


def test_best_checkpoints_are_ranked_and_limited(new_run: Any) -> None:
    """The best checkpoint is last, at most num_to_keep are listed, the latest is apart."""
    run = new_run(
        checkpoint_config={
            "num_to_keep": 2,
            "checkpoint_score_attribute": "m/acc",
            "checkpoint_score_order": "max",
        }
    )
    path = run.trial("a", [{"m": {"acc": 1.0}}], config={"lr": 1})
    for index, acc in enumerate([3.0, 5.0, 1.0]):
        run.checkpoint(path, index, {"m": {"acc": acc}})
    (result,) = grid_of(run)
    assert [(c.path[-1], row["m"]["acc"]) for c, row in result.best_checkpoints or []] == [
        ("0", 3.0),
        ("1", 5.0),
    ]
    assert all(row["config"] == {"lr": 1} for _, row in result.best_checkpoints or [])
    assert result.checkpoint is not None
    assert result.checkpoint.path.endswith("checkpoint_000002")


def test_what_the_journal_lets_go_is_not_listed(new_run: Any) -> None:
    """A checkpoint that may be deleted any moment is not handed out."""
    from milepost.journal import records as rec

    run = new_run()
    path = run.trial("a", [{"loss": 1.0}])
    run.checkpoint(path, 0, {})
    run.checkpoint(path, 1, {})
    run.journal.append(rec.Deleting(at=3.0, trial="a", index=0, reason="not kept"))
    (result,) = grid_of(run)
    assert [c.path[-1] for c, _ in result.best_checkpoints or []] == ["1"]


def test_repr_and_html(three: Any) -> None:
    """Repr lists results; the notebook table has searched variables and reported metrics."""
    grid = grid_of(three)
    assert repr(grid).startswith("ResultGrid<[\n  Result(\n    metrics={'loss': 9.0},")
    assert repr(grid).endswith("\n  )\n]>")
    html = grid._repr_html_()
    assert "3 trials, 1 errors" in html
    assert "<th>lr</th>" in html
    assert "<td>train_c</td><td>ERROR</td><td>3</td><td>2</td><td>2</td>" in html


def test_markup_in_values_is_escaped(new_run: Any) -> None:
    """A metric that holds markup is shown, not run."""
    run = new_run()
    run.trial("a", [{"note": "<script>alert(1)</script>"}])
    assert "<script>" not in grid_of(run)._repr_html_()


def test_large_grids_show_a_part(new_run: Any) -> None:
    """Repr and table of a large grid stay short and say how many they leave out."""
    run = new_run()
    for number in range(60):
        run.trial(f"t{number}", [{"loss": 1.0}], log=False)
    grid = grid_of(run)
    assert "... 10 more" in repr(grid)
    assert "(the first 50)" in grid._repr_html_()


def test_without_log_files_the_last_row_counts(new_run: Any) -> None:
    """When no result files were written, the journal's last row still ranks trials."""
    run = new_run()
    run.trial("a", [{"loss": 2.0}], config={"k": 0}, log=False)
    run.trial("b", [{"loss": 1.0}], config={"k": 1}, log=False)
    assert grid_of(run).get_best_result("loss", "min").config == {"k": 1}
