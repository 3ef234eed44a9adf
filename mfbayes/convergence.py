"""Convergence: draws, and the gate that says whether they can be trusted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from arviz_stats import ess, rhat  # type: ignore[attr-defined]

MAX_R_HAT = 1.01
MIN_ESS = 400
MAX_DIVERGENCE_SHARE = 0.005
CHAINS = 4


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draws of a model and whether they can be trusted.

    Attributes
    ----------
    posterior, statistics : Dataset
        Draws over (chain, draw) and the sampler's own statistics.
    convergence : Dataset
        `r_hat`, `ess_bulk`, `ess_tail` over `parameter`; attributes `passed`, `divergences`,
        `divergence_share`, `draws`, `chains`, `attempts`.
    """

    posterior: xr.Dataset
    statistics: xr.Dataset
    convergence: xr.Dataset

    @property
    def passed(self) -> bool:
        """Whether the last attempt passed the gate."""
        return bool(self.convergence.attrs["passed"])


def judge(posterior: xr.Dataset, *, diverging: xr.DataArray, gate: Sequence[str]) -> xr.Dataset:
    """Hold draws against the gate: R-hat <= 1.01, bulk and tail ESS >= 400, divergences <= 0.5 %.

    Parameters
    ----------
    posterior : Dataset
        Draws over (chain, draw).
    diverging : DataArray of bool
        Divergent transitions over (chain, draw).
    gate : sequence of str
        Variables that must pass, each in every element.

    References
    ----------
    Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
    Analysis 16(2), 2021, doi:10.1214/20-BA1221.
    """
    judged = posterior[list(gate)]
    # A chain that never moves has no variance: NaN, which must fail below and not warn here.
    with np.errstate(invalid="ignore", divide="ignore"):
        measures = {
            "r_hat": rhat(judged, method="rank"),  # type: ignore[no-untyped-call]
            "ess_bulk": ess(judged, method="bulk"),  # type: ignore[no-untyped-call]
            "ess_tail": ess(judged, method="tail"),  # type: ignore[no-untyped-call]
        }
    table = xr.Dataset(
        {name: ("parameter", np.array([value for _, value in _elements(found)])) for name, found in measures.items()},
        coords={"parameter": np.array([label for label, _ in _elements(measures["r_hat"])], dtype=object)},
    )
    share = float(diverging.mean())
    passed = (
        bool((table["r_hat"] <= MAX_R_HAT).all())
        and bool((table["ess_bulk"] >= MIN_ESS).all())
        and bool((table["ess_tail"] >= MIN_ESS).all())
        and share <= MAX_DIVERGENCE_SHARE
    )
    table.attrs = {
        "passed": int(passed),
        "divergences": int(diverging.sum()),
        "divergence_share": share,
        "draws": int(posterior.sizes["draw"]),
        "chains": int(posterior.sizes["chain"]),
        "attempts": 1,
        "max_r_hat": MAX_R_HAT,
        "min_ess": MIN_ESS,
        "max_divergence_share": MAX_DIVERGENCE_SHARE,
    }
    return table


def _elements(found: xr.Dataset) -> Iterator[tuple[str, float]]:
    for name, values in found.data_vars.items():
        if values.ndim == 0:
            yield str(name), float(values)
            continue
        for index in np.ndindex(values.shape):
            labels = [
                str(values[dim].values[i]) if dim in values.coords else str(i)
                for dim, i in zip(values.dims, index, strict=True)
            ]
            yield f"{name}[{', '.join(labels)}]", float(values.values[index])
