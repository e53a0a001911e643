"""The direction of imports, parsed from the source: data narrows from parameters to lag rows and never flows back."""

import ast
from pathlib import Path

import pytest

import spectral_edge

ROOT = Path(spectral_edge.__file__).parent
BASE = {"quantities", "records", "errors"}
COMPOSED = {*BASE, "observe", "measure", "events", "trace"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "quantities": set(),
    "records": {"errors", "quantities"},
    "transitions": {"errors"},
    "observe": BASE,
    "measure": BASE,
    "theory": BASE,
    "trace": {*BASE, "measure"},
    "events": {"records", "errors", "quantities"},
    "recording": COMPOSED,
    "meter": {"errors"},
    "guard": {"errors"},
    "series": {*BASE, "measure"},
    "analysis": {*COMPOSED, "series", "report"},
    "live": {*BASE, "measure"},
    "modes": {*BASE, "observe", "measure"},
    "simulate": {*BASE, "measure", "theory"},
    "simulate_command": {*BASE, "simulate", "plots", "terminal"},
    "monitor": {*COMPOSED, "modes", "recording", "meter", "guard", "analysis", "live"},
    "recompute": {*COMPOSED, "recording", "analysis"},
    "scanning": {*COMPOSED, "recording", "recompute"},
    "scan": {*COMPOSED, "recording", "scanning", "recompute", "analysis"},
    "evaluate": {*BASE, "measure", "theory", "trace", "events"},
    "claims": {*BASE, "analysis", "evaluate", "measure", "series", "studies", "theory"},
    "claims_command": {*BASE, "claims", "study_command", "terminal"},
    "plots": {*BASE, "analysis", "claims", "measure", "simulate", "theory"},
    "report": {*BASE, "transitions", "measure", "analysis", "plots"},
    "studies": {*BASE, "experiments", "trace"},
    "experiments": {"<public>", "errors", "transitions"},
    "__init__": {*BASE, "analysis", "monitor", "observe", "scan"},
    "__main__": {"cli"},
    "cli": {
        "<public>",
        *BASE,
        "experiments",
        "report",
        "analysis",
        "claims_command",
        "demo",
        "doctor",
        "data_command",
        "run_command",
        "scan_command",
        "simulate_command",
        "study_command",
        "terminal",
    },
    "data_command": {*BASE, "<public>", "experiments", "run_command", "terminal"},
    "run_command": {"<public>", *BASE, "experiments", "demo", "terminal"},
    "study_command": {*BASE, "studies", "terminal"},
    "scan_command": {"<public>", *BASE, "experiments", "terminal"},
    "terminal": {"errors"},
    "doctor": {"errors", "observe"},
    "demo": {"<public>", *BASE, "experiments", "report", "analysis"},
}
TORCH_FREE = ("quantities", "records", "errors", "measure", "theory", "simulate", "trace", "events", "plots", "report")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "spectral_edge":
                found.update(f"spectral_edge.{alias.name}" for alias in node.names if (ROOT / alias.name).exists())
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_against_the_direction(path):
    part = part_of(path)
    assert part in ALLOWED, f"{part} is not part of the design: give it its place in this table"
    for name in imports(path):
        if name == "spectral_edge":
            assert "<public>" in ALLOWED[part], f"{path} imports the package itself"
        elif name.startswith("spectral_edge."):
            target = name.split(".")[1]
            assert target == part or target in ALLOWED[part], f"{path.relative_to(ROOT)} must not import {name}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) in TORCH_FREE], ids=lambda p: str(p.relative_to(ROOT))
)
def test_torch_stops_at_the_waist(path):
    assert not any(name.split(".")[0] == "torch" for name in imports(path))


def test_extras_are_imported_lazily():
    optional = {
        "matplotlib",
        "jinja2",
        "pandas",
        "numba",
        "llvmlite",
        "triton",
        "huggingface_hub",
        "hessian_eigenthings",
        "submitit",
    }
    for path in MODULES:
        if path.name in ("kernels.py", "intrinsics.py", "triton_fold.py"):
            continue  # only imported where numba or triton is known to be there
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.If))
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in optional or id(node) in guarded, f"{path} imports {name} at its top"
