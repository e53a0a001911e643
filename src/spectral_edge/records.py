"""Frozen results that pass between the layers: inventories, observed rows, readings and events."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, Outcome
from spectral_edge.quantities import QUANTITIES, REGIMES, ROW_METADATA

Array = NDArray[np.float64]
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One watched tensor: its normalised name, shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is watched: the tensors in order, the named groups of them, and how much of the model that is.

    Attributes:
        tensors: every watched tensor once.
        groups: indices into `tensors` by group name.
        trainable: number of trainable parameters of the model, watched or not.
    """

    tensors: tuple[TensorInfo, ...]
    groups: Mapping[str, tuple[int, ...]]
    trainable: int

    @property
    def watched(self) -> int:
        """Number of watched parameters."""
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def coverage(self) -> float:
        """Share of the trainable parameters that is watched."""
        return self.watched / self.trainable if self.trainable else float("nan")


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One observed update.

    Attributes:
        step: optimizer step of the later snapshot.
        time: seconds since the epoch.
        lags: r[l] = <d_t, d_{t-l}> for each stored tensor or group [n, L]; NaN beyond the last restart.
        metadata: values for the names of `ROW_METADATA`; what is missing is unknown.
        ladder: lag rows of updates summed over 2, 4, ... observations, where these became complete.
    """

    step: int
    time: float
    lags: Array
    metadata: Mapping[str, float]
    ladder: Mapping[int, Array] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A vector of parameter space at one observation, in terms of inner products.

    Attributes:
        step: step of the observation at whose parameters the vector was taken.
        name: the probe's name.
        square: squared norm for each stored tensor or group [n].
        lags: products with d_t, d_{t-1}, ..., d_{t-L+1} [n, L]; NaN beyond the last restart.
        following: products with d_{t+1} [n]; NaN until it exists.
        products: products with the other probes of the same step [n], by their names.
    """

    step: int
    name: str
    square: Array
    lags: Array
    following: Array
    products: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to the observation of a run: skipped, restarted, rewound."""

    step: int
    outcome: Outcome
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the spectral edge; detectors fill these."""

    step: int
    name: str
    group: str | None
    message: str


class MeasuredColumn(Protocol):
    """Values of one quantity over windows, with an outcome code for each."""

    @property
    def values(self) -> Array:
        """Values [N] or [N, W]."""
        ...

    @property
    def outcomes(self) -> NDArray[np.int8]:
        """Outcome codes [N]."""
        ...


class _Field(Generic[T_co]):
    """A quantity of a reading as an attribute: None where it is undefined."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        source = QUANTITIES.get(name)
        self.__doc__ = source.definition if source else ROW_METADATA.get(name)

    @overload
    def __get__(self, reading: None, owner: type) -> "_Field[T_co]": ...
    @overload
    def __get__(self, reading: "EdgeReading", owner: type) -> T_co | None: ...
    def __get__(self, reading: "EdgeReading | None", owner: type) -> Any:
        return self if reading is None else reading[self.name]


_Scalar = _Field[float]
_Position = _Field[int]
_Vector = _Field[Array]


@dataclass(frozen=True, slots=True, repr=False)
class EdgeReading:
    """The spectral edge at one observation: every quantity of `spectral_edge.quantities` as an attribute.

    An undefined quantity is None, and `reason(name)` says why. Quantities are computed when first asked for.

    Attributes:
        step: optimizer step of the window's newest update.
        metadata: what was logged with the row, by the names of `ROW_METADATA`.
        groups: the same reading for each named group; empty in a group's own reading.
        events: what the detectors saw; none are attached yet.
        k_star: the convention that feeds gaps and adiabatic parameters.
    """

    step: int
    columns: Mapping[str, MeasuredColumn] = field(repr=False)
    index: int = field(default=0, repr=False)
    metadata: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    groups: Mapping[str, "EdgeReading"] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    events: tuple[Event, ...] = ()
    k_star: str = field(default="raw", repr=False)

    def __getitem__(self, name: str) -> Any:
        """The value of a quantity or of a row's metadata by name; None where undefined.

        Raises:
            InputError: if there is no such quantity.
        """
        if name in ROW_METADATA:
            value = self.metadata.get(name, float("nan"))
            return None if np.isnan(value) else value
        if name not in QUANTITIES:
            raise InputError(
                "quantity",
                expected="a name listed in spectral_edge.quantities",
                found=repr(name),
                remedy="see docs/quantities.md",
            )
        value = self.columns[name].values[self.index]
        if np.isnan(value).all():
            return None
        if QUANTITIES[name].shape != "scalar":
            return value
        if name == "regime":
            return REGIMES[int(value)]
        return int(value) if name.startswith("k_star") or name == "rank" else float(value)

    def reason(self, name: str) -> Outcome:
        """Why a quantity is undefined, or with what reservation it is given; `Outcome.OK` otherwise."""
        if name not in QUANTITIES and name not in ROW_METADATA:
            return self[name]  # which says that there is no such quantity
        if name in ROW_METADATA:
            return Outcome.OK if self[name] is not None else Outcome.NOT_RECORDED
        return Outcome(int(self.columns[name].outcomes[self.index]))

    def __repr__(self) -> str:
        shown = [f"step={self.step}"]
        for name in (f"k_star_{self.k_star}", "gap_ratio", "coherence", "update_norm"):
            value = self[name]
            shown.append(f"{name}={value:.4g}" if value is not None else f"{name}=None")
        return f"EdgeReading({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """Step, metadata and every quantity as plain numbers, lists and None."""
        plain: dict[str, Any] = {"step": self.step}
        for name in (*ROW_METADATA, *QUANTITIES):
            value = self[name]
            plain[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return plain

    def scalars(self) -> Iterator[tuple[str, float]]:
        """The dozen log entries worth a chart, under stable slashed keys; undefined ones are left out."""
        for name in ("gap_ratio", "g23", "g23_normalized", "coherence", "coherence_p", "update_norm", "adiabatic_emp"):
            if (value := self[name]) is not None:
                yield f"spectral/{name}", float(value)
        for key, name in (("k_star", f"k_star_{self.k_star}"), ("k_star_clear", "k_star_clear")):
            if (value := self[name]) is not None:
                yield f"spectral/{key}", float(value)
        for group, reading in self.groups.items():
            if reading.gap_ratio is not None:
                yield f"spectral/group/{group}/gap_ratio", reading.gap_ratio

    sigma = _Vector()
    rank = _Position()
    ratios = _Vector()
    k_star_raw = _Position()
    k_star_weighted = _Position()
    k_star_restricted = _Position()
    k_star_abs = _Position()
    gap_ratio = _Scalar()
    gap_sigma = _Scalar()
    gap_lambda = _Scalar()
    g23 = _Scalar()
    g23_normalized = _Scalar()
    effective_rank = _Scalar()
    gram_trace = _Scalar()
    update_norm = _Scalar()
    lag1_cosine = _Scalar()
    coherence = _Scalar()
    progress_share = _Vector()
    mean_square_displacement = _Vector()
    alpha_pub = _Vector()
    alpha_dm = _Vector()
    rotation_deg = _Vector()
    adiabatic_rot = _Scalar()
    adiabatic_pub_sigma = _Scalar()
    adiabatic_pub_lambda = _Scalar()
    alpha_overlap = _Vector()
    adiabatic_emp = _Scalar()
    regime = _Field[str]()
    coherence_p = _Scalar()
    cosine_ratios = _Vector()
    band_percentile = _Vector()
    band_low = _Vector()
    band_high = _Vector()
    band_max = _Scalar()
    k_star_clear = _Position()

    learning_rate = _Scalar()
    weight_decay = _Scalar()
    clip_factor = _Scalar()
    tokens = _Scalar()
    data_position = _Scalar()
    loss = _Scalar()
    coverage = _Scalar()
    moved_fraction = _Scalar()
    parameter_norm = _Scalar()
    sketch_error = _Scalar()
    replica_drift = _Scalar()
