"""Pictures of the chapter: one pair over time, and all pairs at the step of the transition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiment_pages.book import Book, Pair, Statistic, both
from experiment_pages.readings import conventions
from spectral_edge import open_trace
from spectral_edge.plots.frame import COLOURS, DPI, FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain, ratio_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = ("run", "control")
PANELS = (
    Statistic("g23, published windows", "published", "g23"),
    Statistic("g23, median of the\nlast W windows", "published", "g23_settled"),
    Statistic("g23 / tr G", "published", "g23_normalized"),
    Statistic("tr G", "published", "gram_trace"),
    Statistic("g23, windows of\nsingle observations", "every observation", "g23"),
    Statistic("coherence\nat the step", "published", "coherence", multiplies=False),
)
GROWING = Statistic("g23, growing windows\nas published", "published", "g23_growing")
"""In place of the first panel where the published values that stand beside are of growing windows."""


def over_time(pairs: Sequence[Pair]) -> Figure:
    """Accuracies, g23 and coherence of runs and controls, a column a pair.

    Args:
        pairs: at most four.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = new_figure(900)
    axes = figure.subplots(3, len(pairs), squeeze=False, sharex="col", sharey="row")
    figure.subplots_adjust(left=0.07, right=0.985, top=0.87, bottom=0.075, hspace=0.12, wspace=0.08)
    for column, pair in zip(axes.T, pairs, strict=True):
        _accuracies(column[0], pair)
        _series(column[1:], pair)
        for ax in column:
            plain(ax)
            ax.axvline(pair.run.grok("first_95"), color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            ax.set_xlim(0, pair.control.result["steps"])
        column[0].set_title(pair.run.name, loc="left", fontsize=LARGE, fontweight="bold", color=INK, pad=26)
        column[0].annotate(
            f"0.95 at step {pair.run.grok('first_95'):,}",
            (0, 1),
            xycoords="axes fraction",
            textcoords="offset points",
            xytext=(0, 8),
            fontsize=SMALL,
            color=INK,
        )
        column[2].xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        column[2].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        column[2].set_xlabel("step", fontsize=NORMAL, color=INK)
        column[2].axhline(0, color=FAINT, linewidth=0.8)
    axes[1, 0].set_yscale("log")
    for ax, name in zip(axes[:, 0], ("accuracy", "g23 (u²)", "coherence"), strict=True):
        ax.set_ylabel(name, fontsize=NORMAL, color=INK)
    _legend(figure, lines=True)
    return figure


def _accuracies(ax: Axes, pair: Pair) -> None:
    for role, run in zip(ROLES, (pair.run, pair.control), strict=True):
        metrics = run.result["metrics"]
        for name, style in (("train_accuracy", ":"), ("test_accuracy", "-")):
            if name in metrics:
                values = np.array(metrics[name], dtype=float)
                ax.plot(metrics["step"], values, style, color=COLOURS[role], linewidth=1.9)
    ax.set_ylim(-0.03, 1.05)


def _series(axes: Sequence[Axes], pair: Pair) -> None:
    convention = conventions(pair.run)["published"]
    for role, run in zip(ROLES, (pair.run, pair.control), strict=True):
        stride = convention.interval // run.config["observe_every"]
        series = open_trace(run.folder).edge(convention.window, stride=stride, group=convention.group)
        for ax, name in zip(axes, ("g23", "coherence"), strict=True):
            ax.plot(series["step"], series[name], color=COLOURS[role], linewidth=1.9)


def at_the_step(book: Book, pairs: Sequence[Pair]) -> Figure:
    """How far things fell up to the step, run beside control, a panel a statistic.

    Args:
        book: for the published values.
        pairs: recorded pairs whose run made its transition.
    """
    members = list(dict.fromkeys(pair.run.member for pair in pairs))
    published = any(_falls(book, member) for member in members)
    shown = (GROWING if published else PANELS[0], *PANELS[1:])
    folds = sum(statistic.multiplies for statistic in shown)
    figure = new_figure(600)
    spans = [*[1.0] * folds, 0.22, *[1.0] * (len(shown) - folds)]  # a gap where the axis changes
    grid = figure.add_gridspec(1, len(spans), width_ratios=spans, left=0.08, right=0.99, top=0.78, bottom=0.16)
    first = figure.add_subplot(grid[0, 0])
    axes = [first, *(figure.add_subplot(grid[0, i], sharey=first) for i in range(1, folds))]
    axes += [figure.add_subplot(grid[0, i]) for i in range(folds + 1, len(spans))]
    for ax, statistic in zip(axes, shown, strict=True):
        plain(ax)
        _dots(ax, pairs, statistic, members)
        ax.set_title(statistic.title, loc="left", fontsize=NORMAL, color=INK, pad=8)
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(members) > 2 else {}
        ax.set_xticks(range(len(members)), members, fontsize=SMALL, **turned)
        ax.set_xlim(-0.6, len(members) - 0.4)
    _published(first, book, members)
    drawn = [value for statistic in shown[:folds] for pair in both(pairs, statistic) for value in pair]
    drawn += [fold for member in members for fold in _falls(book, member)]
    first.set_ylim(min([0.9, *drawn]) / 1.15, max([25.0, *drawn]) * 1.3)
    for ax in axes[1:folds]:
        ax.tick_params(labelleft=False)
    ratio_ticks(axes[:folds])
    first.set_ylabel("times fallen up to the step", fontsize=NORMAL, color=INK)
    _legend(figure, lines=False, published=published)
    return figure


def _dots(ax: Axes, pairs: Sequence[Pair], statistic: Statistic, members: Sequence[str]) -> None:
    for place, member in enumerate(members):
        mine = [pair for pair in pairs if pair.run.member == member]
        for at, pair in zip(place + _spread(len(mine)), mine, strict=True):
            values = [statistic.of(pair.of_run), statistic.of(pair.of_control)]
            if None not in values:
                ax.plot([at, at], values, color="#cfcfcf", linewidth=1.2, zorder=1)
            for role, value in zip(ROLES, values, strict=True):
                if value is not None:
                    ax.plot([at], [value], "o", color=COLOURS[role], markersize=8, markeredgecolor="white", zorder=3)
    if statistic.multiplies:
        ax.set_yscale("log")
        ax.axhline(1.5, color=INK, linewidth=1.0, linestyle=(0, (1, 2)))
    else:
        ax.axhline(0, color=FAINT, linewidth=0.8)


def _spread(count: int) -> np.ndarray:
    """Places beside each other, around zero."""
    return np.zeros(1) if count == 1 else np.linspace(-0.3, 0.3, count)


def _falls(book: Book, member: str) -> list[float]:
    """Published declines of single seeds, where there are any."""
    falls: Mapping[str, Mapping[str, float]] = book.published.get(member, {}).get("falls", {})
    return [fall["fold"] for seed, fall in falls.items() if seed != "source"]


def _published(ax: Axes, book: Book, members: Sequence[str]) -> None:
    """Published declines: hollow, right of ours."""
    for place, member in enumerate(members):
        values = _falls(book, member)
        ax.plot([place + 0.42] * len(values), values, "D", markerfacecolor="none", markeredgecolor=INK, markersize=7)


def _legend(figure: Figure, *, lines: bool, published: bool = False) -> None:
    from matplotlib.lines import Line2D

    style = {"linewidth": 2.2} if lines else {"marker": "o", "linestyle": "none", "markersize": 8}
    handles = [
        Line2D([], [], color=COLOURS["run"], label="run, weight decay 1", **style),
        Line2D([], [], color=COLOURS["control"], label="control, weight decay 0, read at the same step", **style),
    ]
    if lines:
        handles.append(Line2D([], [], color=INK, linestyle=":", linewidth=2.2, label="accuracy on the training part"))
    else:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 2)), linewidth=1.2, label="published bar, 1.5"))
    if published:
        hollow = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "color": INK, "markersize": 7}
        handles.append(Line2D([], [], label="published, by seed", **hollow))
    figure.legend(
        handles=handles,
        loc="upper left",
        ncols=len(handles),
        frameon=False,
        fontsize=NORMAL,
        bbox_to_anchor=(0.03, 1.0),
    )


def draw(figure: Figure, path: Path) -> None:
    """Writes a picture without what changes from day to day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
