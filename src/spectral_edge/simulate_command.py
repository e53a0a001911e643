"""The verb `simulate`: models of the theory with every parameter an option, their numbers and their picture."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol

from cyclopts import App, Parameter
from rich.console import Console

from spectral_edge.plots.frame import new_figure
from spectral_edge.simulate.bbp import Bbp
from spectral_edge.simulate.dyson import Dyson
from spectral_edge.simulate.feedback import Feedback
from spectral_edge.simulate.flow import Flow
from spectral_edge.simulate.quadratic import Quadratic
from spectral_edge.simulate.record import plain
from spectral_edge.terminal import Json, print_json

simulate = App(
    name="simulate",
    help="Play with a model of the theory: every parameter is an option, the result sentences, a picture and numbers.",
    help_format="markdown",
    default_parameter=Parameter(negative_bool="no-", negative_iterable=(), consume_multiple=True),
    result_action="return_value",
)

Out = Annotated[
    Path | None, Parameter(help="File of the picture; runs/simulate-MODEL.png by default, none with --json alone.")
]
AsJson = Annotated[Json, Parameter(help="Print one JSON object, the numbers that the picture shows, and nothing else.")]
Quiet = Annotated[bool, Parameter(negative=(), help="Print nothing but errors.")]
All = Parameter(name="*")


class _Model(Protocol):
    """Settings that can be run."""

    def run(self) -> Any: ...


@simulate.command
def flow(
    settings: Annotated[Flow, All] = Flow(),  # noqa: B008 - frozen
    *,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Two driven modes: the true spectrum against the published flow, its repair and the matrix flow."""
    _show("flow", settings, out=out, as_json=as_json, quiet=quiet)


@simulate.command
def quadratic(
    settings: Annotated[Quadratic, All] = Quadratic(),  # noqa: B008
    *,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Descent on a quadratic: signal strength against curvature at several intervals, published and exact."""
    _show("quadratic", settings, out=out, as_json=as_json, quiet=quiet)


@simulate.command
def dyson(
    settings: Annotated[Dyson, All] = Dyson(),  # noqa: B008
    *,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Singular values of Brownian rows: repulsion, drift, spacings, and what a rolling window does instead."""
    _show("dyson", settings, out=out, as_json=as_json, quiet=quiet)


@simulate.command
def bbp(
    settings: Annotated[Bbp, All] = Bbp(),  # noqa: B008
    *,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """A planted direction in noise: when a window shows it, when its direction can be read, what the paper tests."""
    _show("bbp", settings, out=out, as_json=as_json, quiet=quiet)


@simulate.command
def feedback(
    settings: Annotated[Feedback, All] = Feedback(),  # noqa: B008
    *,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The minimal loop between gap and persistence: its fold, its hysteresis, and the open loop that looks like it."""
    _show("feedback", settings, out=out, as_json=as_json, quiet=quiet)


def _show(model: str, settings: _Model, *, out: Path | None, as_json: bool, quiet: bool) -> None:
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
