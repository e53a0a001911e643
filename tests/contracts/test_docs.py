"""Nothing documented goes unexecuted: code blocks, examples, the quantities page, links and options.

Every fenced block marked `python` runs, page by page in one namespace and one empty folder. Blocks that cannot run are
marked `py`, `sh` or `text`.
"""

import dataclasses
import importlib
import inspect
import json
import re
import runpy
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import spectral_edge as se
from spectral_edge import cli, experiments, simulate_command
from spectral_edge.simulate.bbp import Bbp
from spectral_edge.simulate.dyson import Dyson
from spectral_edge.simulate.feedback import Feedback
from spectral_edge.simulate.flow import Flow
from spectral_edge.simulate.quadratic import Quadratic
from spectral_edge.studies import STUDIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
THEORY = [page for page in sorted((DOCS / "theory").glob("*.md")) if page.stem not in ("index", "reference")]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
VERBS = ("demo", "run", "study", "data", "scan", "simulate", "report", "claims", "doctor")
MODELS = {"flow": Flow, "quadratic": Quadratic, "dyson": Dyson, "bbp": Bbp, "feedback": Feedback}

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not part of an installed package")


def blocks(page):
    """The code of each executable block, moved to its own line number so that a failure names its place."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, found.start(1)) + found.group(1) for found in BLOCK.finditer(text)]


def anchors(page):
    """The anchors that headings get."""
    text = ANY_BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"[\s-]+", "-", plain))
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_blocks_run_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__docs__"}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), namespace)


@pytest.mark.parametrize("name", ["index.md", "monitor.md", "scan.md", "trace-format.md"])
def test_pages_that_teach_have_blocks_that_run(name):
    assert blocks(DOCS / name)


# The example for several ranks is started by torchrun, in test_distributed.py.
ALONE = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "distributed"]


@pytest.mark.parametrize("path", ALONE, ids=lambda p: p.name)
def test_examples_run_and_leave_nothing_behind(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 5
    assert not list(tmp_path.iterdir())


FIGURES = [path for folder in ("theory", "consistency") for path in sorted((ROOT / "examples" / folder).glob("*.py"))]


@pytest.mark.parametrize("path", FIGURES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_scripts_of_figures_run_and_say_what_they_found(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--quick"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    recorded = json.loads((tmp_path / "results" / path.parent.name / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert recorded["command"] == f"python examples/{path.parent.name}/{path.name} --quick"
    assert recorded["numbers"]
    full = json.loads((ROOT / "results" / path.parent.name / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert full["command"] == f"python examples/{path.parent.name}/{path.name}"
    assert keys(full["numbers"]) == keys(recorded["numbers"]), "run the script again: it now gives other numbers"


def keys(value):
    """The paths of names in a nested result; items of lists have none."""
    if not isinstance(value, dict):
        return set()
    return {(name, *inner) for name, below in value.items() for inner in (keys(below) or {()})}


def test_the_watching_example_keeps_a_trace_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["watch_a_run.py", str(tmp_path / "run")])
    runpy.run_path(str(ROOT / "examples" / "watch_a_run.py"), run_name="__main__")
    assert len(se.open_trace(tmp_path / "run").steps) == 40


def test_the_quantities_page_is_what_the_tool_makes():
    made = runpy.run_path(str(ROOT / "tools" / "make_quantities_page.py"))["page"]()
    written = (DOCS / "quantities.md").read_text(encoding="utf-8")
    assert written == made, "run: python tools/make_quantities_page.py"
    for name in (*se.QUANTITIES, *(outcome.name for outcome in se.Outcome)):
        assert f"| `{name}` |" in written


def test_the_reference_of_the_theory_is_what_the_tool_makes():
    tool = runpy.run_path(str(ROOT / "tools" / "make_theory_reference.py"))
    written = (DOCS / "theory" / "reference.md").read_text(encoding="utf-8")
    assert written == tool["page"](), "run: python tools/make_theory_reference.py"
    for page in THEORY:
        text = page.read_text(encoding="utf-8")
        assert text == tool["linked"](text), "run: python tools/make_theory_reference.py"


def test_the_chapter_on_experiments_is_what_the_records_say(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("make_experiments")
    assert tool.out_of_date(tool.RESULTS, tool.RESULTS / "experiments") == [], "run: python tools/make_experiments.py"


def test_kept_readings_are_what_the_traces_give(monkeypatch):
    """Of the first pair of every study; the others are as old as their records, which the test above compares."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    records, readings = (importlib.import_module(f"experiment_pages.{name}") for name in ("records", "readings"))
    studies = records.load(ROOT / "results")
    for name, study in studies.items():
        kept = readings.load(ROOT / "results" / "experiments", name)
        chosen = [run for run in study.recorded if run.name in kept][:2]
        for run in chosen:
            again, found = (
                list(leaves(value)) for value in (readings.read(studies, study, run), kept[run.name]["readings"])
            )
            assert [path for path, _ in again] == [path for path, _ in found], "run: make_experiments.py --again"
            assert [value for _, value in again] == pytest.approx([value for _, value in found], rel=1e-4, abs=1e-7)


def leaves(value, path=()):
    """Every number of nested values, with where it stands; other values are part of that."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from leaves(inner, (*path, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value
    else:
        yield (*path, value), 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_resolve(page):
    for target in LINK.findall(ANY_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor.startswith("spectral_edge."):
            documented = re.findall(r"^::: (\S+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            module = next((name for name in documented if anchor.startswith(f"{name}.")), None)
            assert module is not None, f"{page.name} links to {target}"
            attrgetter(anchor.removeprefix(f"{module}."))(importlib.import_module(module))
            continue
        if anchor:
            assert anchor in anchors(place), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {page.relative_to(DOCS)}\n" in navigation for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", THEORY, ids=lambda p: p.name)
def test_equations_are_numbered_once_and_figures_have_scripts(page):
    text = page.read_text(encoding="utf-8")
    tags = re.findall(r"\\tag\{(\w+)\}", text)
    assert len(tags) == len(set(tags))
    assert text.count("$$") // 2 == len(tags), "an equation without number"
    for figure in re.findall(r"!\[[^\]]+\]\(\.\./images/theory/(\w+)\.png\)", text):
        made = any(f"{figure}.png" in script.read_text(encoding="utf-8") for script in FIGURES)
        assert made, f"nothing makes {figure}.png"


def options(heading):
    """The options in the tables of a section of the command-line page, with what stands beside them."""
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    section = re.search(rf"^{heading}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL).group(1)
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")]
    return {option: row[1].strip() for row in rows for option in re.findall(r"`(--[a-z-]+)`", row[0])}


def typed(names):
    return {f"--{name.removeprefix('as_').rstrip('_').replace('_', '-')}" for name in names}


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_page_lists_each_option_and_no_other(verb):
    function = simulate_command.flow if verb == "simulate" else getattr(cli, verb)
    assert set(options(f"## {verb}")) == typed(set(inspect.signature(function).parameters) - {"settings"})


@pytest.mark.parametrize("model", MODELS)
def test_the_command_line_page_lists_each_parameter_of_a_model_with_its_default(model):
    listed = options(f"### simulate {model}")
    fields = dataclasses.fields(MODELS[model])
    assert set(listed) == typed(field.name for field in fields)
    for field in fields:
        (option,) = typed([field.name])
        value = field.default
        if isinstance(value, bool):
            assert listed[option] == "off"
            assert value is False
        elif isinstance(value, tuple):
            assert [float(v) for v in listed[option].split()] == list(value)
        else:
            assert type(value)(listed[option]) == value


def test_the_log_keys_are_those_of_the_page():
    text = (DOCS / "monitor.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(spectral/[^`]+)` \|", text, re.MULTILINE))
    source = inspect.getsource(se.EdgeReading.scalars)
    named = set(re.findall(r'"(\w+)"', source)) - {"k_star_raw"}
    assert listed == {f"spectral/{name}" for name in named} | {"spectral/group/NAME/gap_ratio"}


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert all(f"spectral_edge.{name}" in text for name in se.__all__)


def test_the_verbs_of_the_page_are_the_commands():
    assert {name for name in cli.app if not name.startswith("-")} == set(VERBS)


def named(heading):
    """The rows of a section of the command-line page that begin with a name rather than an option."""
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    section = re.search(rf"^{heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL).group(1)
    rows = [line.split("|")[1:-1] for line in section.splitlines() if re.match(r"\| `[a-z0-9]", line)]
    return {row[0].strip(" `"): row[1:] for row in rows}


def test_the_command_line_page_names_every_family_with_its_sizes():
    sizes = {name: tuple(re.findall(r"`(\w+)`", row[-1])) for name, row in named("## run").items()}
    assert sizes == {name: kind.sizes for name, kind in experiments.FAMILIES.items()}


def test_the_command_line_page_names_every_study():
    assert set(named("## study")) == set(STUDIES)
