"""What can be imported from ``milepost.testing``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from milepost import testing


def test_every_name_is_there() -> None:
    """All names can be imported from the package, and are documented."""
    assert dir(testing) == sorted(testing.__all__)
    for name in testing.__all__:
        assert getattr(testing, name).__doc__


def test_a_name_that_is_not_there() -> None:
    """The error lists those that are."""
    with pytest.raises(AttributeError, match=r"no attribute 'FakeClok'; it has .*FakeClock"):
        testing.FakeClok  # noqa: B018 - reading it is the test


def test_importing_it_costs_nothing() -> None:
    """Neither pytest nor anything of Milepost is loaded before a name is used."""
    code = (
        "import sys; import milepost.testing; "
        "print([m for m in sys.modules if m in ('pytest', 'hypothesis', 'msgspec')], "
        "[m for m in sys.modules if m.startswith('milepost.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['milepost.testing']"
