"""The report: one HTML file that opens offline, in the dark, on a phone, in print and without JavaScript.

Drawings are hand-laid SVG whose colours are CSS variables, rather than Altair charts: a chart compiled by Vega
carries its colours and its width inside, so it would be compiled again for phones and repainted for the dark scheme;
its marks cannot be styled by class, and a heatmap takes five times the bytes.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mfbayes import names
from mfbayes._version import __version__
from mfbayes.errors import InputError
from mfbayes.reports.asking import tabulate_asking, tabulate_letters
from mfbayes.reports.cases import draw_case
from mfbayes.reports.conditions import draw_conditions
from mfbayes.reports.convergence import check_convergence
from mfbayes.reports.curves import draw_curves
from mfbayes.reports.evidence import Evidence, Subject, read_evidence
from mfbayes.reports.forest import draw_forest
from mfbayes.reports.halves import draw_halves
from mfbayes.reports.hazards import draw_hazards
from mfbayes.reports.lapses import tabulate_lapses
from mfbayes.reports.laws import compare_laws
from mfbayes.reports.layer_maps import draw_layer_maps
from mfbayes.reports.numerals import count, numeral
from mfbayes.reports.oscillations import draw_oscillations
from mfbayes.reports.outcomes import draw_outcomes
from mfbayes.reports.pairs import compare_pairs
from mfbayes.reports.planes import draw_planes
from mfbayes.reports.ratios import draw_ratios
from mfbayes.reports.reasons import explain_ratios
from mfbayes.reports.reproduction import describe_run
from mfbayes.reports.sensitivity import draw_sensitivity
from mfbayes.reports.standing import place_models
from mfbayes.reports.style import content_policy, style_sheet
from mfbayes.reports.svg import Canvas
from mfbayes.reports.switching_checks import check_switching
from mfbayes.reports.tiers import draw_tiers
from mfbayes.reports.vacillation import draw_contrasts, tabulate_verdicts
from mfbayes.reports.verdict import judge, plain
from mfbayes.storage import write_text


def render(tree: xr.DataTree, run: Mapping[str, Any] | None = None, *, when: datetime | None = None) -> str:
    """Build the page of a fit as one string of HTML.

    Parameters
    ----------
    tree : DataTree
        A fit as `fit.nc` stores it; only `/estimates` and the root's attributes are read.
    run : mapping, optional
        The content of `run.json`.
    when : datetime, optional
        Time printed at the end of the page; now where it is left out.

    Raises
    ------
    InputError
        Where the tree holds no estimates.
    """
    evidence = read_evidence(tree)
    verdict = judge(evidence)
    css = style_sheet()
    time = (when or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    return _environment().get_template("page.html").render(
        policy=content_policy(css),
        css=Markup(css),  # noqa: S704  the style sheet is ours
        evidence=evidence,
        verdict=verdict,
        page_title=plain(verdict.headline),
        masthead=_masthead(evidence),
        forest=draw_forest(evidence),
        curves=draw_curves(evidence),
        pairs=compare_pairs(evidence),
        standing=place_models(evidence),
        ratios=draw_ratios(evidence),
        reasons=explain_ratios(evidence),
        laws=compare_laws(evidence),
        plane=draw_planes(evidence),
        halves=draw_halves(evidence),
        conditions=draw_conditions(evidence),
        sensitivity=draw_sensitivity(evidence),
        outcomes=draw_outcomes(evidence),
        lapses=tabulate_lapses(evidence),
        tiers=draw_tiers(evidence),
        oscillations=draw_oscillations(evidence),
        contrasts=draw_contrasts(evidence),
        verdicts=tabulate_verdicts(evidence),
        layers=draw_layer_maps(evidence),
        hazards=draw_hazards(evidence),
        switching=check_switching(evidence),
        case=draw_case(evidence),
        convergence=check_convergence(evidence),
        asking=tabulate_asking(run or {}),
        letters=tabulate_letters(evidence),
        reproduction=describe_run(run or {}, evidence.attributes),
        version=__version__,
        time=time,
    )  # fmt: skip


def write_report(out: str | Path, tree: xr.DataTree | None = None) -> Path:
    """Write `report.html` beside the `fit.nc` of a run and return its path.

    Parameters
    ----------
    out : str or Path
        Folder of the run.
    tree : xarray.DataTree, optional
        What `fit.nc` holds, where it is at hand: reading it takes a few seconds.

    Raises
    ------
    InputError
        Where no folder is given, or `fit.nc` is missing or cannot be read.
    """
    if not isinstance(out, str | Path):
        raise InputError(
            f"Expected the folder of a run, got {type(out).__name__}. A fit comes second: report(folder, fit)."
        )
    out = Path(out)
    fit = out / names.FIT_FILE
    if tree is None and not fit.is_file():
        raise InputError(f"Expected {fit}, found no such file. Fit some trials first: `mfbayes fit`.")
    run = _read_run(out / names.RUN_FILE)
    try:
        with nullcontext(tree) if tree is not None else xr.open_datatree(fit, engine="h5netcdf") as opened:
            html = render(opened, run)
    except OSError as error:
        raise InputError(f"Expected a fit in {fit}, but it cannot be read ({error}). Fit the trials again.") from error
    report = out / names.REPORT_FILE
    write_text(report, html)
    return report


def _read_run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected JSON in {path}, but it cannot be read ({error}). Delete the file or fit again."
        ) from error
    return dict(run)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mfbayes.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["swatch"] = _swatch
    environment.tests["subject"] = lambda part: isinstance(part, Subject)
    return environment


def _swatch(subject: Subject) -> Markup:
    canvas = Canvas(14, 14)
    canvas.marker(subject.shape, 7, 7, f"fill m{subject.colour}", size=4.8)
    return canvas.markup("swatch")


def _masthead(evidence: Evidence) -> str:
    models = len({s.model for s in evidence.subjects})
    trials = sum(s.n_trials for s in evidence.subjects)
    parts = [f"{numeral(models)} model{'' if models == 1 else 's'}", f"{count(trials)} trials"]
    if evidence.several_tasks:
        parts.insert(1, f"{numeral(len(evidence.tasks))} {evidence.setting}s")
    if evidence.attributes.get("subset") == names.BOTH_CORRECT:
        parts.append("answered correctly from each side alone")
    return " · ".join(parts)
