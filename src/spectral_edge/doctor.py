"""What is installed here, which engine a monitor would use, and what is missing for which extra."""

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from spectral_edge.observe import CELLS, EXACT_BELOW, numba_available

EXTRAS = {
    "plots": ("matplotlib",),
    "report": ("matplotlib", "jinja2"),
    "pandas": ("pandas",),
    "fast": ("numba",),
    "hub": ("huggingface_hub",),
}
"""Packages behind each extra, by the names under which they are imported."""


def diagnose() -> dict[str, dict[str, Any]]:
    """Facts under four headings, as plain strings."""
    return {
        "versions": {
            "spectral-edge": version("spectral-edge"),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "scipy", "rich", "cyclopts", "safetensors")},
        },
        "devices": {"cpu": f"{torch.get_num_threads()} threads", **_accelerators()},
        "engine": _engines(),
        "extras": {name: _extra(name, packages) for name, packages in EXTRAS.items()},
    }


def _engines() -> dict[str, str]:
    limit = EXACT_BELOW * CELLS
    backend = "compiled (numba)" if numba_available() else "torch; the extra fast is several times faster on a CPU"
    return {
        "exact": f"below {limit:,} watched parameters; keeps 1 + horizon copies of them",
        "sketch": f"from {limit:,} on; keeps {CELLS:,} float64 cells an update; {backend}",
    }


def _accelerators() -> dict[str, str]:
    if not torch.cuda.is_available():
        return {"cuda": "none"}
    return {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _extra(name: str, packages: tuple[str, ...]) -> str:
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return "installed"
    return f"missing {', '.join(missing)}: pip install 'spectral-edge[{name}]'"
