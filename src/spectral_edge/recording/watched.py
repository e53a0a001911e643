"""What is watched, as a recorder stores it, and how it differs from before."""

from collections.abc import Mapping
from dataclasses import replace

from spectral_edge.errors import InputError
from spectral_edge.records import Inventory, TensorInfo

REST = "(rest)"
"""The group of what no named group holds, in traces that store groups."""


def changes(before: Mapping[str, TensorInfo], after: Mapping[str, TensorInfo]) -> str:
    """What is watched otherwise than before, by name."""
    odd = [
        f"{name} of {kind} {getattr(before[name], kind)} is now of {getattr(after[name], kind)}"
        for name in before
        if name in after and before[name] != after[name]
        for kind in ["dtype" if before[name].shape == after[name].shape else "shape"]
    ]
    new, gone = sorted(set(after) - set(before)), sorted(set(before) - set(after))
    found = [f"appeared: {', '.join(new[:3])}"] if new else []
    found += [f"vanished: {', '.join(gone[:3])}"] if gone else []
    return "; ".join([*odd[:3], *found]) or "another order, or ranks hold other parts"


def with_rest(inventory: Inventory) -> Inventory:
    """The inventory with its groups made a partition, as stored group rows must add up to the model's."""
    taken: set[int] = set()
    for group, members in inventory.groups.items():
        if taken & set(members):
            raise InputError(
                f"group {group!r}",
                expected="groups that share no tensor, as a sketch and store='groups' sum them",
                found="a tensor that an earlier group holds",
                remedy="use other groups, or engine='exact' with store='tensors'",
            )
        taken |= set(members)
    rest = tuple(index for index in range(len(inventory.tensors)) if index not in taken)
    return replace(inventory, groups={**inventory.groups, REST: rest}) if rest else inventory
