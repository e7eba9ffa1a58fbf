"""Nested dicts and their flat form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.api.nested import (
    deep_update,
    flatten_dict,
    merge_dicts,
    unflatten_dict,
    unflatten_list_dict,
    unflattened_lookup,
)

FLAT = [
    ({}, {}, {}),
    ({"a": {"b": 1, "c": {}}, "d": 2}, {}, {"d": 2, "a/b": 1}),
    ({3: 4, "f": {5: 6}}, {}, {3: 4, "f/5": 6}),
    ({"a": [1, {"b": 2}]}, {}, {"a": [1, {"b": 2}]}),
    ({"a": [1, {"b": 2}, [3]]}, {"flatten_list": True}, {"a/0": 1, "a/1/b": 2, "a/2/0": 3}),
    ({"a": {"b": 1}}, {"delimiter": "."}, {"a.b": 1}),
]


@pytest.mark.parametrize(("nested", "options", "flat"), FLAT)
def test_flatten(nested: dict[Any, Any], options: dict[str, Any], flat: dict[Any, Any]) -> None:
    """Empty dicts vanish, lists stay values, inner keys become text and top keys stay."""
    result = flatten_dict(nested, **options)
    assert result == flat
    assert list(result) == list(flat)


@pytest.mark.parametrize("nested", [{"a/b": 1}, {"a": {"c/d": 1}}, {"a/b": {"c": 1}}])
def test_flatten_refuses_the_delimiter(nested: dict[str, Any]) -> None:
    """A key with a slash is an error when that is asked for."""
    with pytest.raises(ValueError, match="contains '/'"):
        flatten_dict(nested, prevent_delimiter=True)


KEYS = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1), max_leaves=10
    ),
)


@given(TREES)
def test_flatten_and_back(tree: dict[str, Any]) -> None:
    """Unflattening undoes flattening, and the argument is never changed."""
    before = repr(tree)
    assert unflatten_dict(flatten_dict(tree)) == tree
    assert repr(tree) == before


def test_unflatten_a_contradiction() -> None:
    """A key cannot be a value and a parent."""
    with pytest.raises(TypeError, match="'a' is a value already"):
        unflatten_dict({"a": 1, "a/b": 2})


def test_unflatten_lists() -> None:
    """Keys 0, 1, 2 ... make a list."""
    flat = {"a/0": 1, "a/1": 2, "b/c": 3, "d/1": 4}
    assert unflatten_list_dict(flat) == {"a": [1, 2], "b": {"c": 3}, "d": {"1": 4}}
    assert unflatten_list_dict({"0": "x", "1": "y"}) == ["x", "y"]


LOOKUPS = [
    ("a/0/b", {"a": [{"b": 5}]}, 5),
    ("a/b", {"a/b": 1, "a": {"b": 2}}, 1),
    ("a", {"a": {"b": 2}}, {"b": 2}),
]


@pytest.mark.parametrize(("key", "tree", "value"), LOOKUPS)
def test_lookup(key: str, tree: dict[str, Any], value: Any) -> None:
    """The literal key comes first, then the path."""
    assert unflattened_lookup(key, tree) == value


def test_lookup_of_what_is_not_there() -> None:
    """A default is used only for keys; a position that a list lacks is an error."""
    assert unflattened_lookup("a/x", {"a": {"b": 1}}, default=9) == 9
    assert unflattened_lookup("a/x", {"a": 1}, default=None) is None
    with pytest.raises(KeyError, match="a/x"):
        unflattened_lookup("a/x", {"a": {"b": 1}})
    with pytest.raises(IndexError):
        unflattened_lookup("a/5", {"a": [1]})


def test_merge() -> None:
    """The second wins, level by level, and neither is changed."""
    one, two = {"a": {"b": 1}, "x": 1}, {"a": {"c": [2]}, "x": {"y": 3}}
    merged = merge_dicts(one, two)
    assert merged == {"a": {"b": 1, "c": [2]}, "x": {"y": 3}}
    assert one == {"a": {"b": 1}, "x": 1}


def test_deep_update_of_unknown_keys() -> None:
    """New keys are refused unless they are allowed, everywhere or below some keys."""
    with pytest.raises(KeyError, match="'c'"):
        deep_update({"a": {"b": 1}}, {"a": {"c": 2}})
    assert deep_update({"a": {"b": 1}}, {"a": {"c": 2}}, False, ["a"]) == {"a": {"b": 1, "c": 2}}
    assert deep_update({"a": 1}, {"n": 1}, new_keys_allowed=True) == {"a": 1, "n": 1}


def test_deep_update_that_replaces() -> None:
    """A dict whose type changes, or that is listed, is replaced as a whole."""
    old = {"a": {"type": "x", "b": 1}}
    new = {"a": {"type": "y", "c": 1}}
    assert deep_update(old, new, override_all_if_type_changes=["a"]) == new
    assert deep_update({"a": {"b": 1}}, {"a": {"c": 2}}, override_all_key_list=["a"]) == {
        "a": {"c": 2}
    }
