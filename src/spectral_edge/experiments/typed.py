"""Settings as they are typed on a command line, with errors that name the option."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import RunConfig, TaskConfig

_GIVEN_OTHERWISE = ("task", "size", "seed")


def settings_help(families: Mapping[str, type[TaskConfig]]) -> str:
    """What `--set` accepts, for its help text."""
    common = _named(RunConfig)
    own = [f"{name}: {', '.join(_named(kind))}" for name, kind in families.items()]
    return f"A setting as name=value; repeatable. All families: {', '.join(common)}. By family: {'; '.join(own)}."


def sizes_help(families: Mapping[str, type[TaskConfig]]) -> str:
    """Which presets there are, for the help text."""
    by_sizes: dict[tuple[str, ...], list[str]] = {}
    for name, kind in families.items():
        by_sizes.setdefault(kind.sizes, []).append(name)
    return "; ".join(f"{', '.join(sizes)} ({', '.join(names)})" for sizes, names in by_sizes.items())


def _named(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in _GIVEN_OTHERWISE]


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings from name=value; values are read as JSON where they can be.

    Args:
        pairs: what was typed.

    Raises:
        InputError: for anything of another form.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in ("family", "size"):
            raise InputError("--set", expected="name=value", found=pair, remedy="for instance --set operation=mul")
        try:
            settings[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            settings[name.replace("-", "_")] = value
    return settings


def option_named(
    error: InputError, *, options: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> InputError:
    """The same error with the option in place of the setting's name.

    Args:
        error: what is wrong with a configuration.
        options: settings that have an option of their own.
        settings: those given by `--set`.
    """
    prefix = "--set " if error.subject in (settings or {}) else "--" if error.subject in options else ""
    return InputError(f"{prefix}{error.subject}", expected=error.expected, found=error.found, remedy=error.remedy)
