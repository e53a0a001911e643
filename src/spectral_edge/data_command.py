"""The verb `data` of the command line: the data set of a family as text, for others to use or check."""

import filecmp
import os
import tempfile
from pathlib import Path

from rich.console import Console

from spectral_edge import experiments
from spectral_edge.errors import InputError, unwritable
from spectral_edge.run_command import Settings, Size, configured
from spectral_edge.terminal import Json, print_json

CORPUS = "corpus"
"""Named in a family's place: the real text that a package ships."""


def data(
    family: str,
    *,
    size: Size = "cpu",
    seed: int = 42,
    set_: Settings = None,
    out: Path | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Write the generated data set of a family in its field's usual text format, or fetch real text for a shift.

    Args:
        family: Family of experiments; or corpus, which downloads real text for shift runs and needs the network.
        size: Preset.
        seed: Seed of the data; those of scan and dyck are the same for every seed.
        set_: A setting.
        out: Folder to write to; data/FAMILY-SIZE-SEED by default, data/corpus for corpus.
        as_json: Print one JSON object and nothing else.
        quiet: Print nothing but errors.
    """
    console = Console(quiet=quiet or as_json, highlight=False)
    if family == CORPUS:
        from spectral_edge.experiments.corpus import fetch_corpus

        folder = out or Path("data") / CORPUS
        with console.status("fetching"):
            counts = {path.name: _count(path) for path in fetch_corpus(folder)}
    else:
        config = configured(family, {"size": size, "seed": seed}, set_ or ())
        folder = out or Path("data") / f"{family}-{size}-{config.seed}"
        with console.status("writing"):
            counts = write_lines(config, folder)
    if as_json:
        print_json({"family": family, "folder": str(folder), "lines": counts})
        return
    for name, count in counts.items():
        console.print(f"{folder / name}: {count:,} lines", markup=False, soft_wrap=True)


def write_lines(config: experiments.RunConfig, folder: Path) -> dict[str, int]:
    """Writes the files of a data set; none is touched if one is there with another content.

    Args:
        config: whose data.
        folder: where to; made if needed.

    Returns:
        The name of each file to its lines.

    Raises:
        InputError: where a file of another content is in the way, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _written(config, folder)
    except OSError as error:
        raise unwritable(f"folder {folder}", error, remedy="choose another --out") from error


def _written(config: experiments.RunConfig, folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        fresh, file = Path(place), None
        try:
            for name, line in config.task.lines(config.seed):
                if name not in counts:
                    counts[name] = 0
                    if file is not None:
                        file.close()
                    file = (fresh / name).open("w", encoding="utf-8", newline="\n")
                assert file is not None
                file.write(line + "\n")
                counts[name] += 1
        finally:
            if file is not None:
                file.close()
        for name in counts:
            if (folder / name).exists() and not filecmp.cmp(folder / name, fresh / name, shallow=False):
                raise InputError(
                    f"file {folder / name}",
                    expected="none, or one with the same lines",
                    found="one with others",
                    remedy="choose another --out",
                )
        for name in counts:
            os.replace(fresh / name, folder / name)
    return counts


def _count(path: Path) -> int:
    with path.open(encoding="utf-8", errors="replace") as file:
        return sum(1 for _ in file)
