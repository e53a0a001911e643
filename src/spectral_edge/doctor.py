"""What is installed here, which engine a monitor would use, and what is missing for which extra."""

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

EXTRAS = {"plots": ("matplotlib",), "report": ("matplotlib", "jinja2"), "pandas": ("pandas",)}
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
        "engine": {"exact": "used at any size; keeps 1 + horizon copies of the watched parameters"},
        "extras": {name: _extra(name, packages) for name, packages in EXTRAS.items()},
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
