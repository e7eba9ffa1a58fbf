"""Scripts without a guard, and everything else that a trainable may come from."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

TRAIN = """
from milepost import tune

print("MAIN RUNS")

def train(config):
    tune.report({"loss": config["x"] ** 2})

grid = tune.Tuner(train, param_space={"x": tune.grid_search([3, 1, 2])}).fit()
print("BEST", grid.get_best_result("loss", "min").config["x"], grid.num_errors)
"""


def assert_ran_once(out: str) -> None:
    """The best was found, and the user's module ran in the driver and nowhere else."""
    assert "BEST 1 0" in out
    assert out.count("MAIN RUNS") == 1


def test_a_script_without_a_guard(place: Any) -> None:
    """No ``if __name__ == "__main__"`` is needed; workers never run the script again."""
    assert_ran_once(place.script(TRAIN))


def test_python_dash_c(place: Any) -> None:
    """Code given on the command line runs."""
    assert_ran_once(place.run("-c", TRAIN))


def test_standard_input(place: Any) -> None:
    """Code read from standard input runs."""
    assert_ran_once(place.run("-", given=TRAIN))


def test_python_dash_m(place: Any) -> None:
    """A module of a package run with -m finds its relative imports in the driver."""
    place.write("", "package/__init__.py")
    place.write("OFFSET = 0\n", "package/settings.py")
    place.write("from .settings import OFFSET\n" + TRAIN, "package/tune_it.py")
    assert_ran_once(place.run("-m", "package.tune_it"))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_of_multiprocessing(place: Any, method: str) -> None:
    """A fit in a process that multiprocessing has started, which knows its script by another name.

    What the script defines travels to workers and back: function, values of the config, errors.
    """
    out = place.script(
        f"""
        import multiprocessing
        from milepost import tune

        class Point:
            def __init__(self, x):
                self.x = x

        class OwnError(Exception):
            pass

        class Stepper(tune.Trainable):
            def step(self):
                return {{"a": self.config["n"], "done": True}}

        def train(config):
            tune.report({{"a": config["point"].x}})
            if config["n"] == 2:
                raise OwnError("two")

        def fit():
            grid = tune.Tuner(
                train, param_space={{"point": Point(7), "n": tune.grid_search([1, 2])}}
            ).fit()
            print("ROWS", [result.metrics["a"] for result in grid])
            print("ERRORS", [isinstance(error, OwnError) for error in grid.errors])
            (result,) = tune.Tuner(Stepper, param_space={{"n": 3}}).fit()
            print("CLASS", result.metrics["a"], result.error)

        if __name__ == "__main__":
            child = multiprocessing.get_context("{method}").Process(target=fit)
            child.start()
            child.join()
            print("CODE", child.exitcode)
        """
    )
    assert "ROWS [7, 7]" in out
    assert "ERRORS [True]" in out
    assert "CLASS 3 None" in out
    assert "CODE 0" in out


def test_a_function_of_an_imported_module(place: Any) -> None:
    """A trainable in a module beside the script is imported by workers from there."""
    place.write(
        """
        from milepost import tune

        SCALE = 10

        def train(config):
            tune.report({"loss": config["x"] * SCALE})
        """,
        "model_code.py",
    )
    out = place.script(
        """
        from milepost import tune
        import model_code

        grid = tune.Tuner(model_code.train, param_space={"x": 4}).fit()
        print("LOSS", grid[0].metrics["loss"])
        """
    )
    assert "LOSS 40" in out


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("verbose", [0, 2])
def test_closed_streams(place: Any, closed: str, verbose: int) -> None:
    """Without standard streams, as under some daemons, the run goes on and no file takes the noise.

    What a library prints to descriptors 1 and 2 must not land in a file that has their number.
    """
    script = place.write(
        f"""
        import json, os, sys
        from milepost import tune

        class Noise(tune.Callback):
            def on_trial_result(self, **info):
                os.write(1, b"noise")
                os.write(2, b"noise")

        def train(config):
            print("from a worker")
            print("trouble in a worker", file=sys.stderr)
            tune.report({{"loss": config["x"]}})

        grid = tune.Tuner(
            train,
            param_space={{"x": tune.grid_search([1, 2])}},
            run_config=tune.RunConfig(verbose={verbose}, callbacks=[Noise()]),
        ).fit()
        again = tune.ResultGrid(tune.ExperimentAnalysis(grid.experiment_path))
        with open("found.json", "w") as file:
            json.dump([[result.metrics["loss"] for result in g] for g in (grid, again)], file)
        """
    )
    place.run(
        "-c", f"import os; os.execv('/bin/sh', ['sh', '-c', '{sys.executable} {script} {closed}'])"
    )
    assert json.loads((place.path / "found.json").read_text()) == [[1, 2], [1, 2]]


MAKERS = {
    "closure": """
        def outer(factor):
            def train(config):
                tune.report({"y": config["x"] * factor})
            return train
        trainable = outer(10)
    """,
    "lambda": """
        factor = 10
        trainable = lambda config: {"y": config["x"] * factor}
    """,
    "partial": """
        import functools
        def train(config, factor):
            tune.report({"y": config["x"] * factor})
        trainable = functools.partial(train, factor=10)
    """,
    "callable object": """
        class Train:
            def __init__(self, factor):
                self.factor = factor
            def __call__(self, config):
                tune.report({"y": config["x"] * self.factor})
        trainable = Train(10)
    """,
    "bound method": """
        class Model:
            factor = 10
            def train(self, config):
                tune.report({"y": config["x"] * self.factor})
        trainable = Model().train
    """,
    "with_parameters": """
        import numpy
        def train(config, data):
            tune.report({"y": config["x"] * int(data[12345])})
        trainable = tune.with_parameters(train, data=numpy.full(1_000_000, 10))
    """,
    "class with_parameters": """
        class Train(tune.Trainable):
            def setup(self, config, factor):
                self.y = config["x"] * factor
            def step(self):
                return {"y": self.y, "done": True}
        trainable = tune.with_parameters(Train, factor=10)
    """,
    "registered": """
        def train(config):
            tune.report({"y": config["x"] * 10})
        tune.register_trainable("mine", train)
        trainable = "mine"
    """,
    "generator": """
        def trainable(config):
            yield {"y": config["x"]}
            yield {"y": config["x"] * 10}
    """,
    "dataclass of the script": """
        import dataclasses
        @dataclasses.dataclass
        class Settings:
            factor: int
        settings = Settings(10)
        def trainable(config):
            assert isinstance(settings, Settings)
            return config["x"] * settings.factor
    """,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_kinds_of_trainables(place: Any, kind: str) -> None:
    """Each kind of trainable runs in a worker and its result comes back."""
    out = place.script(
        f"""
        from milepost import tune
        {MAKERS[kind]}
        grid = tune.Tuner(trainable, param_space={{"x": tune.grid_search([1, 2])}}).fit()
        print("Y", [r.metrics.get("y", r.metrics.get("_metric")) for r in grid], grid.errors)
        """
    )
    assert "Y [10, 20] []" in out


def test_large_parameters_are_shared_and_private(place: Any) -> None:
    """An array of with_parameters is not copied per trial, and a change stays in its trial."""
    out = place.script(
        """
        import numpy
        from milepost import tune

        def own_kb():
            lines = open("/proc/self/smaps_rollup").read().split("\\n")
            return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

        def train(config, data):
            total = int(data.sum())
            grew = own_kb()
            data[:10] = 99
            tune.report({"total": total, "grew_kb": grew})

        data = numpy.ones(8_000_000)
        grid = tune.Tuner(
            tune.with_parameters(train, data=data),
            param_space={"x": tune.grid_search([1, 2, 3])},
            tune_config=tune.TuneConfig(max_concurrent_trials=1),
        ).fit()
        print("TOTALS", [r.metrics["total"] for r in grid], data[0])
        print("GREW", max(r.metrics["grew_kb"] for r in grid) < 40_000)
        """
    )
    assert "TOTALS [8000000, 8000000, 8000000] 1.0" in out
    assert "GREW True" in out


def test_notebook_functions(place: Any) -> None:
    """Functions defined in cells of an IPython session run."""
    pytest.importorskip("IPython")
    code = "\n".join(
        [
            "from IPython.core.interactiveshell import InteractiveShell",
            "shell = InteractiveShell.instance()",
            "shell.run_cell('from milepost import tune\\nfactor = 10')",
            'shell.run_cell(\'def train(config): tune.report({"y": config["x"] * factor})\')',
            "shell.run_cell('grid = tune.Tuner(train, param_space={\"x\": 3}).fit()')",
            'shell.run_cell(\'print("Y", grid[0].metrics["y"])\').raise_error()',
        ]
    )
    assert "Y 30" in place.script(code)


def test_the_working_directory_and_environment_of_a_trial(place: Any) -> None:
    """A trial works in its own directory, knows the driver's, and its files stay."""
    out = place.script(
        """
        import os
        from milepost import tune

        def train(config):
            open("artifact.txt", "w").write("kept")
            tune.report({
                "cwd": os.getcwd(),
                "origin": os.environ["TUNE_ORIG_WORKING_DIR"],
                "threads": os.environ["OMP_NUM_THREADS"],
            })

        grid = tune.Tuner(train).fit()
        m = grid[0].metrics
        print("OWN", m["cwd"] == grid[0].path, m["origin"] == os.getcwd(), m["threads"])
        print("KEPT", open(os.path.join(grid[0].path, "artifact.txt")).read())
        """
    )
    assert "OWN True True 1" in out
    assert "KEPT kept" in out


def test_staying_in_the_drivers_directory(place: Any) -> None:
    """RAY_CHDIR_TO_TRIAL_DIR=0 leaves trials where the driver is."""
    place.env["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    out = place.script(
        """
        import os
        from milepost import tune

        grid = tune.Tuner(lambda config: tune.report({"cwd": os.getcwd()})).fit()
        print("SAME", grid[0].metrics["cwd"] == os.getcwd())
        """
    )
    assert "SAME True" in out


def test_output_is_kept_and_shown(place: Any) -> None:
    """What a trial prints is shown with its name, and kept when log_to_file is set."""
    out = place.script(
        """
        import os, sys
        from milepost import tune

        def train(config):
            print("hello from the trial")
            print("a complaint", file=sys.stderr)
            tune.report({"x": 1})

        grid = tune.Tuner(train, run_config=tune.RunConfig(log_to_file=True)).fit()
        for name in ("stdout", "stderr"):
            print(name.upper(), open(os.path.join(grid[0].path, name)).read().strip())
        """
    )
    assert "STDOUT hello from the trial" in out
    assert "STDERR a complaint" in out
    (shown,) = [
        line for line in out.splitlines() if "hello" in line and not line.startswith("STDOUT")
    ]
    assert "train_" in shown


def test_the_readmes_way_of_installing_is_enough(place: Any) -> None:
    """The package imports from any directory without the source tree."""
    done = subprocess.run(
        [sys.executable, "-c", "import milepost.tune as t; print(t.Tuner.__name__)"],
        cwd=place.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Tuner\n"
