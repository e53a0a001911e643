"""What is installed here, which engine a monitor would use, and what is missing for which extra."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from spectral_edge.errors import InputError
from spectral_edge.observe import CELLS, EXACT_BELOW, SAMPLE, backend_for, choose_engine, numba_available

EXTRAS = {
    "plots": ("matplotlib",),
    "report": ("matplotlib", "jinja2"),
    "pandas": ("pandas",),
    "fast": ("numba",),
    "hub": ("huggingface_hub",),
}
"""Packages behind each extra, by the names under which they are imported."""


_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def diagnose(model: "Model | None" = None) -> dict[str, dict[str, Any]]:
    """Facts under four headings, as plain strings, and a fifth for a model."""
    return {
        **({} if model is None else {"this model": model.describe()}),
        "versions": {
            "spectral-edge": version("spectral-edge"),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "scipy", "rich", "cyclopts", "safetensors")},
        },
        "devices": {"cpu": f"{torch.get_num_threads()} threads", **_accelerators()},
        "engine": _engines(),
        "extras": {name: _extra(name, packages) for name, packages in EXTRAS.items()},
    }


@dataclass(frozen=True, slots=True)
class Model:
    """A model of which only size and placement are known.

    Attributes:
        parameters: number of watched parameters.
        dtype: their dtype.
        device: where they are: "cpu" or "cuda".
        ranks: number of processes that divide the work.
        horizon: number L of updates.
        ladder: number of longer rows.
        engine: as given to a monitor.

    Raises:
        InputError: if a number or a name cannot be used.
    """

    parameters: int
    dtype: str = "float32"
    device: str = "cpu"
    ranks: int = 1
    horizon: int = 20
    ladder: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        kind = getattr(torch, self.dtype, None)
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise InputError("--dtype", expected="float32, bfloat16, ...", found=self.dtype, remedy="use float32")
        if self.device not in ("cpu", "cuda"):
            raise InputError("--device", expected="cpu | cuda", found=self.device, remedy="use cpu")
        for name, least in (("parameters", 1), ("ranks", 1), ("horizon", 2), ("ladder", 0)):
            if getattr(self, name) < least:
                found = str(getattr(self, name))
                raise InputError(f"--{name}", expected=f"at least {least}", found=found, remedy="use a larger number")

    def describe(self) -> dict[str, str]:
        """Which engine and backend it gets, why, and what that keeps."""
        share = -(-self.parameters // self.ranks)
        choice = choose_engine(self.engine, self.parameters, CELLS, share=share if self.ranks > 1 else None)
        kind: torch.dtype = getattr(torch, self.dtype)
        rings = self.horizon * (1 + self.ladder)
        found = {"parameters": f"{self.parameters:,} in {self.dtype} on {self.device}", "engine": choice.name}
        if self.ranks > 1:
            found["ranks"] = f"{self.ranks}, each with {share:,} parameters, or its shard"
        if choice.name == "exact":
            ring = choice.ring_dtype or kind
            kept = share * (kind.itemsize + rings * ring.itemsize)
            found["backend"] = "compiled (numba)" if self.device == "cpu" and numba_available() else "torch"
            found["keeps"] = f"{_bytes(kept)} a rank: 1 snapshot, {rings} updates in {str(ring).split('.')[-1]}"
        else:
            found["backend"] = backend_for(torch.device(self.device))
            found["keeps"] = f"{_bytes(8 * CELLS * (rings + 1) + 4 * SAMPLE)} of cells, whatever the model's size"
        return {**found, "why": choice.why}


def parse_size(text: str) -> int:
    """A number such as 124M, 1.5e9 or 3_000_000.

    Raises:
        InputError: if it is none.
    """
    plain = text.strip().lower().replace(",", "").replace("_", "")
    factor = _UNITS.get(plain[-1:], 1)
    try:
        size = float(plain[:-1] if plain[-1:] in _UNITS else plain) * factor
        if size >= 1 and size == size:
            return round(size)
    except (ValueError, OverflowError):
        pass
    raise InputError(
        "--parameters", expected="a number such as 124M", found=repr(text), remedy="use digits and K, M or G"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


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
