"""The verb `simulate`: models of the theory with every parameter an option, their numbers and their picture."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from spectral_edge.plots.frame import new_figure
from spectral_edge.simulate.record import plain
from spectral_edge.terminal import Json, print_json

simulate = App(
    name="simulate",
    help="Play with a model of the theory: numbers, sentences and a picture.",
    default_parameter=Parameter(negative_bool="no-"),
)

Out = Annotated[
    Path | None, Parameter(help="File of the picture; runs/simulate-MODEL.png by default, none with --json alone.")
]


def _show(model: str, settings: Any, *, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Runs a model, draws its picture and prints its numbers or its sentences."""
    place = out if out is not None or as_json else Path("runs") / f"simulate-{model}.png"
    if place is not None:
        new_figure(100)  # says at once if the extra is missing
    console = Console(quiet=quiet or as_json, highlight=False)
    with console.status(f"simulating: {model}"):
        result = settings.run()
        if place is not None:
            draw: Callable[[Any], Any] = import_module(f"spectral_edge.plots.simulations.{model}").draw
            place.parent.mkdir(parents=True, exist_ok=True)
            draw(result).savefig(place)
    if as_json:
        print_json({"model": model, **plain(result), "picture": None if place is None else str(place)})
        return
    console.print("\n".join(result.sentences), markup=False, soft_wrap=True)
    console.print(f"Picture: {place}", markup=False, soft_wrap=True)
