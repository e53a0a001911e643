"""Packages that only some of the statistics need, imported where they are used."""

from importlib import import_module
from typing import Any

from spectral_edge.errors import MissingExtraError


def statsmodels(module: str, purpose: str) -> Any:
    """A module of statsmodels; a narrow one, since `statsmodels.api` takes seconds to import.

    Args:
        module: dotted name below `statsmodels`.
        purpose: what it is needed for, in words.

    Raises:
        MissingExtraError: without statsmodels.
    """
    try:
        return import_module(f"statsmodels.{module}")
    except ImportError as error:
        raise MissingExtraError("statsmodels", extra="stats", purpose=purpose) from error
