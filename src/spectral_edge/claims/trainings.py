"""The small trainings on which claims about the loss are judged, each with seeds of its own."""

NEEDS = (
    "record theory/loss_again (python examples/theory/loss.py --again): 22 seeds of each setting that were run when "
    "everything had been fixed on another one"
)
SETTINGS = {
    f"{optimizer}, {every} step{'s' if every > 1 else ''}": f"{optimizer} {every}"
    for optimizer in ("SGD", "AdamW")
    for every in (1, 10, 50)
}
"""Families of these claims, by optimizer and steps of an update, and where the record has them."""
