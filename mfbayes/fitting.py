"""Fitting: trials -> one labelled tree of posterior, data and finished estimates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes._version import __version__
from mfbayes.estimates.difficulty import entropy_by_tier
from mfbayes.errors import InputError
from mfbayes.estimates.balance import density_of_balance_points, describe_balance_points, tabulate_pairs
from mfbayes.following import Design, Priors, following_model, lay_out
from mfbayes.estimates.responses import bin_responses, count_uncertainty, draw_curves
from mfbayes.sampling import Sample, sample
from mfbayes.storage import write_bytes
from mfbayes.trials import Selection, check_trials, select_trials

_HYPERPARAMETERS = ("balance_point_mean", "balance_point_sd", "log_slope_mean", "log_slope_sd", "group_sd")
_STATISTICS = {
    "diverging": "diverging",
    "energy": "energy",
    "logp": "lp",
    "n_steps": "n_steps",
    "depth": "tree_depth",
    "step_size": "step_size",
    "mean_tree_accept": "acceptance_rate",
}
_SINGLE_PRECISION = ("group_effect", "group_model_effect")


def fit(
    trials: pd.DataFrame,
    *,
    subset: str = names.BOTH_CORRECT,
    ci_prob: float = 0.95,
    seed: int = 0,
    method: str = "reference",
    progress: bool = False,
    priors: Priors | None = None,
) -> xr.DataTree:
    """Fit the hierarchical following model and finish every estimate that trials alone give.

    Parameters
    ----------
    trials : DataFrame
        A row a conflict item and model, as `mfbayes.read_trials` returns it; checked again here.
    subset : {"both-correct", "all"}
        Only items that a model answers correctly from each modality alone, or every item.
    ci_prob : float
        Probability of the equal-tailed intervals, in (0, 1).
    seed : int
        The same seed and trials give the same tree on the same machine.
    method : {"reference"}
        The explicit model, sampled by NUTS.
    progress : bool
        Show progress on stderr, where that is a terminal.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    DataTree
        `/posterior`, `/sample_stats`, `/observed_data`, `/constant_data` as ArviZ names them, and
        `/estimates/...`. Its attribute `status` is "ok" or "not-converged": estimates of a fit that
        did not converge are there to be looked into, not to be used.

    Raises
    ------
    InputError
        Where trials or options cannot be used.
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
    if method not in names.METHODS:
        raise InputError(f"Expected method {' or '.join(names.METHODS)}, got {method!r}.")
    checked = check_trials(trials)
    selection = select_trials(checked, subset=subset)
    design = lay_out(selection.trials)
    if not design.uncertainty.size:
        raise InputError("Every choice is 'other', so no trial follows the text or the image. Check the answers.")
    notes = list(selection.notes)
    n_other = int((selection.trials[names.CHOICE] == names.OTHER).sum())
    if n_other:
        notes.append(f"{n_other} of {len(selection.trials)} choices are neither answer: counted, not fitted.")
    if not design.has_repeats:
        notes.append(
            "No group has two trials of one model, so the effect of group and model (v) cannot be told from "
            "chance and is left out."
        )
    drawn = _draw(design, priors=priors, seed=seed, progress=progress)
    posterior = _label(drawn.posterior, design)
    tree = _plant(drawn, posterior, design)
    tree.attrs = {
        "mfbayes_version": __version__,
        "ci_prob": ci_prob,
        "subset": selection.subset,
        "method": method,
        "seed": seed,
        "status": "ok" if drawn.passed else "not-converged",
        "notes": json.dumps(notes, ensure_ascii=False),
    }
    _estimate(tree, posterior, checked, selection)
    return tree


def save_fit(tree: xr.DataTree, path: Path) -> None:
    """Write a fit as netCDF, atomically; group effects in single precision."""
    compressed = {"zlib": True, "complevel": 1}
    encoding = {
        f"/{node}": {
            str(name): compressed | ({"dtype": "float32"} if name in _SINGLE_PRECISION else {})
            for name, values in tree[node].to_dataset().data_vars.items()
            if values.ndim and values.dtype.kind in "fiub"
        }
        for node in ("posterior", "sample_stats", "observed_data", "constant_data")
    }
    write_bytes(path, tree.to_netcdf(engine="h5netcdf", encoding=encoding))


def load_fit(path: Path) -> xr.DataTree:
    """Read a fit into memory.

    Raises
    ------
    InputError
        Where there is no whole fit at the path.
    """
    if not path.is_file():
        raise InputError(f"Expected a fit at {path}, but there is no such file. Run `mfbayes fit` first.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The file {path} is not a whole netCDF file. Run `mfbayes fit` again.") from error
    if "posterior" not in tree.children or "estimates" not in tree.children:
        raise InputError(f"The file {path} is not a fit of mfbayes. Run `mfbayes fit` again.")
    return tree


def _draw(design: Design, *, priors: Priors | None, seed: int, progress: bool) -> Sample:
    gate = ["balance_point", "slope", *_HYPERPARAMETERS]
    keep = [*gate, "intercept", "group_effect"]
    if design.has_repeats:
        gate.append("group_model_sd")
        keep.extend(["group_model_sd", "cell_effect"])
    return sample(following_model(design, priors=priors), keep=keep, gate=gate, seed=seed, progress=progress)


def _label(drawn: xr.Dataset, design: Design) -> xr.Dataset:
    """Draws with labelled subjects and groups, and cells spread over both."""
    posterior = drawn.drop_dims("cell", errors="ignore").drop_attrs()
    posterior = posterior.assign_coords(
        {
            names.SUBJECT: np.array(design.subjects, dtype=object),
            names.MODEL: (names.SUBJECT, np.array(design.subject_model, dtype=object)),
            names.TASK: (names.SUBJECT, np.array(design.subject_task, dtype=object)),
            names.GROUP: np.array(design.groups, dtype=object),
        }
    )
    if design.has_repeats:
        posterior["group_model_effect"] = _spread_cells(drawn["cell_effect"], design)
    return posterior


def _plant(drawn: Sample, posterior: xr.Dataset, design: Design) -> xr.DataTree:
    # ArviZ stacks variables of different dims, which a coordinate that only some of them have prevents.
    labels = [names.MODEL, names.TASK]
    trial = np.arange(design.uncertainty.size)
    constant = xr.Dataset(
        {
            names.DH: ("trial", design.uncertainty, {"long_name": "relative uncertainty"}),
            "subject_index": ("trial", design.trial_subject),
            "group_index": ("trial", design.trial_group),
        }
        | {f"{names.SUBJECT}_{label}": (names.SUBJECT, posterior[label].to_numpy()) for label in labels},
        coords={"trial": trial, names.SUBJECT: posterior[names.SUBJECT].to_numpy()},
    )
    observed = xr.Dataset({"is_text": ("trial", design.is_text.astype(np.int8))}, coords={"trial": trial})
    statistics = drawn.statistics[[name for name in _STATISTICS if name in drawn.statistics]].rename(
        {name: kept for name, kept in _STATISTICS.items() if name in drawn.statistics}
    )
    return xr.DataTree.from_dict(
        {
            "/posterior": posterior.drop_vars(labels),
            "/sample_stats": statistics.drop_attrs(),
            "/observed_data": observed,
            "/constant_data": constant,
            "/estimates/convergence": drawn.convergence,
        }
    )


def _spread_cells(effect: xr.DataArray, design: Design) -> xr.DataArray:
    """Cells over (subject, group): NaN where a subject has no trial of a group."""
    shape = (effect.sizes["chain"], effect.sizes["draw"], len(design.subjects), len(design.groups))
    values = np.full(shape, np.nan, dtype=np.float32)
    values[:, :, design.cell_subject, design.cell_group] = effect.to_numpy()
    return xr.DataArray(values, dims=("chain", "draw", names.SUBJECT, names.GROUP))


def _estimate(tree: xr.DataTree, posterior: xr.Dataset, trials: pd.DataFrame, selection: Selection) -> None:
    """Add the finished numbers that a report draws under `/estimates`."""
    chosen, ci_prob = selection.trials, float(tree.attrs["ci_prob"])
    passed = tree.attrs["status"] == "ok"
    rng = np.random.default_rng(int(tree.attrs["seed"]))
    estimates = {
        "balance_points": describe_balance_points(posterior, chosen, ci_prob=ci_prob, passed=passed, rng=rng),
        "balance_density": density_of_balance_points(posterior),
        "pairwise": tabulate_pairs(posterior),
        "curves": draw_curves(posterior, ci_prob=ci_prob),
        "binned": bin_responses(posterior, chosen, ci_prob=ci_prob, rng=rng),
        "dH_histogram": count_uncertainty(posterior, chosen),
        "entropy_by_tier": entropy_by_tier(trials, ci_prob=ci_prob, rng=rng),
    }
    for name, dataset in estimates.items():
        if dataset is not None:
            tree[f"estimates/{name}"] = xr.DataTree(dataset=dataset)
