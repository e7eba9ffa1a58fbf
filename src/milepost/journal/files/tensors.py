"""Lists and arrays in rows, as TensorBoard shows them: histograms, images and videos."""

from __future__ import annotations

import sys
from typing import Any, Final

_FPS: Final = 20
_BINS: list[float] = []


def summary(tag: str, value: Any) -> bytes:
    """Return the encoded summary of a list or numpy array.

    An array of 3 dimensions is an image, of 4 a batch of images, of 5 a video; anything else
    becomes a histogram of its numbers.

    Args:
        tag: its tag.
        value: a list or an array, not empty.

    Raises:
        ValueError: it holds something else than finite numbers, or has an odd shape.
        OverflowError: it holds an integer that is too large for a float.
        TypeError: same as ValueError.
        AssertionError: same.
        ImportError: a package that images or videos need is missing.
    """
    # tensorboardX would spend a second on importing torch, only to recognise its tensors.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from tensorboardX import summary as make

    ndim = getattr(value, "ndim", 0)
    if ndim == 3:
        proto = make.image(tag, value)
    elif ndim == 4:
        proto = make.image(tag, value, dataformats="NCHW")
    elif ndim == 5:
        proto = make.video(tag, value, fps=_FPS)
        if proto is None:
            raise ImportError("a video needs the package moviepy (pip install moviepy)")
    else:
        import numpy

        proto = make.histogram(tag, numpy.asarray(value, dtype=float), _bins())
    data: bytes = proto.SerializeToString()
    return data


def _bins() -> list[float]:
    """Limits of histogram bins, each 10 % wider than the one before, around zero."""
    if not _BINS:
        positive = []
        limit = 1e-12
        while limit < 1e20:
            positive.append(limit)
            limit *= 1.1
        _BINS.extend([*(-limit for limit in reversed(positive)), 0.0, *positive])
    return _BINS
