"""Nothing that watches may end what it watches."""

import functools
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from spectral_edge.errors import RunError, warn


class Failing(Protocol):
    """Something that notes whether its last observation failed."""

    failed: bool


P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Failing)


def never_raises(
    method: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], R | None]:
    """Turns an exception inside the training loop into one warning; the run goes on unwatched at that point."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def guarded(monitor: M, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(monitor, *args, **kwargs)
        except RunError:
            raise  # a rank is gone: whatever comes next would wait for it
        except Exception as error:
            if isinstance(error, TypeError):
                signature.bind(monitor, *args, **kwargs)  # a misspelt argument is said at once, as Python does
            monitor.failed = monitor.failed or method.__name__ == "step"
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            text = f"Monitor.{method.__name__} failed and was left out: {error} ({place})"
            warn(text)
            return None

    return guarded
