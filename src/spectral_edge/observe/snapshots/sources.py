"""Whatever a user calls a series of snapshots, in step order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.observe.snapshots.folders import SUFFIXES, expand
from spectral_edge.observe.snapshots.hub import HubClient, hub_series, is_hub
from spectral_edge.observe.snapshots.snapshot import Snapshot, in_memory, opened
from spectral_edge.observe.snapshots.steps import Steps, numbered

__all__ = ["SUFFIXES", "SeriesOptions", "Steps", "is_hub", "snapshots"]


@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """How the snapshots of a source are found and read.

    Attributes:
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.
        steps: of files or revisions in natural order, or a function from a name; None finds them in the names.
        revisions: which revisions of a repository on the hub.
        hub: client of the hub; the Hugging Face one by default.
    """

    allow_pickle: bool = False
    steps: Steps | None = None
    revisions: str | Sequence[str] | None = None
    hub: HubClient | None = None


def snapshots(source: Any, options: SeriesOptions | None = None) -> tuple[Iterator[Snapshot], list[Snapshot] | None]:
    """The snapshots of a source in step order, and the list of them where it is known beforehand.

    Args:
        source: a folder, a glob, a path, a sequence of these, a repository on the hub, or an iterable of arrays, state
            dicts, modules or (step, one of these).
        options: how they are found and read.

    Raises:
        InputError: if it is of an unknown kind, a path is not there, or the steps of files cannot be told.
    """
    options = options or SeriesOptions()
    if is_hub(source):
        listed = hub_series(
            source,
            revisions=options.revisions,
            steps=options.steps,
            allow_pickle=options.allow_pickle,
            client=options.hub,
        )
        return iter(listed), listed
    if options.revisions is not None:
        raise InputError(
            "revisions",
            expected="a repository on the hub as source",
            found=str(source)[:80],
            remedy="write it as hub:owner/name",
        )
    if isinstance(source, (str, Path)):
        return _from_paths([str(source)], options)
    if isinstance(source, (Mapping, nn.Module, Tensor)) or not isinstance(source, Iterable):
        raise InputError(
            "source",
            expected="several snapshots: paths, a glob, a folder, or an iterable",
            found=type(source).__name__,
            remedy="pass a list of (step, state_dict)",
        )
    if isinstance(source, Sequence) and source and all(isinstance(item, (str, Path)) for item in source):
        return _from_paths([str(item) for item in cast("Sequence[str | Path]", source)], options)
    if options.steps is not None:
        raise InputError(
            "steps",
            expected="files or revisions as source",
            found=type(source).__name__,
            remedy="pass pairs of (step, snapshot)",
        )
    if isinstance(source, Sequence):
        listed = [_item(index, item) for index, item in enumerate(cast("Sequence[Any]", source))]
        return iter(listed), listed
    return (_item(index, item) for index, item in enumerate(cast("Iterable[Any]", source))), None


def _item(index: int, item: Any) -> Snapshot:
    step = index
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (int, np.integer)):
        step, item = int(item[0]), item[1]
    return in_memory(step, f"snapshot {index} (step {step})", item)


def _from_paths(texts: Sequence[str], options: SeriesOptions) -> tuple[Iterator[Snapshot], list[Snapshot]]:
    found = [checkpoint for text in texts for checkpoint in expand(text)]
    several = len({checkpoint.path.parent for checkpoint in found}) > 1
    listed: list[Snapshot] = []
    for step, checkpoint in numbered([(str(c.path), c.places, c) for c in found], options.steps):
        path = checkpoint.path
        label = f"{path.parent.name}/{path.name}" if several else path.name
        listed.append(
            Snapshot(
                step,
                label,
                lambda checkpoint=checkpoint, label=label: opened(
                    lambda: checkpoint.entries(label, allow_pickle=options.allow_pickle), label
                ),
                checkpoint.ahead,
            )
        )
    return iter(listed), listed
