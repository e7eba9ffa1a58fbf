"""A trial's hyper-parameters for TensorBoard's HPARAMS page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from milepost.api.numbers import as_float
from milepost.journal.files.protobuf import block, boolean, double, integer, text

_PLUGIN: Final = "hparams"
_STRING, _BOOL, _FLOAT64 = 1, 2, 3
_SUCCESS: Final = 1


def summaries(params: Mapping[str, Any], metrics: Iterable[str]) -> list[bytes]:
    """Return the summaries that describe one finished trial, encoded.

    Args:
        params: flat searched variables in plain types; None and other types than str, bool and
            numbers have no value there.
        metrics: tags of the trial's scalars.
    """
    values, infos = b"", b""
    for name, value in params.items():
        if value is None:
            continue
        kind, content = _value(value)
        infos += block(4, text(1, name) + (integer(4, kind) if kind else b""))
        if content:
            values += block(1, text(1, name) + block(2, content))
    for tag in metrics:
        infos += block(5, block(1, text(2, tag)))
    return [
        _summary("experiment", block(2, infos)),
        _summary("session_start_info", block(3, values)),
        _summary("session_end_info", block(4, integer(1, _SUCCESS))),
    ]


def _value(value: Any) -> tuple[int, bytes]:
    if isinstance(value, str):
        return _STRING, text(3, value)
    if isinstance(value, bool):
        return _BOOL, boolean(4, value)
    if isinstance(value, int | float):
        return _FLOAT64, double(2, as_float(value))
    return 0, b""


def _summary(name: str, content: bytes) -> bytes:
    metadata = block(1, text(1, _PLUGIN) + block(2, content))
    return block(1, text(1, f"_hparams_/{name}") + block(9, metadata))
