"""Figures: what is drawn, read from the Figure object, and that no words lie on top of each other."""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import spectral_edge.plots as plots
from spectral_edge.errors import MissingExtraError
from spectral_edge.measure import Decline
from spectral_edge.plots import Mark, RunView
from spectral_edge.plots.coherence import MOST_LABELS
from spectral_edge.plots.labels import _apart

FIGURES = {
    "accuracy": (plots.accuracy_figure, 2),
    "spectrum": (plots.spectrum_figure, 1),
    "ratios": (plots.ratios_figure, 3),
    "coherence": (plots.coherence_figure, 3),
    "decline": (plots.decline_figure, 2),
    "stability": (plots.stability_figure, 4),
}
WINDOW = 5


def columns(count, *, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    steps = np.arange(count) * 10 + 50
    sigma = scale * np.sort(np.exp(rng.normal(size=(count, WINDOW))), axis=1)[:, ::-1]
    lam = sigma**2
    ratios = sigma[:, :-1] / sigma[:, 1:]
    position = np.argmax(ratios, axis=1) + 1.0 if count else np.empty(0)
    unit = rng.uniform(size=(count, WINDOW))
    return {
        "step": steps,
        "sigma": sigma,
        "ratios": ratios,
        "cosine_ratios": ratios**0.8,
        "gap_ratio": ratios.max(axis=1, initial=1.0),
        "band_max": np.full(count, 2.0),
        "k_star_raw": position,
        "k_star_weighted": np.ones(count),
        "k_star_clear": np.where(ratios.max(axis=1, initial=1.0) > 2, position, np.nan),
        "g23": lam[:, 1] - lam[:, 2],
        "gram_trace": lam.sum(axis=1),
        "g23_normalized": (lam[:, 1] - lam[:, 2]) / lam.sum(axis=1),
        "coherence": rng.uniform(-1, 1, size=count),
        "update_norm": sigma[:, 0],
        "adiabatic_emp": unit[:, 0],
        "alpha_overlap": unit,
        "progress_share": unit,
        "regime": np.arange(count) % 3.0,
    }


def view(role="run", *, count=40, layers=3, metrics=True, marks=True, seed=0):
    series = columns(count, seed=seed)
    steps = np.arange(0, 500, 25)
    curves = {
        "train_accuracy": (steps, np.linspace(0, 1, len(steps))),
        "test_accuracy": (steps, np.linspace(0, 1, len(steps)) ** 3),
        "train_loss": (steps, np.linspace(3, 0.01, len(steps))),
        "test_loss": (steps, np.linspace(3, 0.02, len(steps))),
    }
    named = {f"encoder.layers.{i}": columns(count, seed=seed + i + 1) for i in range(layers)}
    return RunView(
        role=role,
        title=f"{role}: a title of some length",
        series=series,
        layers=named,
        metrics=curves if metrics else {},
        marks=(Mark(300, "grok step 300"),) if marks else (),
        falls={"g23": Decline(60, 5.0, 300, 0.5), "g23_normalized": Decline(60, 0.5, 300, 0.1)} if marks else {},
    )


def words(figure):
    """Every visible text with its box in pixels."""
    renderer = figure.canvas.get_renderer()
    figure.draw_without_rendering()
    found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip() and text.get_visible()]
    shown = []
    for text in found:
        box = text.get_window_extent(renderer)
        # Axes keep ticks outside of their limits, which are never drawn.
        if box.width and figure.bbox.padded(1).contains(*box.p0) and not _unused_tick(text, figure):
            shown.append((text.get_text(), box))
    return shown


def _unused_tick(text, figure):
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return not (tick.label1.get_visible() and low <= tick.get_loc() <= high)
    return False


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("name", FIGURES)
def test_one_column_a_run_with_shared_axes(name, runs):
    draw, rows = FIGURES[name]
    figure = draw([view(), view("control", seed=7)][:runs])
    assert isinstance(figure, Figure)
    assert len(figure.axes) == rows * runs
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    for row in range(rows):
        assert len({ax.get_ylim() for ax in figure.axes[row * runs : (row + 1) * runs]}) == 1
    assert figure.get_figwidth() * figure.dpi == 1600


@pytest.mark.parametrize("name", FIGURES)
def test_every_panel_marks_the_step(name):
    draw, _ = FIGURES[name]
    figure = draw([view(), view("control")])
    for ax in figure.axes:
        assert any(list(line.get_xdata()) == [300, 300] for line in ax.lines)
    assert [text for text, _ in words(figure)].count("grok step 300") == 2


def test_lines_are_the_columns_given():
    one = view()
    ax = plots.spectrum_figure([one]).axes[0]
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 40]
    np.testing.assert_array_equal(drawn, one.series["sigma"].T)
    assert ax.get_yscale() == "log"
    normalised, raw, positions = plots.ratios_figure([one]).axes
    gap = next(line for line in raw.lines if line.get_label() == "ratios")
    np.testing.assert_array_equal(gap.get_ydata(), one.series["gap_ratio"])
    top = next(line for line in normalised.lines if line.get_label() == "cosine_ratios")
    np.testing.assert_array_equal(top.get_ydata(), one.series["cosine_ratios"].max(axis=1))
    assert {line.get_label() for line in positions.lines} >= {"raw", "clear", "weighted"}
    coherent = plots.coherence_figure([one]).axes[1]
    assert sum(len(line.get_xdata()) == 40 for line in coherent.lines) == len(one.layers)


def test_overview_overlays_run_and_control():
    figure = plots.overview_figure([view(), view("control", seed=3)])
    accuracy, gap, coherence, norms = figure.axes
    assert sum(len(line.get_xdata()) == 20 for line in accuracy.lines) == 4
    for ax, count in ((gap, 4), (coherence, 2), (norms, 4)):
        assert sum(len(line.get_xdata()) == 40 for line in ax.lines) == count


@pytest.mark.parametrize("name", [*FIGURES, "overview"])
def test_no_words_overlap(name):
    draw = plots.overview_figure if name == "overview" else FIGURES[name][0]
    shown = words(draw([view(layers=6), view("control", seed=5, layers=6)]))
    assert len(shown) > 15
    clashes = [
        (first, second)
        for i, (first, a) in enumerate(shown)
        for second, b in shown[i + 1 :]
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
    ]
    assert clashes == []


@pytest.mark.parametrize("name", [*FIGURES, "overview"])
def test_nothing_to_draw_is_drawn_without_complaint(name):
    draw = plots.overview_figure if name == "overview" else FIGURES[name][0]
    bare = view(count=0, layers=0, metrics=False, marks=False)
    figure = draw([bare])
    figure.canvas.draw()
    said = " ".join(text for text, _ in words(figure))
    assert "no full window" in said or "nothing logged" in said


@pytest.mark.parametrize("name", [*FIGURES, "overview"])
def test_undefined_values_leave_gaps(name):
    draw = plots.overview_figure if name == "overview" else FIGURES[name][0]
    one = view()
    for source in (one.series, *one.layers.values()):
        for key, column in source.items():
            if key != "step":
                column[10:15] = np.nan
    figure = draw([one])
    figure.canvas.draw()


def test_all_undefined_is_drawn_without_complaint():
    one = view()
    for source in (one.series, *one.layers.values()):
        for key, column in source.items():
            if key != "step":
                column[:] = np.nan
    for draw in (plots.overview_figure, *(draw for draw, _ in FIGURES.values())):
        draw([one]).canvas.draw()


def test_names_stand_at_the_end_of_their_own_line():
    short = view("control", count=15, seed=3)
    figure = plots.spectrum_figure([view(), short])
    figure.canvas.draw()
    for ax, last in zip(figure.axes, (440, 190), strict=True):
        named = [text for text in ax.texts if text.get_text().startswith("$")]
        assert len(named) == WINDOW
        low, high = ax.get_xlim()
        ends = {round(text.get_position()[0] - (last - low) / (high - low), 3) for text in named}
        assert ends == {0.015}


def test_names_at_different_ends_do_not_push_each_other():
    figure = plots.overview_figure([view(), view("control", count=15, seed=0)])
    figure.canvas.draw()
    across = {round(text.get_position()[0], 2) for text in figure.axes[2].texts}
    assert len(across) == 2


def test_dots_of_the_decline_are_told_apart_and_explained():
    figure = plots.overview_figure([view(), view("control")])
    norms = figure.axes[3]
    dots = {line.get_label(): line for line in norms.lines if line.get_marker() == "o"}
    filled, ring = dots["fall of run"], dots["fall of control"]
    np.testing.assert_array_equal(filled.get_xydata(), ring.get_xydata())
    assert ring.get_markerfacecolor() == "none"
    assert filled.get_markerfacecolor() != "none"
    assert ring.get_markersize() > filled.get_markersize()
    assert [text.get_text() for text in norms.get_legend().get_texts()] == ["run", "control"]
    assert "dots: peak and value read" in "".join(norms.get_title(loc) for loc in ("left", "center", "right"))


def test_declines_are_written_as_folds():
    said = [text for text, _ in words(plots.decline_figure([view()]))]
    assert any("g23: 10-fold" in text for text in said)
    assert any("g23 / tr G: 5-fold" in text for text in said)


def test_an_undefined_g23_is_said():
    one = view(marks=False)
    one.series["g23"][:] = one.series["g23_normalized"][:] = np.nan
    assert "g23 is undefined" in [text for text, _ in words(plots.decline_figure([one]))]


def test_stability_shows_the_position_it_depends_on_and_no_regime():
    one = view()
    del one.series["regime"]
    figure = plots.stability_figure([one])
    dots = next(line for line in figure.axes[1].lines if line.get_label() == "raw")
    np.testing.assert_array_equal(dots.get_ydata(), one.series["k_star_raw"])
    assert not any(ax.collections or ax.get_legend() for ax in figure.axes)


def test_many_layers_name_only_some():
    figure = plots.coherence_figure([view(layers=30)])
    named = [text for text, _ in words(figure) if text.startswith("encoder.layers.")]
    assert len(named) == 2 * MOST_LABELS


def test_labels_move_apart_and_stay_above_the_axis():
    moved = _apart([0.0, 0.0, 0.01, 0.5, 0.505, 0.9], gap=0.05)
    assert all(b - a >= 0.05 - 1e-12 for a, b in pairwise(moved))
    assert moved[0] >= 0
    assert moved[-1] == 0.9
    assert _apart([], gap=0.1) == []


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    plots.overview_figure([view()]).canvas.draw()
    assert dict(matplotlib.rcParams) == before
    sources = Path(plots.__file__).parent.glob("*.py")
    assert not any("pyplot" in source.read_text() for source in sources)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"spectral-edge\[plots\]"):
        plots.overview_figure([view()])
