"""The optional package statsmodels, imported where it is needed."""

import importlib
from typing import Any

from spectral_edge.errors import MissingExtraError


def statsmodels_module(name: str, *, purpose: str) -> Any:
    """A module of statsmodels, imported at use.

    Args:
        name: below `statsmodels`, for instance "regression.linear_model"; its `api` is slow to import.
        purpose: what it is needed for.

    Raises:
        MissingExtraError: if statsmodels is not installed.
    """
    try:
        return importlib.import_module(f"statsmodels.{name}")
    except ImportError as error:
        raise MissingExtraError("statsmodels", extra="stats", purpose=purpose) from error
