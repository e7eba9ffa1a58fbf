"""Whether code has changed is told from the code alone, in every process alike."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune.fingerprint import code_of

SCRIPT = """
    import functools
    from milepost import tune

    RATE = 3

    def scaled(x, by=2):
        return x * by

    def helper(x):
        names = {"a", "b", "c"}
        return scaled(x) if x in names else None

    def train(config, *, extra=("x", 1.5)):
        '''Train.'''
        def inner(y):
            return helper(y) + RATE
        return [inner(k) for k in config]

    class Model(tune.Trainable):
        '''A model.'''

        limit = 7

        def setup(self, config):
            self.x = 0

        @property
        def twice(self):
            return 2 * self.x

        @staticmethod
        def shift(x):
            return x + 1

        def step(self):
            self.x = self.shift(self.x)
            return {"x": self.twice}
"""


def load(code: str, path: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "script"}
    exec(compile(textwrap.dedent(code), str(path), "exec"), namespace)
    return namespace


def digests(code: str, path: Path = Path("script.py")) -> tuple[str, str]:
    script = load(code, path)
    return code_of(script["train"])["digest"], code_of(script["Model"])["digest"]


def test_the_same_code_elsewhere() -> None:
    """Other lines, another file, other comments and another docstring change nothing."""
    moved = "\n\n# a comment\n" + textwrap.dedent(SCRIPT).replace("'''Train.'''", "'''Trains.'''")
    assert digests(moved, Path("/elsewhere/other.py")) == digests(SCRIPT)


@pytest.mark.parametrize(
    ("old", "new", "functions", "classes"),
    [
        ("helper(y) + RATE", "helper(y) - RATE", True, False),
        ("helper(y) + RATE", "helper(y) + LIMIT", True, False),
        ('{"a", "b", "c"}', '{"a", "b", "d"}', True, False),
        ('("x", 1.5)', '("x", 2.5)', True, False),
        ("x * by", "x + by", True, False),
        ("by=2", "by=3", True, False),
        ("2 * self.x", "3 * self.x", False, True),
        ("return x + 1", "return x + 2", False, True),
        ("limit = 7", "limit = 8", False, True),
        ("self.x = 0", "self.x = 0.0", False, True),
        ("def shift(x)", "def shifted(x)", False, True),
    ],
)
def test_other_code(old: str, new: str, functions: bool, classes: bool) -> None:
    """A change in a function, in what it calls in its module, in a constant or a method counts."""
    assert old in SCRIPT
    before, after = digests(SCRIPT), digests(SCRIPT.replace(old, new))
    assert (before[0] != after[0], before[1] != after[1]) == (functions, classes)


def test_every_process_gives_the_same(tmp_path: Path) -> None:
    """Hashes of strings, addresses and the order of sets differ, the digest does not."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(SCRIPT)
        + "\nfrom milepost.tune.fingerprint import code_of\n"
        + "print(code_of(train)['digest'], code_of(Model)['digest'])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, str(script)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1


def plain(config: dict[str, Any], size: int = 1) -> None:
    """Do nothing."""


def recursive(config: dict[str, Any]) -> Any:
    return recursive({**config, "less": config["less"] - 1}) if config["less"] else None


def test_wrappers_change_the_code_only_where_they_say_so() -> None:
    """Resources and data are no code; an argument of a partial is."""
    bare = code_of(plain)["digest"]
    assert code_of(tune.with_parameters(plain, size=[1, 2]))["digest"] == bare
    one, two = functools.partial(plain, size=1), functools.partial(plain, size=2)
    assert len({bare, code_of(one)["digest"], code_of(two)["digest"]}) == 3

    class Model(tune.Trainable):
        """Has a size."""

        def setup(self, config: dict[str, Any], size: int = 0) -> None:
            self.size = size

    bare = code_of(Model)["digest"]
    assert code_of(tune.with_resources(Model, {"cpu": 2}))["digest"] == bare
    assert code_of(tune.with_parameters(Model, size=3))["digest"] == bare


def test_what_refers_to_itself_has_an_end() -> None:
    """Recursion, also through a closure, does not go on for ever."""

    def ping(config: dict[str, Any]) -> Any:
        return pong(config)

    def pong(config: dict[str, Any]) -> Any:
        return ping(config)

    assert code_of(recursive)["digest"] != code_of(ping)["digest"]


def test_file_and_line_of_the_users_code() -> None:
    """The place is that of the user's function, inside of all wrappers."""
    line = plain.__code__.co_firstlineno
    for wrapped in (plain, functools.partial(plain, size=2), tune.with_parameters(plain, size=2)):
        assert code_of(wrapped)["where"] == f"{__file__}:{line}"

    class Model(tune.Trainable):
        """Has one method."""

        def step(self) -> dict[str, Any]:
            return {}

    line = Model.step.__code__.co_firstlineno
    assert code_of(tune.with_resources(Model, {"cpu": 1}))["where"] == f"{__file__}:{line}"
    assert code_of(print)["where"] == ""
