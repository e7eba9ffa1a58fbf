"""Frames of pandas as LightGBM takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def normalize_pandas_for_lightgbm(df: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose numbers are NumPy's, not Arrow's or nullable. Mirrors Ray's function.

    Args:
        df: a frame; it is not changed.

    Returns:
        The same columns. Numbers and truth values that may be missing are floats, and NaN where
        they are; categories, dates and text stay as they are.
    """
    import numpy as np
    from pandas.api.extensions import ExtensionDtype
    from pandas.api.types import is_numeric_dtype

    made = df.copy(deep=False)
    for place, dtype in enumerate(df.dtypes):  # by place: names may repeat
        if not isinstance(dtype, ExtensionDtype) or not is_numeric_dtype(dtype):
            continue
        column = df.iloc[:, place]
        if column.isna().any():
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = column.to_numpy(dtype=getattr(dtype, "numpy_dtype", np.float64))
        made.isetitem(place, values)
    return made
