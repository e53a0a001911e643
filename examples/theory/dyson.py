"""The Dyson diffusion of singular values: its drift, integrator and spacings, and how a rolling window differs from it.

Six panels: the drift of two near levels, of Brownian rows and over one observation of a rolling window; orders of
convergence; spacings of the stationary state; residuals of steps by lag; what an uneven covariance changes.

python examples/theory/dyson.py           # five minutes on one core
python examples/theory/dyson.py --quick   # seconds; its numbers are not to be quoted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spectral_edge.simulate.record import Options, save, script_options
from spectral_edge.theory.dyson import Dyson, implicit_step, integrate, sigma_drift, step_bias
from spectral_edge.theory.laguerre import laguerre_sample, stationary_sample, transition_sample
from spectral_edge.theory.residual import matched_diffusion, past_neighbours, residuals
from spectral_edge.theory.spacings import estimate_beta, spacing_density
from spectral_edge.theory.streams import Stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

WIDTH, PARAMETERS, SEED = 10, 100, 0
PAIR = 4
"""The middle pair of levels is moved to chosen distances; it is levels 5 and 6, counted from one."""
DISTANCES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
"""Of the pair, in units of the mean distance there."""
SHORT = 0.01
"""Time of a short move, in squared distances of the pair: the drift changes by about one per cent over it."""
STEPS = (4, 8, 16, 32, 64)
START = (4.0, 2.5, 1.2)
LAGS = (1, 2, 3, 5, 10, 20)
WIDTHS = (5, 10, 20, 40)
EXPONENTS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
COVARIANCE = 10_000
"""Number of eigenvalues k^-a of the uneven covariances."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the samples.

    Attributes:
        moves: draws for each distance of the pair.
        paths: of the convergence study.
        finest: steps of its reference.
        settled: paths of the stationary state.
        settled_steps: numbers of steps with which it is reached, the last one for the picture.
        windows: whose steps are compared with the diffusion, and draws of the diffusion itself.
        stepped: windows of the study by lag, in parts of that size.
        draws: of the diffusion from each.
        spaced: windows for an estimate of beta.
    """

    moves: int = 8000
    paths: int = 1000
    finest: int = 512
    settled: int = 4000
    settled_steps: tuple[int, ...] = (160, 800)
    windows: int = 600
    stepped: int = 3000
    draws: int = 120
    spaced: int = 3000


def levels(gram: Array) -> Array:
    """Singular values, largest first, from Gram matrices."""
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., ::-1], 0.0))


def typical(beta: float, rng: np.random.Generator) -> Array:
    """Mean singular values of standard normal rows [W]."""
    drawn = laguerre_sample(WIDTH, Dyson(parameters=PARAMETERS, beta=beta), draws=4000, generator=rng)
    return np.asarray(drawn.mean(axis=0), dtype=np.float64)


def with_pair(sigma: Array, distance: float) -> Array:
    """The same levels with the middle pair at this distance, in units of what it was."""
    moved = sigma.copy()
    centre, half = sigma[PAIR : PAIR + 2].mean(), 0.5 * distance * (sigma[PAIR] - sigma[PAIR + 1])
    moved[PAIR], moved[PAIR + 1] = centre + half, centre - half
    return moved


def brownian_rate(sigma: Array, time: float, law: Dyson, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mean rate of each singular value over a short move of the whole matrix, and its standard error [W].

    The noise along each mode has mean zero and is taken off. That is the difference to a large ensemble of plain moves.
    """
    components, shape = int(law.beta), (draws, WIDTH, WIDTH)
    noise = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if components == 2 else 0)
    beyond = np.tril(rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if components == 2 else 0), -1)
    place = np.arange(WIDTH)
    freedom = components * (law.parameters - WIDTH - place)
    beyond[:, place, place] = np.sqrt(rng.chisquare(freedom, size=(draws, WIDTH)))
    moved: Array = np.linalg.svd(
        np.concatenate([np.diag(sigma) + time**0.5 * noise, time**0.5 * beyond], axis=-1), compute_uv=False
    )
    rate = (moved - sigma - time**0.5 * noise[:, place, place].real) / time
    return rate.mean(axis=0), rate.std(axis=0) / draws**0.5


def rolled(sigma: Array, parameters: int, draws: int, rng: np.random.Generator) -> Array:
    """Singular values after one observation of a rolling window of i.i.d. rows that had these [draws, W].

    Of such a window, left and right directions are uniform and independent of the singular values.
    """
    width = len(sigma)
    rows = np.zeros((draws, width, width + 1))
    rows[:, :-1, :width] = np.linalg.qr(rng.standard_normal((draws, width, width)))[0][:, 1:] * sigma
    rows[:, -1, :width] = rng.standard_normal((draws, width))
    rows[:, -1, width] = np.sqrt(rng.chisquare(parameters - width, size=draws))
    return np.linalg.svd(rows, compute_uv=False).astype(np.float64)


def pair_rates(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Rate at which the distance of the middle pair grows, for Brownian rows and over one observation of a window."""
    found: dict[str, Any] = {"brownian": {}}
    worst = 0.0
    for beta in (1.0, 2.0):
        law, usual = Dyson(parameters=PARAMETERS, beta=beta), typical(beta, rng)
        unit = usual[PAIR] - usual[PAIR + 1]
        predicted, measured, error = [], [], []
        for distance in DISTANCES:
            sigma = with_pair(usual, distance)
            nearest = float(-np.diff(sigma).max())
            rate, deviation = brownian_rate(sigma, SHORT * nearest**2, law, settings.moves, rng)
            drift = sigma_drift(sigma, law)
            # One per cent is what the length of the move allows.
            worst = max(worst, float(np.max(np.abs(rate - drift) / (deviation + 0.01 * np.abs(drift)))))
            predicted.append((drift[PAIR] - drift[PAIR + 1]) * unit)
            measured.append((rate[PAIR] - rate[PAIR + 1]) * unit)
            error.append(float(np.hypot(deviation[PAIR], deviation[PAIR + 1])) * unit)
        found["brownian"][f"{beta:g}"] = {"predicted": predicted, "measured": measured, "standard_error": error}
    found["largest_deviation"] = worst
    law, scale = matched_diffusion(WIDTH, PARAMETERS)
    usual = typical(1.0, rng)
    unit = usual[PAIR] - usual[PAIR + 1]
    curves: dict[str, list[float]] = {"drift": [], "diffusion": [], "window": [], "window_standard_error": []}
    for distance in DISTANCES:
        sigma = with_pair(usual, distance)
        drift = sigma_drift(scale * sigma, law) / scale
        drawn = transition_sample(scale * sigma[None], 1.0, law, draws=settings.moves, generator=rng)[0] / scale
        window = rolled(sigma, PARAMETERS, settings.moves, rng)
        gaps = [(one[:, PAIR] - one[:, PAIR + 1]) / unit for one in (drawn, window)]
        curves["drift"].append((drift[PAIR] - drift[PAIR + 1]) / unit)
        curves["diffusion"].append(float(gaps[0].mean()) - distance)
        curves["window"].append(float(gaps[1].mean()) - distance)
        curves["window_standard_error"].append(float(gaps[1].std()) / settings.moves**0.5)
    return {**found, "observation": curves}


def uneven_drift(settings: Settings, rng: np.random.Generator) -> float:
    """Largest deviation, in standard errors, of rows with an uneven covariance from the drift that knows it.

    It needs v_j^T S v_j for each right direction, so the singular values are no process of their own.
    """
    variance = 1 / np.arange(1.0, 31.0)
    rows = rng.standard_normal((4, 30)) * np.sqrt(variance)
    left, sigma, right = np.linalg.svd(rows, full_matrices=False)
    own = (right**2) @ variance
    squares = sigma**2
    apart = squares[:, None] - squares + np.diag(np.full(4, np.inf))
    rate = variance.sum() + (((squares * own)[:, None] + squares * own) / apart).sum(axis=1)
    time = 1e-3 * float(-np.diff(sigma).max()) ** 2
    noise = np.sqrt(time * variance) * rng.standard_normal((4 * settings.moves, 4, 30))
    after = np.linalg.svd(rows + noise, compute_uv=False) ** 2
    along = 2 * sigma * np.einsum("ij,nik,jk->nj", left, noise, right)
    change = (after - squares - along) / time
    return float(np.max(np.abs(change.mean(axis=0) - rate) / (change.std(axis=0) / (4 * settings.moves) ** 0.5)))


def convergence(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Errors of the implicit step against the finest, by number of steps, and broken order of the explicit one."""
    found: dict[str, Any] = {}
    for beta in (1.0, 2.0, 4.0):
        law, paths, fine = Dyson(parameters=6, beta=beta), settings.paths, settings.finest
        start = np.tile(START, (paths, 1))
        noise = rng.standard_normal((fine, paths, 3)) / np.sqrt(fine)
        exact = integrate(start, noise, 1 / fine, law)[-1]
        strong, weak, broken = [], [], []
        for steps in STEPS:
            coarse = noise.reshape(steps, fine // steps, paths, 3).sum(axis=1)
            path = integrate(start, coarse, 1 / steps, law)
            assert (np.diff(path, axis=-1) < 0).all()
            assert (path > 0).all()
            strong.append(float(np.sqrt(((path[-1] - exact) ** 2).sum(axis=-1).mean())))
            weak.append(-float(step_bias(path[1:].reshape(-1, 3), 1 / steps, law).sum()) / paths)
            broken.append(explicit_breaks(start, coarse, 1 / steps, law))
        orders = [-float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0]) for errors in (strong, weak)]
        found[f"{beta:g}"] = {
            "strong": strong,
            "strong_order": orders[0],
            "weak": weak,
            "weak_order": orders[1],
            "explicit_broken": broken,
        }
    return found


def explicit_breaks(start: Array, increments: Array, step: float, law: Dyson) -> float:
    """Share of paths that the explicit Euler-Maruyama step takes out of the chamber of ordered positive values."""
    sigma, inside = start.copy(), np.ones(len(start), dtype=bool)
    for increment in increments:
        sigma[inside] += step * sigma_drift(sigma[inside], law) + increment[inside]
        inside &= (np.diff(sigma) < 0).all(axis=-1) & (sigma[:, -1] > 0)
    return float(1 - inside.mean())


def settled(settings: Settings, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Array]]:
    """Spacings and mean levels of the damped process in its stationary state, from the integrator and from draws."""
    found: dict[str, Any] = {}
    spacings: dict[str, Array] = {}
    for beta in (1.0, 2.0):
        law = Dyson(parameters=24, beta=beta, damping=1.0)
        exact = stationary_sample(6, law, draws=10 * settings.settled, generator=rng)
        names = ("step_per_square_spacing", "beta", "beta_low", "beta_high", "largest_shift")
        rows: dict[str, list[float]] = {name: [] for name in names}
        end = exact
        for steps in settings.settled_steps:
            # Over a time of 4 the start from zero fades to exp(-8) in |X|^2.
            step = 4 / steps
            end = np.zeros((settings.settled, 6))
            for _ in range(steps):
                end = implicit_step(end, np.sqrt(step) * rng.standard_normal(end.shape), step, law)
            read = estimate_beta(end)
            shift = (end.mean(axis=0) - exact.mean(axis=0)) / exact.std(axis=0)
            square = float(np.diff(exact.mean(axis=0)).mean()) ** 2
            values = (step / square, read.beta, read.low, read.high, float(shift[np.abs(shift).argmax()]))
            for name, value in zip(names, values, strict=True):
                rows[name].append(value)
        found[f"{beta:g}"] = rows
        spacing = -np.diff(end, axis=-1)
        spacings[f"{beta:g}"] = (spacing / spacing.mean(axis=0)).ravel()
    return found, spacings


def by_lag(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Steps of a rolling window of i.i.d. rows against the matched diffusion, by the lag between the windows."""
    law, scale = matched_diffusion(WIDTH, PARAMETERS)
    names = ("squared", "squared_standard_error", "past", "past_expected", "control", "control_standard_error")
    found: dict[str, list[float]] = {name: [] for name in names}
    for lag in LAGS:
        seen: dict[str, list[Array]] = {"squared": [], "control": []}
        shares: list[tuple[float, float]] = []
        for _ in range(settings.stepped // settings.windows):
            rows = rng.standard_normal((settings.windows, WIDTH + lag, PARAMETERS))
            before, after = (scale * levels(part @ part.mT) for part in (rows[:, :WIDTH], rows[:, lag:]))
            true = transition_sample(before, float(lag), law, draws=1, generator=rng)[:, 0]
            for name, one in (("control", true), ("squared", after)):
                compared = residuals(before, one, float(lag), law, draws=settings.draws, generator=rng)
                seen[name].append(compared.squared)
            shares.append((float(past_neighbours(before, after).mean()), float(past_neighbours(before, true).mean())))
        past, expected = np.mean(shares, axis=0).tolist()
        found["past"].append(past)
        found["past_expected"].append(expected)
        for name, parts in seen.items():
            squared = np.concatenate(parts)
            found[name].append(float(squared.mean()))
            found[f"{name}_standard_error"].append(float(squared.std()) / len(squared) ** 0.5)
    return found


def by_width(settings: Settings, rng: np.random.Generator) -> dict[str, list[float]]:
    """One observation of windows of several lengths: mean square of a level's move over the matched diffusion's."""
    found: dict[str, list[float]] = {"mean_square": [], "past": [], "past_expected": []}
    for width in WIDTHS:
        parameters = 10 * width
        law, scale = matched_diffusion(width, parameters)
        rows = rng.standard_normal((settings.windows, width + 1, parameters))
        before, after = (scale * levels(part @ part.mT) for part in (rows[:, :-1], rows[:, 1:]))
        true = transition_sample(before, 1.0, law, draws=1, generator=rng)[:, 0]
        found["mean_square"].append(float(((after - before) ** 2).mean() / ((true - before) ** 2).mean()))
        found["past"].append(float(past_neighbours(before, after).mean()))
        found["past_expected"].append(float(past_neighbours(before, true).mean()))
    return found


def energy_memory(settings: Settings, rng: np.random.Generator) -> dict[str, list[float]]:
    """Autocorrelation of |X|^2 of a rolling window, by lag."""
    rows = rng.chisquare(PARAMETERS, size=400 * settings.windows)
    energy = np.convolve(rows, np.ones(WIDTH), mode="valid")
    centred = energy - energy.mean()
    lags = (0, WIDTH // 2, WIDTH, 2 * WIDTH)
    products = [float(centred[: len(centred) - lag] @ centred[lag:]) / (len(centred) - lag) for lag in lags]
    return {"lag": list(lags), "window": [one / products[0] for one in products]}


def by_covariance(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Noise with covariance k^-a as if it were isotropic with its effective dimension: accumulating rows and levels."""
    names = ("dimension", "squared", "squared_standard_error", "beta", "beta_low", "beta_high")
    found: dict[str, list[float]] = {name: [] for name in names}
    kept = np.hstack([np.sqrt(WIDTH) * np.eye(WIDTH), np.zeros((WIDTH, WIDTH))])
    both = kept + np.hstack([np.zeros((WIDTH, WIDTH)), np.eye(WIDTH)])
    for exponent in EXPONENTS:
        stream = Stream(parameters=COVARIANCE, exponent=exponent)
        dimension = stream.effective_dimension
        gram = stream.grams(2 * WIDTH, settings.windows, rng).gram * dimension
        before, after = levels(kept @ gram @ kept.T), levels(both @ gram @ both.T)
        law = Dyson(parameters=round(dimension))
        seen = residuals(before, after, 1.0, law, draws=settings.draws, generator=rng)
        estimate = estimate_beta(levels(stream.grams(WIDTH, settings.spaced, rng).gram))
        found["dimension"].append(dimension)
        found["squared"].append(float(seen.squared.mean()))
        found["squared_standard_error"].append(float(seen.squared.std()) / settings.windows**0.5)
        found["beta"].append(estimate.beta)
        found["beta_low"].append(estimate.low)
        found["beta_high"].append(estimate.high)
    return found


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """What was found, in words."""
    pair, order, lag, wide = (numbers[name] for name in ("pair", "convergence", "lag", "width"))
    settled_at, uneven, seen = numbers["settled"], numbers["covariance"], numbers["pair"]["observation"]
    closest = {name: seen[name][0] for name in ("drift", "diffusion", "window")}
    off = [w / d - 1 for w, d in zip(seen["window"], seen["diffusion"], strict=True) if abs(d) > 0.1]
    last = -1
    return [
        "Brownian rows drift as the equation says, beta = 1 and 2, at all distances of two levels down to "
        f"{DISTANCES[0]:g} of the mean one: the difference is at most {pair['largest_deviation']:.1f} times the sum of "
        "its standard error and one per cent of the drift; rows with an uneven covariance drift as the equation that "
        f"knows it, within {numbers['uneven_drift_deviation']:.1f} standard errors.",
        f"Over one observation of a rolling window a pair at that distance comes apart by {closest['window']:.2f} mean "
        f"distances, in the matched diffusion by {closest['diffusion']:.2f}; drift times one observation says "
        f"{closest['drift']:.1f}. Elsewhere the window's mean move is {min(off):+.0%} to {max(off):+.0%} off the "
        "diffusion's.",
        f"But its levels move by {wide['mean_square'][WIDTHS.index(WIDTH)]:.2f} of the diffusion's mean square at W = "
        f"{WIDTH} and {wide['mean_square'][last]:.2f} at W = {WIDTHS[last]}, and pass a neighbour's place in "
        f"{lag['past'][0]:.0%} of the observations, not in {lag['past_expected'][0]:.0%}.",
        f"The mean squared residual of a window's step is {lag['squared'][0]:.2f} of the diffusion's at lag 1, "
        f"{lag['squared'][LAGS.index(5)]:.2f} at 5 and {lag['squared'][LAGS.index(WIDTH)]:.2f} at {WIDTH}.",
        "Implicit steps never lose the order; strong order "
        + ", ".join(f"{one['strong_order']:.2f} (beta = {beta})" for beta, one in order.items())
        + "; weak order "
        + ", ".join(f"{one['weak_order']:.2f}" for one in order.values())
        + f"; explicit steps of 1/{STEPS[2]} lose it on {order['1']['explicit_broken'][2]:.0%} of the paths "
        "at beta = 1.",
        "Spacings of the settled process say beta = "
        + " and ".join(f"{one['beta'][-1]:.2f} for {beta}" for beta, one in settled_at.items())
        + f" at a step of {settled_at['1']['step_per_square_spacing'][-1]:.3f} and "
        + f"{settled_at['2']['step_per_square_spacing'][-1]:.3f} squared mean spacings, "
        + " and ".join(f"{one['beta'][0]:.2f}" for one in settled_at.values())
        + " at five times that; mean levels are then off by at most "
        + " and ".join(f"{max(abs(one['largest_shift'][i]) for one in settled_at.values()):.2f}" for i in (-1, 0))
        + " standard deviations.",
        f"Noise with an effective dimension of {uneven['dimension'][last]:.0f} has a mean squared residual of "
        f"{uneven['squared'][last]:.2f}, and spacings that read beta = {uneven['beta'][last]:.2f}.",
    ]


RUN, MODEL, OTHER, FAINT = "#0072B2", "#222222", "#D55E00", "#8a8a8a"


def draw(numbers: Mapping[str, Any], spacings: Mapping[str, Array], options: Options) -> None:
    """The six panels."""
    from spectral_edge.plots.frame import new_figure, plain

    figure = new_figure(1040)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.055, right=0.985, top=0.95, bottom=0.07, hspace=0.34, wspace=0.24)
    for ax in axes.flat:
        plain(ax)
    _brownian(axes[0][0], numbers["pair"]["brownian"])
    _observation(axes[0][1], numbers["pair"]["observation"])
    _lags(axes[0][2], numbers["lag"])
    _orders(axes[1][0], numbers["convergence"])
    _spacings(axes[1][1], numbers["settled"], spacings)
    _covariance(axes[1][2], numbers["covariance"])
    figure.savefig(options.out / "dyson.png", dpi=68)


def _words(ax: Axes, title: str, x: str, y: str, *, key: Literal["upper right", "lower left"] = "upper right") -> None:
    ax.set_title(title, loc="left", fontsize=13.5, fontweight="bold", pad=9)
    ax.set_xlabel(x, fontsize=13)
    ax.set_ylabel(y, fontsize=13)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=12, loc=key)


def _brownian(ax: Axes, found: Mapping[str, Any]) -> None:
    for (beta, one), colour in zip(found.items(), (RUN, OTHER), strict=True):
        x = np.array(DISTANCES)
        ax.plot(x, one["predicted"], color=colour, linewidth=2, label=f"equation, beta = {beta}")
        ax.errorbar(
            x,
            one["measured"],
            yerr=2 * np.array(one["standard_error"]),
            fmt="o",
            color=colour,
            label=f"matrix, beta = {beta}",
        )
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1)
    _words(
        ax,
        "Brownian rows drift as the equation says",
        "distance of two levels / mean distance",
        "rate at which it grows",
        key="lower left",
    )


def _observation(ax: Axes, found: Mapping[str, Any]) -> None:
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(DISTANCES, found["drift"], ":", color=FAINT, linewidth=2, label="drift x one observation")
    ax.plot(DISTANCES, found["diffusion"], color=MODEL, linewidth=2, label="matched diffusion, exact")
    ax.plot(DISTANCES, found["window"], "o", color=RUN, markersize=7, label="rolling window")
    ax.set_ylim(-1.5, 2.5)
    _words(
        ax,
        "One observation: right on average",
        "distance of two levels / mean distance",
        "mean change of the distance",
    )


def _lags(ax: Axes, found: Mapping[str, Any]) -> None:
    ax.axhline(1, color=FAINT, linewidth=0.8)
    for name, colour, label in (("control", MODEL, "the diffusion itself"), ("squared", RUN, "rolling window")):
        ax.errorbar(
            LAGS,
            found[name],
            yerr=2 * np.array(found[f"{name}_standard_error"]),
            fmt="o-",
            color=colour,
            capsize=3,
            label=f"squared residual, {label}",
        )
    ax.plot(
        LAGS, found["past_expected"], "s--", color=MODEL, markersize=5, label="share that passes, the diffusion itself"
    )
    ax.plot(LAGS, found["past"], "s--", color=RUN, markersize=5, label="share that passes, rolling window")
    ax.set_ylim(0, 2.1)
    ax.set_xticks([1, 5, 10, 15, 20])
    _words(ax, "... but no level passes at lag 1", "lag (observations)", "over the model's, or share")


def _orders(ax: Axes, found: Mapping[str, Any]) -> None:
    for (beta, one), colour in zip(found.items(), (RUN, OTHER, "#009E73"), strict=True):
        label = f"beta = {beta}: orders {one['strong_order']:.2f} and {one['weak_order']:.2f}"
        ax.plot(STEPS, one["strong"], "o-", color=colour, label=label)
        ax.plot(STEPS, one["weak"], "s--", color=colour)
    ax.plot([], [], "o-", color=MODEL, label="path (root mean square)")
    ax.plot([], [], "s--", color=MODEL, label="mean of |X|²")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(STEPS, [str(one) for one in STEPS])
    ax.minorticks_off()
    ax.set_ylim(top=60 * ax.get_ylim()[1])
    _words(ax, "Implicit steps converge and never cross", "steps per unit of time", "error")


def _spacings(ax: Axes, found: Mapping[str, Any], spacings: Mapping[str, Array]) -> None:
    edges, fine = np.linspace(0, 3, 31), np.linspace(0, 3, 200)
    for (beta, values), colour in zip(spacings.items(), (RUN, OTHER), strict=True):
        count = np.histogram(values, bins=edges)[0] / len(values) / edges[1]
        ax.stairs(count, edges, color=colour, fill=True, alpha=0.3)
        read, low, high = (found[beta][name][-1] for name in ("beta", "beta_low", "beta_high"))
        label = f"beta = {beta}: reads {read:.2f} ({low:.2f} to {high:.2f})"
        ax.plot(fine, spacing_density(fine, float(beta)), color=colour, linewidth=2, label=label)
    ax.plot(fine, np.exp(-fine), "--", color=FAINT, label="no repulsion")
    ax.set_xlim(0, 3)
    ax.set_ylim(0, 1.35)
    _words(ax, "Spacings of the settled process", "spacing / its mean", "density")


def _covariance(ax: Axes, found: Mapping[str, Any]) -> None:
    ax.axhline(1, color=FAINT, linewidth=0.8)
    x = found["dimension"]
    bar = 2 * np.array(found["squared_standard_error"])
    label = "squared residual, accumulating rows"
    ax.errorbar(x, found["squared"], yerr=bar, fmt="o-", color=RUN, capsize=3, label=label)
    beta = np.array(found["beta"])
    bar = np.array([beta - found["beta_low"], found["beta_high"] - beta])
    ax.errorbar(x, beta, yerr=bar, fmt="s-", color=OTHER, capsize=3, label="beta read from spacings")
    ax.set_xscale("log")
    ax.set_ylim(0.6, 2.4)
    _words(ax, "Uneven noise taken as isotropic", "effective dimension", "1 where the model is right")


def main() -> None:
    """Runs, draws and records."""
    options = script_options("The Dyson diffusion and a rolling window.", "examples/theory/dyson.py")
    quick = Settings(
        moves=200, paths=20, finest=128, settled=30, settled_steps=(6, 12), windows=10, stepped=20, draws=30, spaced=300
    )
    settings = quick if options.quick else Settings()
    rng = np.random.default_rng(SEED)
    found, spacings = settled(settings, rng)
    numbers = {
        "pair": pair_rates(settings, rng),
        "uneven_drift_deviation": uneven_drift(settings, rng),
        "convergence": convergence(settings, rng),
        "settled": found,
        "lag": by_lag(settings, rng),
        "width": by_width(settings, rng),
        "energy_memory": energy_memory(settings, rng),
        "covariance": by_covariance(settings, rng),
    }
    said = sentences(numbers)
    print("\n".join(said))
    draw(numbers, spacings, options)
    save(
        options.results / "dyson.json",
        command=options.command,
        settings={
            **asdict(settings),
            "seed": SEED,
            "width": WIDTH,
            "parameters": PARAMETERS,
            "distances": DISTANCES,
            "short": SHORT,
            "steps": STEPS,
            "start": START,
            "lags": LAGS,
            "widths": WIDTHS,
            "exponents": EXPONENTS,
            "covariance": COVARIANCE,
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
