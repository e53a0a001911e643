"""Energy of a window along a mode against its curvature: exact, simulated, and the published inverted hierarchy.

Run from the repository's root: python examples/theory/quadratic.py
"""

import numpy as np

from spectral_edge.plots.simulations.quadratic import draw
from spectral_edge.simulate.quadratic import Quadratic
from spectral_edge.simulate.record import save, script_options


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__, "examples/theory/quadratic.py")
    runs = 50 if options.quick else 2000
    models = {
        "plain": Quadratic(runs=runs),
        "momentum": Quadratic(runs=runs, momentum=0.9),
        "averaging": Quadratic(runs=runs, momentum=0.9, averaging=True),
        "decay": Quadratic(runs=runs, weight_decay=1.0),
    }
    results = {name: model.run() for name, model in models.items()}
    numbers = {
        name: {
            "worst_in_standard_errors": result.worst,
            "slope": result.slope,
            "slope_pub": result.slope_pub,
            "published_over_exact_s1": result.published_over_exact[0],
            "published_over_exact_s1000": result.published_over_exact[-1],
            "exact_over_plain": result.exact / results["plain"].exact,
        }
        for name, result in results.items()
    }
    plain = results["plain"]
    stiff = plain.curvature >= 1.0
    numbers["slope_stiff_s1000"] = float(
        np.polyfit(np.log(plain.curvature[stiff]), np.log(plain.exact[-1][stiff]) / 2, 1)[0]
    )
    draw(plain).savefig(options.out / "quadratic.png", dpi=80)
    save(options.results / "quadratic.json", command=options.command, settings=models, numbers=numbers)
    for name, result in results.items():
        print(f"{name}:", *result.sentences)


if __name__ == "__main__":
    main()
