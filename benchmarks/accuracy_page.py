"""The page's section on accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

from goals import Records, figure_of, results
from markdown_lines import prose, table


def _percent(pair: Sequence[float] | None) -> str:
    return "-" if pair is None else f"{figure_of(100 * pair[0])} ({figure_of(100 * pair[1])}) %"


def accuracy_section(records: Records) -> list[str]:
    """Real updates, constructed worst cases, a flat spectrum."""
    found = results(records, "accuracy")
    rows = []
    for entry in found["real"]:
        for grouping, by_cells in entry["summary"].items():
            for cells, summary in by_cells.items():
                errors = summary["all"]
                right = "-" if summary["k_named_right"] is None else f"{100 * summary['k_named_right']:.0f} %"
                rows.append(
                    [
                        *prose(f"{entry['task']}, {grouping}, {int(cells):,}"),
                        *(_percent(errors[name]) for name in ("sigma_1", "worst", "R", "g23")),
                        _worst_of(summary["clear"]),
                        _worst_of(summary["clear_and_all_apart"]),
                        _worst_of(summary["close"]),
                        f"{100 * summary['k_kept']:.0f} %",
                        f"{100 * summary['k_named']:.0f} %, right {right}",
                    ]
                )
    sizes = " and ".join(f"{entry['parameters']:,} ({entry['task']})" for entry in found["real"])
    return [
        *prose(
            "Relative errors of sketched singular values against the exact engine: median, with the 95th percentile "
            f"in brackets, over windows of {found['window']} updates and seeds of the sketch. Real updates are "
            f"AdamW's, of {sizes} parameters. R is the largest ratio of neighbours and k\\* its place. Where "
            "neighbours lie close together, a sketch spreads them: the error of a small value is then a spread "
            "rather than a bias, and k\\* is a matter of chance. Therefore errors are also given apart for windows "
            "with sigma_1/sigma_2 of at least 1.05 (clear), for those of them in which all ten differ by 5 % from "
            "their neighbours (all apart), and for the others (close), with the number of window-seed pairs. The "
            "last column is how often the library names a k\\*, rather than saying that it is tied, and how often "
            "that is right."
        ),
        "",
        *table(
            [
                "updates, groups, cells",
                "sigma_1",
                "worst of ten",
                "R",
                "g23",
                "worst, clear",
                "worst, all apart",
                "worst, close",
                "k\\* kept",
                "k\\* named",
            ],
            rows,
        ),
        "",
        *prose(
            f"Constructed worst cases of {found['constructed']['parameters']:,} parameters, "
            f"{found['constructed']['pairs']} pairs of window and seed for each: updates with a structure that some "
            "random projection is blind to, singular values falling from 1 to 1/10. Worst of ten:"
        ),
        "",
        *_constructed(found),
        "",
        *prose(
            "Last row: independent updates, a flat spectrum. Its spread is the band within which no ratio means "
            "anything. The"
        ),
        "spurious largest ratio there, less 1:",
        "",
        *_flat(found["flat"]),
    ]


def _worst_of(errors: Mapping[str, Any] | None) -> str:
    return "-" if errors is None else f"{_percent(errors['worst'])}, {errors['pairs']}"


def _constructed(found: Mapping[str, Any]) -> list[str]:
    sets = found["constructed"]["sets"]
    columns = [(grouping, cells) for grouping, by_cells in next(iter(sets.values())).items() for cells in by_cells]
    rows = [[name, *(_percent(summary[g][c]["all"]["worst"]) for g, c in columns)] for name, summary in sets.items()]
    rows.append(["flat", *(_percent(found["flat"][grouping][cells]["worst"]) for grouping, cells in columns)])
    return table(["updates", *(f"{grouping}, {int(cells):,} cells" for grouping, cells in columns)], rows)


def _flat(flat: Mapping[str, Any]) -> list[str]:
    cells = list(next(iter(flat.values())))
    rows = [
        [grouping, *(_percent([value - 1 for value in by_cells[count]["R"]]) for count in cells)]
        for grouping, by_cells in flat.items()
    ]
    return table(["groups", *(f"{int(count):,} cells" for count in cells)], rows)
