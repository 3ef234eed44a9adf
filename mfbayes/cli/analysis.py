"""From trials to a finished run folder: fit, balance points, report."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mfbayes._version import __version__
from mfbayes.cli.progress import say
from mfbayes.cli.record import Record
from mfbayes.errors import CheckError, ConvergenceError, InputError
from mfbayes.names import (
    BALANCE_POINTS_FILE,
    DATA_FOLDER,
    ESTIMATES_FOLDER,
    FIT_FILE,
    INDICES,
    ITEM,
    LOGIT_DIFFERENCE,
    METHODS,
    REFERENCE,
    REPORT_FILE,
    STATE,
    SUBSETS,
    TRIALS_FILE,
)
from mfbayes.storage import hash_content, make_folder, write_with

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

UNFINISHED = "unfinished"
"""Attribute of a fit that the switching between layers is still to be added to."""
FAULTY = "faulty"
"""Attribute of a fit of which a check failed by a fault; the same command tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to fit.

    Attributes
    ----------
    subset : {"both-correct", "all"}
        Which conflict trials are fitted.
    ci_prob : float
        Probability of the equal-tailed intervals, between 0 and 1.
    seed : int
        Seed of the sampler.
    method : {"nuts", "fast", "reference"}
        Tier of inference.
    index : {"entropy", "margin", "max-probability", "nll"}
        The uncertainty whose relative difference is dH.
    zone : float
        Half-width of the zone of practical equivalence.
    baseline : str or None
        The condition that others are compared with.
    checks : bool
        Whether other laws, halves and other choices are fitted too.
    lapse : bool
        Whether rates of random answers are estimated, which takes the method "reference".
    outcomes : bool
        Whether text, image and other are fitted together as well.
    switching : bool
        Whether the switching between layers is modelled, where there are traces.
    compare_switching : bool or None
        Whether versions of that model are compared, too; None where that is quick.
    """

    subset: str
    ci_prob: float
    seed: int
    method: str
    index: str
    zone: float
    baseline: str | None
    checks: bool
    lapse: bool
    outcomes: bool
    switching: bool
    compare_switching: bool | None

    def check(self) -> None:
        """Refuse values out of range.

        Raises
        ------
        InputError
            Naming the option.
        """
        if self.subset not in SUBSETS:
            raise InputError(f"Expected --subset {' or '.join(SUBSETS)}, but {self.subset!r} came.")
        if self.method not in METHODS:
            raise InputError(f"Expected --method {' or '.join(METHODS)}, but {self.method!r} came.")
        if self.lapse and self.method != REFERENCE:
            raise InputError(
                f"--lapse is for --method {REFERENCE} alone, but {self.method!r} came. Leave one of the two out."
            )
        if self.compare_switching and not self.switching:
            raise InputError("--compare-switching compares what --no-switching leaves out. Leave one of the two out.")
        if self.index not in INDICES:
            raise InputError(f"Expected --index {' or '.join(INDICES)}, but {self.index!r} came.")
        if not 0 < self.zone < 2:
            raise InputError(f"Expected --zone between 0 and 2 (in units of dH), but {self.zone} came.")
        if not 0 < self.ci_prob < 1:
            raise InputError(
                f"Expected --ci-prob between 0 and 1, but {self.ci_prob} came. For 95 % write --ci-prob 0.95."
            )
        if self.seed < 0:
            raise InputError(f"Expected --seed 0 or more, but {self.seed} came.")


def check_output(out: Path, settings: Settings, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be used, before anything expensive.

    Raises
    ------
    InputError
        If it cannot be a folder, or holds a fit with other settings and `overwrite` is off.
    """
    settings.check()
    make_folder(out)
    if not os.access(out, os.W_OK | os.X_OK):
        raise InputError(f"The folder {out} cannot be written: no permission. Choose another --out.")
    if overwrite:
        return
    tree = find_fit(out, overwrite=False)
    if tree is None:
        strangers = [name for name in (TRIALS_FILE, BALANCE_POINTS_FILE, REPORT_FILE) if (out / name).exists()]
        if strangers:
            raise InputError(
                f"{out} has no fit, but a {strangers[0]} that a run would replace. Choose another --out, "
                "or pass --overwrite to replace it."
            )
        return
    found = tree.attrs
    asked = asdict(settings)
    if untold := [name for name in asked if f"asked_{name}" not in found]:
        raise InputError(
            f"{out} holds a fit that does not say whether it had {' and '.join(untold)}: another version made it. "
            "Choose another --out, or pass --overwrite to replace it."
        )
    differing = [
        f"{name} {_word(name, found[f'asked_{name}'])} there, {_word(name, _stored(value))} asked"
        for name, value in asked.items()
        if found.get(f"asked_{name}") != _stored(value)
    ]
    if differing:
        raise InputError(
            f"{out} holds a fit with other settings ({', '.join(differing)}). Choose another --out, "
            "or pass --overwrite to replace it."
        )


def _stored(value: str | float | bool | None) -> str | float:
    """A setting as netCDF keeps it, which knows neither None nor bool."""
    return "" if value is None else int(value) if isinstance(value, bool) else value


def _word(name: str, stored: str | float) -> str:
    """A stored setting as the user would say it."""
    if stored == "":
        return "where quick" if name == "compare_switching" else "none"
    is_switch = Settings.__annotations__[name] in (bool, bool | None)
    return ("on" if stored else "off") if is_switch else str(stored)


def find_fit(out: Path, *, overwrite: bool) -> "xr.DataTree | None":
    """The fit of a run's folder, if there is one that can be read.

    Raises
    ------
    InputError
        If it is damaged and may not be overwritten.
    """
    from mfbayes.fitting import load_fit

    file = out / FIT_FILE
    if not file.exists():
        return None
    try:
        return load_fit(file)
    except InputError as error:
        if overwrite:
            return None
        raise InputError(f"{error} Pass --overwrite to replace it.") from error


def analyse(
    trials: "pd.DataFrame",
    out: Path,
    settings: Settings,
    record: Record,
    *,
    traces: "Mapping[str, xr.Dataset]",
    overwrite: bool,
) -> None:
    """Fit trials and write the files of a run: trials, fit, balance points, other estimates, report and record.

    The fit is kept as soon as it is there, so that a run that stops while it models switching goes on from it.

    Raises
    ------
    InputError
        If `out` holds a fit of other trials and `overwrite` is off.
    ConvergenceError
        If the fit did not converge; everything is written all the same, marked as such.
    CheckError
        If a check of the fit failed by a fault; everything else is written all the same.
    """
    from mfbayes.estimates.balance import write_balance_points
    from mfbayes.estimates.tables import remove_tables, write_tables
    from mfbayes.fitting import save_fit
    from mfbayes.reports.page import write_report

    record.hashes["trials"] = hash_trials(trials)
    key = hash_content(
        __version__,
        record.hashes["trials"],
        *(f"{name}={value}" for name, value in asdict(settings).items()),
        *(f"{model}={hash_traces(traces[model])}" for model in sorted(traces)),
    )
    tree = there = find_fit(out, overwrite=overwrite)
    is_same = tree is not None and tree.attrs.get("content_key") == key
    if tree is not None and not is_same and not overwrite:
        raise InputError(
            f"{out} holds a fit of other trials or layer traces. Choose another --out, or pass --overwrite to replace "
            "it."
        )
    failed: CheckError | None = None
    if tree is None or not is_same or tree.attrs["status"] != "ok" or tree.attrs.get(FAULTY):
        with record.timing("fit"):
            tree, failed = _fit(trials, settings, traces, out / DATA_FOLDER)
        has_layers = bool(traces) and settings.switching and tree.attrs["status"] == "ok"
        tree.attrs |= {"content_key": key, UNFINISHED: int(has_layers), FAULTY: int(failed is not None)}
        tree.attrs |= {f"asked_{name}": _stored(value) for name, value in asdict(settings).items()}
        if there is not None:
            remove_tables(there, out / ESTIMATES_FOLDER)
        save_fit(tree, out / FIT_FILE)
    else:
        say("The fit of these trials is there already; it is used again.")
        record.reused.append(FIT_FILE)
    if tree.attrs.get(UNFINISHED):
        from mfbayes.switching.additions import add_switching_estimates

        say("Modelling the switching between layers")
        with record.timing("switching"):
            add_switching_estimates(tree, trials, traces, compare=settings.compare_switching, progress=True)
        tree.attrs[UNFINISHED] = 0
        save_fit(tree, out / FIT_FILE)
    write_with(out / TRIALS_FILE, lambda path: trials.to_parquet(path, index=False))
    write_balance_points(tree, out / BALANCE_POINTS_FILE)
    write_tables(tree, out / ESTIMATES_FOLDER)
    record.write(out)
    with record.timing("report"):
        write_report(out, tree=tree)
    record.write(out)
    _print_summary(tree, out)
    if failed is not None:
        raise failed
    if tree.attrs["status"] != "ok":
        raise ConvergenceError(_word_failure(tree, out))


def _fit(
    trials: "pd.DataFrame", settings: Settings, traces: "Mapping[str, xr.Dataset]", dataset: Path
) -> "tuple[xr.DataTree, CheckError | None]":
    """The fit, and the error that says which of its checks failed."""
    from mfbayes.cli.cases import add_case_study
    from mfbayes.estimates.letters import add_letters
    from mfbayes.fitting import fit
    from mfbayes.vacillation.estimates import add_trace_estimates

    n_models = trials["model"].nunique()
    say(f"Fitting {n_models} model{'s' * (n_models != 1)} to {len(trials):,} rows, as far as the analysis uses them")
    failed = None
    try:
        tree = fit(
            trials,
            subset=settings.subset,
            ci_prob=settings.ci_prob,
            seed=settings.seed,
            method=settings.method,
            index=settings.index,
            zone=settings.zone,
            baseline=settings.baseline,
            checks=settings.checks,
            lapse=settings.lapse,
            outcomes=settings.outcomes,
            progress=True,
        )
    except CheckError as error:
        tree, failed = error.fit, error
    add_letters(tree, trials)
    if traces:
        add_trace_estimates(tree, trials, traces)
        add_case_study(tree, trials, traces, dataset)
    return tree, failed


def hash_trials(trials: "pd.DataFrame") -> str:
    """SHA-256 of a table of trials: its columns and every value in order."""
    import pandas as pd

    # What users keep beside the trials may be lists or other things that cannot be hashed as they are.
    plain = trials.apply(lambda column: column.astype(str) if column.dtype == object else column)
    values = pd.util.hash_pandas_object(plain, index=False).to_numpy()
    return hash_content(",".join(map(str, trials.columns)), values.tobytes())


def hash_traces(traces: "xr.Dataset") -> str:
    """SHA-256 of layer traces: items, states and logit differences."""
    return hash_content(
        "\n".join(map(str, traces[ITEM].to_numpy())),
        traces[STATE].to_numpy().tobytes(),
        traces[LOGIT_DIFFERENCE].to_numpy().tobytes(),
    )


def _word_failure(tree: "xr.DataTree", out: Path) -> str:
    from mfbayes.reports.convergence import word_failure

    failure = word_failure(tree["estimates/convergence"].attrs)
    if failure:
        return f"{failure} These balance points cannot be trusted. Fit again with --method nuts --overwrite."
    return (
        f"The sampler did not converge, so these balance points cannot be trusted. {out / REPORT_FILE} shows which "
        "quantities failed. More groups may help, or another --seed with --overwrite."
    )


def _print_summary(tree: "xr.DataTree", out: Path) -> None:
    from mfbayes.estimates.balance import balance_points
    from mfbayes.estimates.notes import read_notes
    from mfbayes.estimates.tables import name_index
    from mfbayes.reports.convergence import word_weighing
    from mfbayes.reports.measures import measure_of

    table = balance_points(tree)
    percent = f"{100 * float(table['ci_prob'].iloc[0]):g} %"
    table["label"] = table["model"]
    for part in ("task", "condition"):
        if table[part].nunique() > 1:
            table["label"] += " / " + table[part]
    table["word"] = table["status"].where((table["status"] != "ok") | (table["law"] == "falls"), "law " + table["law"])
    width = max(len(label) for label in table["label"])
    index = measure_of(name_index(tree)).word
    by = f" by {index}" if index else ""
    typer.echo(f"Balance points (dH{by} at which text and image are followed equally often), {percent} intervals:")
    for row in table.itertuples():
        typer.echo(
            f"  {row.label:<{width}}  {_write(row.median)} [{_write(row.lower)}, {_write(row.upper)}]"
            f"  TFR {_write(row.tfr, '.2f')}  {row.n_trials} trials  {row.word}"
        )
    if table["word"].str.startswith("law").any():
        typer.echo(
            "Where the law rises, is unclear or unknown, P(text) does not clearly fall as dH rises: no balance point "
            "is located. The report says more."
        )
    weighing = word_weighing(tree["estimates/convergence"].attrs)
    for note in [*read_notes(tree), *([weighing] if weighing else [])]:
        typer.echo(f"Note: {note}")
    typer.echo(f"Report: {out / REPORT_FILE}")


def _write(value: Any, digits: str = "+.2f") -> str:
    """A number, or a dash where there is none."""
    return f"{value:{digits}}" if math.isfinite(float(value)) else "\N{EN DASH}"
