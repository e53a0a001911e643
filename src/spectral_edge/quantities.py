"""The vocabulary: every named quantity, its symbol, shape, unit, definition and source.

Notation. X is the W x P matrix of the window's updates (rows, newest last), G = X X^T with eigenvalues
lambda_1 >= ... >= lambda_W, sigma_j = sqrt(lambda_j) the singular values of X, u_j and v_j its left (time) and
right (parameter) directions, M = X^T X. `u` is the parameters' unit; a window's memory and null are described in
`spectral_edge.measure.nulls`. "Thesis" is arXiv 2603.28964. Positions j and k* count from 1.
"""

from dataclasses import dataclass
from typing import Literal

Shape = Literal["scalar", "W", "W-1"]
Family = Literal["spectrum", "edge", "memory", "stability", "overlap", "null"]
Stance = Literal["published", "corrected", "null", "descriptive"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One named quantity.

    Attributes:
        name: the name under which it is found everywhere.
        symbol: how the documentation writes it.
        shape: "scalar", "W" (one value a mode or a stride) or "W-1" (one value a ratio).
        unit: "u" is the parameters' unit; "1" has none.
        family: which computation yields it.
        stance: as published, corrected, against its null, or merely descriptive.
        needs: what must have been recorded.
        definition: the formula in words.
        reference: where it comes from.
    """

    name: str
    symbol: str
    shape: Shape
    unit: str
    family: Family
    stance: Stance
    needs: str
    definition: str
    reference: str


_L1 = "lag rows, L >= W s"
_L2 = "lag rows, L >= (W+1) s"
_L3 = "lag rows, L >= 2 W s"
_OURS = "this library"


def _table(*rows: Quantity) -> dict[str, Quantity]:
    return {row.name: row for row in rows}


# fmt: off
QUANTITIES: dict[str, Quantity] = _table(
    Quantity("sigma", "sigma_j", "W", "u", "spectrum", "published", _L1,
             "Singular values of the window, largest first. Never zeroed: a value under the rank floor is "
             "rounding.", "thesis, trajectory matrix"),
    Quantity("rank", "r", "scalar", "1", "spectrum", "descriptive", _L1,
             "Number of eigenvalues above 1e-10 lambda_1, the floor below which directions and ratios are "
             "rounding.", _OURS),
    Quantity("ratios", "R_j", "W-1", "1", "edge", "published", _L1,
             "sigma_j / sigma_{j+1} for j < rank; undefined elsewhere.", "thesis, intra-signal gap"),
    Quantity("k_star_raw", "k*", "scalar", "1", "edge", "published", _L1,
             "argmax_j R_j over j < rank: the thesis' definition. Often the tail on real spectra.",
             "thesis, definition of k*"),
    Quantity("k_star_weighted", "k*_w", "scalar", "1", "edge", "published", _L1,
             "argmax_j (sigma_j / sum sigma) R_j: what the grokking tables report. It is 1 in four of five windows"
             " of pure noise.", "the author's replication scripts"),
    Quantity("k_star_restricted", "k*_r", "scalar", "1", "edge", "published", _L1,
             "argmax_j R_j over j <= W/2.", "arXiv 2603.15678, figures"),
    Quantity("k_star_abs", "k*_a", "scalar", "1", "edge", "descriptive", _L1,
             "argmax_j (sigma_j - sigma_{j+1}).", _OURS),
    Quantity("gap_ratio", "R", "scalar", "1", "edge", "published", _L1,
             "R_j at k*.", "thesis"),
    Quantity("gap_sigma", "g", "scalar", "u", "edge", "published", _L1,
             "sigma_{k*} - sigma_{k*+1}.", "thesis"),
    Quantity("gap_lambda", "g_lambda", "scalar", "u^2", "edge", "published", _L1,
             "lambda_{k*} - lambda_{k*+1}.", "thesis"),
    Quantity("g23", "g23", "scalar", "u^2", "edge", "published", _L1,
             "lambda_2 - lambda_3. It follows the squared update norm: read it beside g23_normalized.",
             "arXiv 2604.06256; replication scripts"),
    Quantity("g23_normalized", "g23 / tr G", "scalar", "1", "edge", "corrected", _L1,
             "g23 divided by the trace of G.", _OURS),
    Quantity("effective_rank", "exp H", "scalar", "1", "spectrum", "descriptive", _L1,
             "exp of the entropy of lambda_j / sum lambda: the effective rank of G.", "Roy and Vetterli 2007"),
    Quantity("gram_trace", "tr G", "scalar", "u^2", "spectrum", "descriptive", _L1,
             "Sum of the squared norms of the window's updates.", "thesis"),
    Quantity("update_norm", "|d_t|", "scalar", "u", "memory", "descriptive", _L1,
             "Norm of the newest update of the window.", _OURS),
    Quantity("lag1_cosine", "c_1", "scalar", "1", "memory", "descriptive", _L1,
             "Mean cosine of the window's neighbouring updates.", _OURS),
    Quantity("coherence", "c", "scalar", "1", "memory", "corrected", _L1,
             "Mean cosine over all pairs of the window's updates, with its sign: drift is positive, oscillation "
             "negative.", _OURS),
    Quantity("progress_share", "(1^T u_j)^2 / W", "W", "1", "memory", "corrected", _L1,
             "How much of mode j moves the model rather than jitters: 1 for drift, 0 for oscillation.", _OURS),
    Quantity("mean_square_displacement", "MSD_k", "W", "u^2", "memory", "descriptive", _L1,
             "Mean squared displacement over k successive updates, k = 1..W: grows as k for diffusion, k^2 for "
             "drift.", _OURS),
    Quantity("alpha_pub", "alpha_j", "W", "1", "stability", "published", _L2,
             "max(0, 1 - |d lambda|^2 / gap_j^2), d lambda the change of the eigenvalue vector between windows one"
             " observation apart, gap_j the distance to the nearest other eigenvalue. Large in pure noise.",
             "replication scripts"),
    Quantity("alpha_dm", "alpha_j^M", "W", "1", "stability", "corrected", _L2,
             "max(0, 1 - |dM|_F^2 / gap_j^2) with the change of M itself and 0 as a further neighbour: what Davis-"
             "Kahan speaks of.", "this library; Yu, Wang and Samworth 2015"),
    Quantity("rotation_deg", "theta_j", "W", "deg", "stability", "corrected", _L2,
             "Angle between v_j and its counterpart one observation before, matched by largest overlap.", _OURS),
    Quantity("adiabatic_rot", "A_rot", "scalar", "1", "stability", "corrected", _L2,
             "|dM|_F / (lambda_{k*} - lambda_{k*+1}): the bound on rotation in one observation.", _OURS),
    Quantity("adiabatic_pub_sigma", "A", "scalar", "1/eta", "stability", "published", _L2 + ", learning rate",
             "|G_t - G_{t-1}|_F / (eta g^2), g in units of sigma. Not a pure number.", "thesis, adiabatic parameter"),
    Quantity("adiabatic_pub_lambda", "A_lambda", "scalar", "1/(eta u^2)", "stability", "published",
             _L2 + ", learning rate",
             "The same with g in units of lambda.", "thesis, adiabatic parameter"),
    Quantity("alpha_overlap", "alpha_j^W", "W", "1", "overlap", "corrected", _L3,
             "Squared cosine between v_j and its counterpart W observations before, matched by largest overlap: "
             "the first lag at which windows share no row.", _OURS),
    Quantity("adiabatic_emp", "A_emp", "scalar", "1", "overlap", "corrected", _L3,
             "1 - |V_k^T V_k'|_F^2 / k*, the part of the leading k* directions lost over one window.", _OURS),
    Quantity("regime", "", "scalar", "1", "overlap", "null", _L3,
             "0 plateau, 1 transition, 2 forgetting: adiabatic_emp against the 5th percentiles of isotropic noise "
             "with the optimizer's memory and of noise without.", _OURS),
    Quantity("coherence_p", "p", "scalar", "1", "null", "null", _L1,
             "One-sided p value of the coherence, whitened by the optimizer's memory, under sign flips of the "
             "updates: small for drift. Exact without memory.", _OURS),
    Quantity("cosine_ratios", "R_j^c", "W-1", "1", "null", "corrected", _L1,
             "Ratios of the window with every update scaled to norm one: free of learning rate and clipping, and "
             "what the band speaks of.", _OURS),
    Quantity("band_percentile", "", "W-1", "%", "null", "null", _L1,
             "Percentile of cosine_ratios (under a named surrogate: of ratios) among structureless updates with "
             "this window's memory and moments.", _OURS),
    Quantity("band_low", "", "W-1", "1", "null", "null", _L1,
             "1st percentile of the j-th ratio in the band.", _OURS),
    Quantity("band_high", "", "W-1", "1", "null", "null", _L1,
             "99th percentile of the j-th ratio in the band.", _OURS),
    Quantity("band_max", "", "scalar", "1", "null", "null", _L1,
             "99th percentile of max_j R_j in the band.", _OURS),
    Quantity("k_star_clear", "k*_c", "scalar", "1", "null", "null", _L1,
             "argmax_j R_j where the largest ratio leaves the band, else undefined.", _OURS),
)
# fmt: on
"""Every quantity by name, in the order in which it is shown."""

ROW_METADATA: dict[str, str] = {
    "learning_rate": "learning rate of the optimizer's first parameter group",
    "weight_decay": "weight decay of the optimizer's first parameter group",
    "clip_factor": "mean factor by which gradients were clipped since the last observation; 1 is unclipped",
    "tokens": "tokens or examples seen so far, as given by the user",
    "data_position": "position in the data stream, as given by the user",
    "loss": "training loss as given to step()",
    "coverage": "share of the model's trainable parameters that is watched",
    "moved_fraction": "share of a fixed sample of at most 65,536 coordinates whose value changed",
    "parameter_norm": "norm of the watched parameters",
    "sketch_error": "relative standard error of an isolated singular value from sketching; 0 when exact",
    "replica_drift": "largest distance between ranks' copies of the same parameters, relative to their norm",
}
"""What is logged with each row besides its inner products; NaN where unknown."""

K_STAR_CONVENTIONS: tuple[str, ...] = ("raw", "weighted", "restricted", "abs", "clear")
"""The conventions that `k_star=` accepts; "raw" is the thesis' own."""

REGIMES: tuple[str, ...] = ("plateau", "transition", "forgetting")
"""Names of the values of `regime`."""
