"""Fitting: trials -> one labelled tree of posterior, data and finished estimates."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes._version import __version__
from mfbayes.convergence import Sample
from mfbayes.design import Design, lay_out
from mfbayes.errors import CheckError, InputError
from mfbayes.estimates.comparisons import ZONE, check_zone
from mfbayes.estimates.draws import PARTS, labelled_posterior
from mfbayes.finishing import add_checks, add_estimates, add_outcomes, plant, tell_faults
from mfbayes.indices import COLUMNS
from mfbayes.marginal import fast
from mfbayes.marginal.effects import EFFECTS, recover_effects
from mfbayes.priors import Priors
from mfbayes.selection import Selection, select_trials
from mfbayes.storage import write_bytes
from mfbayes.trials import check_trials

if TYPE_CHECKING:
    from mfbayes.sampling import Effort

_STATISTICS = {
    "diverging": "diverging",
    "energy": "energy",
    "logp": "lp",
    "n_steps": "n_steps",
    "depth": "tree_depth",
    "step_size": "step_size",
    "mean_tree_accept": "acceptance_rate",
}


def fit(
    trials: pd.DataFrame,
    *,
    subset: str = names.BOTH_CORRECT,
    ci_prob: float = 0.95,
    seed: int = 0,
    method: str | None = None,
    index: str = names.ENTROPY,
    zone: float = ZONE,
    baseline: str | None = None,
    checks: bool = True,
    lapse: bool = False,
    outcomes: bool = False,
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
    method : {"nuts", "fast", "reference"}, optional
        One model, three tiers: "nuts" samples it with group effects integrated out, "fast" takes mode and
        curvature of the same, "reference" samples it explicitly, group effects and all. By default "nuts",
        and "reference" with `lapse`.
    index : {"entropy", "margin", "max-probability", "nll"}
        The uncertainty whose relative difference is dH; see `mfbayes.indices`.
    zone : float
        Half-width, in units of dH, within which a balance point is a preference too small to matter.
    baseline : str, optional
        The condition that others are compared with; see `estimates.conditions`.
    checks : bool
        Also compare the law in dH with others and fit halves and alternatives; not above 200,000 trials.
    lapse : bool
        Also estimate how often each model answers at random (`mfbayes.lapses`); by method "reference" alone.
    outcomes : bool
        Also fit text, image and other together where `other` is frequent enough, and say whether leaving it out
        moves a balance point (`mfbayes.outcomes`). That fit knows no lapses.
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
    CheckError
        Where a check failed by a fault of its own; its attribute `fit` is the finished fit without that check.
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
    method = choose_method(method, lapse=lapse)
    check_zone(zone)
    checked = check_trials(trials)
    selection = select_trials(checked, subset=subset, index=index)
    design = lay_out(selection.trials)
    if baseline is not None and baseline not in design.subject_condition:
        present = ", ".join(sorted(set(design.subject_condition))) or "none"
        raise InputError(f"Expected a baseline among the conditions of the trials ({present}), got {baseline!r}.")
    notes = [*selection.notes, *_check_design(design, selection)]
    drawn = _draw(design, method=method, lapse=lapse, priors=priors, seed=seed, progress=progress)
    # The effects themselves would be most of the file.
    posterior = _label(drawn.posterior.drop_dims([names.GROUP, "branch"], errors="ignore"), design)
    tree = _make_tree(drawn, posterior, design, selection.trials)
    tree.attrs = {
        "mfbayes_version": __version__,
        "ci_prob": ci_prob,
        "subset": selection.subset,
        "index": selection.index,
        "method": method,
        "seed": seed,
        "status": "ok" if drawn.passed else "not-converged",
        "lapse": int(lapse),
        "outcomes": int(outcomes),
    }
    add_estimates(tree, checked, selection, zone=zone, baseline=baseline)
    plant(tree, {"group_effects": recover_effects(design, drawn.posterior)})
    faults: dict[str, Exception] = {}
    if checks and drawn.passed:
        notes.extend(add_checks(tree, design, checked, selection, priors=priors, faults=faults))
    if lapse:
        from mfbayes.lapses import describe_lapses

        plant(tree, {"lapses": describe_lapses(labelled_posterior(tree), ci_prob=ci_prob)})
        notes.append(
            "Random answers (lapses) are modelled, in curves and predictions too. Parts of differences in TFR are "
            "those of the other answers; other laws, halves and other choices are compared without lapses."
        )
    if drawn.passed:
        notes.extend(
            add_outcomes(tree, selection, wanted=outcomes, zone=zone, priors=priors, progress=progress, faults=faults)
        )
    told = tell_faults(faults)
    tree.attrs["notes"] = json.dumps([*notes, *told], ensure_ascii=False)
    if told:
        raise CheckError(
            f"The fit is finished, but a check of it failed, which is a fault of mfbayes. {' '.join(told)}", tree
        ) from ExceptionGroup("checks of a fit", list(faults.values()))
    return tree


def choose_method(method: str | None, *, lapse: bool) -> str:
    """The tier that was asked for, or the one that fits what was asked for.

    Raises
    ------
    InputError
        If there is no such tier, or it cannot estimate lapses.
    """
    if method is None:
        return names.REFERENCE if lapse else names.NUTS
    if method not in names.METHODS:
        raise InputError(f"Expected method {' or '.join(names.METHODS)}, got {method!r}.")
    if lapse and method != names.REFERENCE:
        raise InputError(
            f"Lapses are estimated by method {names.REFERENCE!r} alone, got {method!r}. Leave the method out, or lapse."
        )
    return method


def _check_design(design: Design, selection: Selection) -> list[str]:
    """Refuse what cannot be fitted, and say what the data cannot tell."""
    trials = selection.trials
    if not design.n_trials:
        raise InputError("Every choice is 'other', so no trial follows the text or the image. Check the answers.")
    if np.ptp(design.uncertainty) == 0:
        raise InputError(
            f"dH is {design.uncertainty[0]:g} in every trial, so nothing can be told of how choices depend on it. "
            f"Check {' and '.join(COLUMNS[selection.index])}."
        )
    notes = []
    n_other = int((trials[names.CHOICE] == names.OTHER).sum())
    if n_other:
        notes.append(f"{n_other} of {len(trials)} choices are neither answer: counted, not fitted.")
    if not design.has_model_effect:
        notes.append(
            "No group has two trials of one model, so the effect of group and model (v) cannot be told from "
            "chance and is left out."
        )
    return notes


def save_fit(tree: xr.DataTree, path: str | Path) -> None:
    """Write a fit as netCDF, atomically."""
    compressed = {"zlib": True, "complevel": 1}
    encoding = {
        f"/{node}": {
            str(name): compressed
            for name, values in tree[node].to_dataset().data_vars.items()
            if values.ndim and values.dtype.kind in "fiub"
        }
        for node in ("posterior", "sample_stats", "observed_data", "constant_data")
    }
    write_bytes(Path(path), tree.to_netcdf(engine="h5netcdf", encoding=encoding))


def load_fit(path: str | Path) -> xr.DataTree:
    """Read a fit into memory.

    Raises
    ------
    InputError
        Where there is no whole fit at the path.
    """
    path = Path(path)
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


def _draw(design: Design, *, method: str, lapse: bool, priors: Priors | None, seed: int, progress: bool) -> Sample:
    if method == names.FAST:
        return fast.approximate(design, priors=priors, seed=seed)
    from mfbayes.sampling import sample

    build, attempts = _choose_model(design, method=method, lapse=lapse)
    spreads = [f"{name}{level}_sd" for name in ("balance_point", "log_slope") for level in _infixes(design)]
    gate = ["balance_point", "slope", "balance_point_mean", "log_slope_mean", *spreads, *design.group_scales]
    gate += ["lapse"] * lapse
    effects = [name for name, there in zip(EFFECTS, (True, design.has_model_effect), strict=True) if there]
    return sample(
        build(design, priors=priors),
        keep=[*gate, "intercept", *(effects if method == names.REFERENCE else ())],
        gate=gate,
        seed=seed,
        progress=progress,
        attempts=attempts,
    )


def _choose_model(design: Design, *, method: str, lapse: bool) -> "tuple[Callable[..., Any], Sequence[Effort]]":
    """How the model of a sampled tier is built and how hard it is tried; PyMC is loaded for explicit graphs only."""
    from mfbayes import sampling

    if method == names.NUTS:
        from mfbayes.marginal.posterior import compile_posterior

        many = design.n_subjects > sampling.MANY_SUBJECTS
        return compile_posterior, sampling.MANY_ATTEMPTS if many else sampling.MARGINAL_ATTEMPTS
    if lapse:
        from mfbayes.lapses import lapsing_model

        return lapsing_model, sampling.LAPSING_ATTEMPTS
    from mfbayes.following import following_model

    return following_model, sampling.ATTEMPTS


def _infixes(design: Design) -> list[str]:
    return ["", *(f"_{level}" for level in design.levels)]


def _label(drawn: xr.Dataset, design: Design) -> xr.Dataset:
    """Draws with labelled subjects."""
    parts = (design.subject_model, design.subject_task, design.subject_condition, design.subject_family)
    return drawn.drop_attrs().assign_coords(
        {names.SUBJECT: np.array(design.subjects, dtype=object)}
        | {part: (names.SUBJECT, np.array(values, dtype=object)) for part, values in zip(PARTS, parts, strict=True)}
    )


def _make_tree(drawn: Sample, posterior: xr.Dataset, design: Design, trials: pd.DataFrame) -> xr.DataTree:
    # ArviZ stacks variables of different dims, which a coordinate that only some of them have prevents.
    trial = np.arange(design.n_trials)
    constant = xr.Dataset(
        {
            names.DH: ("trial", design.uncertainty, {"long_name": "relative uncertainty"}),
            names.H_TEXT: ("trial", trials[names.H_TEXT].to_numpy(np.float64)[design.row], {"units": "nats"}),
            names.H_IMAGE: ("trial", trials[names.H_IMAGE].to_numpy(np.float64)[design.row], {"units": "nats"}),
            "subject_index": ("trial", design.trial_subject),
            "group_index": ("trial", design.trial_group),
        }
        | {f"{names.SUBJECT}_{part}": (names.SUBJECT, posterior[part].to_numpy()) for part in PARTS},
        coords={
            "trial": trial,
            names.SUBJECT: posterior[names.SUBJECT].to_numpy(),
            names.GROUP: np.array(design.groups, dtype=object),
        },
    )
    observed = xr.Dataset({"is_text": ("trial", design.is_text.astype(np.int8))}, coords={"trial": trial})
    statistics = drawn.statistics[[name for name in _STATISTICS if name in drawn.statistics]].rename(
        {name: kept for name, kept in _STATISTICS.items() if name in drawn.statistics}
    )
    return xr.DataTree.from_dict(
        {
            "/posterior": posterior.drop_vars(PARTS),
            "/sample_stats": statistics.drop_attrs(),
            "/observed_data": observed,
            "/constant_data": constant,
            "/estimates/convergence": drawn.convergence,
        }
    )
