"""The largest eigenvalues of a Hessian, raw or as the optimizer feels it, by the Lanczos method.

The default solver is ARPACK through SciPy: it restarts, so that its memory is fixed and it stops once the wanted pairs
have converged, and it keeps its basis orthogonal. The package hessian-eigenthings (extra `curvature`) runs the same
operator for a fixed number of steps; it is a second, independent implementation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from spectral_edge.errors import InputError, MissingExtraError, warn
from spectral_edge.modes.gradients import losses_of
from spectral_edge.modes.hessian import Hessian
from spectral_edge.modes.preconditioner import Preconditioner, metric_of
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import Loss, Vector, named, norm, scaled

Array = NDArray[np.float64]
Solver = Literal["arpack", "eigenthings"]

MOSTLY = 0.5
"""Share of an eigenvector on coordinates without gradients, above which `top_eigenvalues` warns."""


@dataclass(frozen=True, slots=True)
class TopEigenvalues:
    """The algebraically largest eigenvalues of H, or of D^-1/2 H D^-1/2 (which are those of D^-1 H).

    Attributes:
        values: eigenvalues [count], largest first; NaN for pairs that the solver gave up on.
        residuals: |A y - value y| [count] of the unit eigenvectors y, by one more product each.
        directions: eigenvectors as displacements of unit norm, y or D^-1/2 y; empty where a value is NaN.
        cost: of the measurement; `hvps` counts each product on each batch.
        at_floor: share of each eigenvector y [count] on coordinates that gradients have hardly ever reached, so that
            D is the optimizer's epsilon there; NaN without a preconditioner.
    """

    values: Array
    residuals: Array
    directions: tuple[Vector, ...]
    cost: Cost
    at_floor: Array

    def outliers(self, threshold: float) -> int | None:
        """How many eigenvalues reach a threshold; None where all that were computed do, so there may be more."""
        reached = int((self.values >= threshold).sum())
        return None if reached == len(self.values) else reached


def top_eigenvalues(
    model: nn.Module,
    losses: Sequence[Loss],
    *,
    count: int = 5,
    preconditioner: Preconditioner | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    tolerance: float = 1e-6,
    limit: int = 300,
    seed: int = 0,
    solver: Solver = "arpack",
) -> TopEigenvalues:
    """The largest eigenvalues of the Hessian of the mean loss.

    The model is as it was afterwards. The gradient's graph of every batch is kept meanwhile, and 20 to 2 count + 1
    vectors in float64 on the host.

    With a preconditioner a parameter that the optimizer never moved is left out, and a warning says where an
    eigenvector lies mostly on coordinates whose D is near epsilon: a batch that excites what training never did has an
    eigenvalue there that epsilon sets.

    Args:
        model: what the losses depend on.
        losses: the loss of each batch; their mean counts.
        count: how many eigenvalues.
        preconditioner: of the optimizer, for D^-1/2 H D^-1/2.
        parameters: a part of the model's trainable parameters by name, for the Hessian's block; all by default.
        tolerance: of an eigenvalue, relative to it, at which ARPACK stops.
        limit: largest number of products on all batches; hessian-eigenthings always takes this many.
        seed: of the first vector.
        solver: "arpack" or "eigenthings".

    Raises:
        InputError: if nothing can be asked: no batch, an unknown solver, or a count outside 1 to the number of
            parameters; and if the Hessian is not finite, or the loss cannot be differentiated twice.
        MissingExtraError: for "eigenthings" without the extra.
    """
    losses, metric = losses_of(losses), metric_of(preconditioner)
    if solver not in get_args(Solver):
        raise InputError("solver", expected=" | ".join(get_args(Solver)), found=repr(solver), remedy="use one of these")
    parameters = named(model) if parameters is None else dict(parameters)
    if metric is not None:
        parameters = {name: tensor for name, tensor in parameters.items() if name in metric.scale}
    size = sum(tensor.numel() for tensor in parameters.values())
    if not losses:
        raise InputError("losses", expected="at least one batch", found="none", remedy="pass [loss]")
    if not 1 <= count <= size:
        raise InputError("count", expected=f"1 to {size}", found=str(count), remedy="ask for fewer eigenvalues")
    meter = Meter()
    with undisturbed(model), meter:
        hessians = [Hessian(loss, parameters, meter=meter) for loss in losses]

        def product(flat: Array) -> Array:
            vector = _by_name(flat, parameters)
            if metric is not None:
                vector = metric.divided(vector, power=0.5)
            total = np.zeros(size)
            for hessian in hessians:
                found = hessian @ vector
                total += _flat(found if metric is None else metric.divided(found, power=0.5))
            if not np.isfinite(total).all():
                raise InputError(
                    "losses",
                    expected="a finite Hessian",
                    found="NaN or infinity",
                    remedy="check the losses and the parameters",
                )
            return total / len(hessians)

        start = np.random.default_rng(seed).standard_normal(size)
        if solver == "eigenthings":
            values, vectors = _by_eigenthings(product, size, count, min(limit, size), seed)
        elif size <= max(20, 2 * count + 1):
            values, vectors = _dense(product, size)
        else:
            values, vectors = _by_arpack(product, start, count, tolerance, limit)
        order = np.argsort(-values)[:count]
        values, vectors = values[order], vectors[:, order]
        residuals = np.array(
            [np.linalg.norm(product(y) - value * y) for value, y in zip(values, vectors.T, strict=True)]
        )
    missing = np.full(count - len(values), np.nan)
    directions: list[Vector] = []
    at_floor = np.full(count, np.nan)
    for j, y in enumerate(vectors.T):
        vector = _by_name(y, parameters)
        if metric is not None:
            vector = metric.divided(vector, power=0.5)
            at_floor[j] = metric.at_floor(vector)
        directions.append(scaled(vector, 1 / norm(vector)))
    if (lowest := np.flatnonzero(at_floor > MOSTLY)).size:
        warn(
            f"{lowest.size} of {count} eigenvectors (position {', '.join(str(j + 1) for j in lowest)}) lie mostly on "
            "coordinates that gradients have hardly ever reached: epsilon sets those eigenvalues, not training"
        )
    return TopEigenvalues(
        np.concatenate([values, missing]),
        np.concatenate([residuals, missing]),
        tuple(directions),
        meter.cost,
        at_floor,
    )


def _by_arpack(
    product: Callable[[Array], Array], start: Array, count: int, tolerance: float, limit: int
) -> tuple[Array, Array]:
    size = len(start)
    if not product(start).any():  # no Hessian, which ARPACK takes for a fault
        return np.zeros(count), np.eye(size, count)
    basis = min(size - 1, max(20, 2 * count + 1))
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # type: ignore[call-arg]
    # A restart costs basis - count products.
    restarts = max(1, (limit - basis) // max(basis - count, 1))
    try:
        solve: Any = eigsh  # whose stubs know whole tolerances only
        values, vectors = solve(operator, k=count, which="LA", v0=start, ncv=basis, tol=tolerance, maxiter=restarts)
    except ArpackNoConvergence as partial:
        values, vectors = partial.eigenvalues, partial.eigenvectors
    return np.asarray(values, dtype=np.float64), np.asarray(vectors, dtype=np.float64).reshape(size, -1)


def _by_eigenthings(
    product: Callable[[Array], Array], size: int, count: int, steps: int, seed: int
) -> tuple[Array, Array]:
    try:
        import hessian_eigenthings as he  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError(
            "hessian_eigenthings", extra="curvature", purpose="the second Lanczos solver"
        ) from error

    def matvec(vector: Tensor) -> Tensor:
        return torch.from_numpy(product(vector.numpy()))

    operator: Any = he.LambdaOperator(matvec, size=size, device="cpu", dtype=torch.float64)
    # Its default drops orthogonality beyond 50 steps and then returns copies of the largest eigenvalue.
    found: Any = he.lanczos(operator, k=count, max_iter=steps, reorthogonalize=True, which="LA", seed=seed)
    return found.eigenvalues.numpy(), found.eigenvectors.numpy().T


def _dense(product: Callable[[Array], Array], size: int) -> tuple[Array, Array]:
    matrix = np.stack([product(unit) for unit in np.eye(size)])
    return np.linalg.eigh((matrix + matrix.T) / 2)


def _by_name(flat: Array, parameters: Mapping[str, Tensor]) -> Vector:
    found: Vector = {}
    offset = 0
    for name, tensor in parameters.items():
        piece = torch.from_numpy(np.array(flat[offset : offset + tensor.numel()], dtype=np.float64))
        found[name] = piece.reshape(tensor.shape).to(tensor.device)
        offset += tensor.numel()
    return found


def _flat(vector: Mapping[str, Tensor]) -> Array:
    return np.concatenate([piece.detach().double().cpu().numpy().ravel() for piece in vector.values()])
