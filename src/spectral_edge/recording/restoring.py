"""Whether a saved state belongs to what is watched now, checked before anything of it is taken over."""

from collections.abc import Mapping, Sequence
from typing import Any

from spectral_edge.errors import InputError
from spectral_edge.records import Inventory

_PLAN = ("name", "seed", "cells")
"""What has to be the same of an engine; its backend, ring and number of ranks need not."""


def describe(inventory: Inventory, engine: Mapping[str, Any]) -> dict[str, Any]:
    """What a state says of the parameters and of the engine that it belongs to."""
    return {
        "tensors": [[tensor.name, list(tensor.shape), tensor.dtype] for tensor in inventory.tensors],
        "groups": named_groups(inventory),
        "engine": {key: engine[key] for key in _PLAN if key in engine},
    }


def named_groups(inventory: Inventory) -> list[list[Any]]:
    """Groups in order, with the names of their tensors."""
    return [[name, [inventory.tensors[index].name for index in members]] for name, members in inventory.groups.items()]


def rings_of(states: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The engine's states, with tensors numbered as they are now.

    Args:
        states: what the recorders of all ranks saved.
        now: what `describe` says now.

    Raises:
        InputError: if they belong to other parameters or another engine.
    """
    saved = states[0]
    before = {name: (list(shape), dtype) for name, shape, dtype in saved["tensors"]}
    after = {name: (list(shape), dtype) for name, shape, dtype in now["tensors"]}
    if before != after:
        odd = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        raise InputError(
            "monitor state",
            expected=f"{len(after)} tensors as watched now",
            found=f"{len(before)}, differing in {', '.join(odd[:3])}",
            remedy="construct the monitor with the same model and select",
        )
    order = [name for name, *_ in saved["tensors"]] == [name for name, *_ in now["tensors"]]
    sketched = now["engine"]["name"] == "sketch"
    same = saved["engine"] == now["engine"] and (not sketched or (order and saved["groups"] == now["groups"]))
    if not same:
        what = ("order of tensors", "groups") if saved["engine"] == now["engine"] else ("engine", "seed", "cells")
        raise InputError(
            "monitor state",
            expected=f"the {saved['engine']['name']} engine's, and the {' and '.join(what)} of the saved run",
            found=f"{now['engine']['name']}, or others",
            remedy="construct the monitor with the engine, cells, sketch_seed, groups and model of the saved run",
        )
    rings = [dict(state["ring"]) for state in states]
    if not order:
        number = {name: index for index, (name, *_) in enumerate(now["tensors"])}
        names = [name for name, *_ in saved["tensors"]]
        for ring in rings:
            ring["banks"] = [
                {**bank, "members": [number[names[member]] for member in bank["members"]]} for bank in ring["banks"]
            ]
    return rings


def listed_states(state: Any) -> list[Mapping[str, Any]]:
    """A monitor's state, or what the monitors of several ranks saved, as a list.

    Raises:
        InputError: if it is something else.
    """
    states: list[Any] = [state] if isinstance(state, Mapping) else list(state or ())
    odd = [one for one in states if not isinstance(one, Mapping) or "recorder" not in one or one["version"] != 2]
    if odd or not states:
        raise foreign_state(f"entries {list(odd[0])[:3]}" if odd and isinstance(odd[0], Mapping) else "something else")
    return states


def foreign_state(found: str) -> InputError:
    """What to say of a state that is none."""
    return InputError(
        "monitor state",
        expected="what Monitor.state_dict() of this version returned, or a list of these",
        found=found,
        remedy="pass the monitor's part of the checkpoint",
    )
