"""`mfbayes fit`: from models or trials to balance points and a report."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mfbayes.cli.analysis import Settings, analyse, check_output
from mfbayes.cli.record import Record, relative
from mfbayes.errors import InputError
from mfbayes.names import ALL, BOTH_CORRECT, ENTROPY, NUTS, REFERENCE

DEFAULT_GROUPS = 20


def command(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model to ask: an embedded one, a hub id, a folder, or 'all'. May be given again."),
    ] = None,
    trials: Annotated[Path | None, typer.Option(help="Your own trials instead: CSV or parquet.")] = None,
    traces: Annotated[
        Path | None,
        typer.Option(help="With --trials: folder of their layer traces, MODEL.nc or MODEL/traces.nc."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs"),
    groups: Annotated[
        int | None, typer.Option(help=f"Groups of the dataset; {DEFAULT_GROUPS} by default, 400 in the study.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the dataset and the sampler.")] = 0,
    subset: Annotated[
        str, typer.Option(help="Trials to fit: both-correct (each input alone answered correctly) or all.")
    ] = BOTH_CORRECT,
    ci_prob: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.95,
    method: Annotated[
        str | None,
        typer.Option(
            help="nuts: sampled; fast: mode and curvature; reference: sampled with every group effect. "
            "By default nuts, and reference with --lapse."
        ),
    ] = None,
    index: Annotated[
        str, typer.Option(help="Uncertainty that dH compares: entropy, margin, max-probability or nll.")
    ] = ENTROPY,
    zone: Annotated[float, typer.Option(help="A balance point within this of 0 is no preference in practice.")] = 0.1,
    baseline: Annotated[
        str | None, typer.Option(help="Condition that the others are compared with, where trials have conditions.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Also compare other laws, halves and other choices.")
    ] = True,
    lapse: Annotated[
        bool, typer.Option("--lapse", help="Also estimate how often each model answers at random; slower.")
    ] = False,
    outcomes: Annotated[
        bool,
        typer.Option("--outcomes", help="Also fit text, image and other together: can 'other' be left out? Slower."),
    ] = False,
    switching: Annotated[
        bool,
        typer.Option("--switching/--no-switching", help="With layer traces: also model the switching between layers."),
    ] = True,
    compare_switching: Annotated[
        bool | None,
        typer.Option(
            "--compare-switching/--no-compare-switching",
            help="Compare versions of that model on groups left out; by default where that is quick.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other content.")] = False,
) -> None:
    """Estimate balance points: at which relative uncertainty a model follows text and image equally often."""
    if (not model) == (trials is None):
        raise InputError(
            "Expected either --model NAME (or --model all) or --trials FILE. "
            "Run `python -m mfbayes models` for the models there are."
        )
    if trials is not None and groups is not None:
        raise InputError("--groups belongs to --model: it says how many groups to generate. Leave it out.")
    if traces is not None and trials is None:
        raise InputError("--traces belongs to --trials: models that are asked have their own. Leave it out.")
    settings = Settings(
        subset=subset,
        ci_prob=ci_prob,
        seed=seed,
        method=method or (REFERENCE if lapse else NUTS),
        index=index,
        zone=zone,
        baseline=baseline,
        checks=checks,
        lapse=lapse,
        outcomes=outcomes,
        switching=switching,
        compare_switching=compare_switching,
    )
    record = Record(
        {
            "model": [relative(Path(name)) for name in model or []],
            "trials": relative(trials) if trials else None,
            "traces": relative(traces) if traces else None,
            "out": relative(out),
            "groups": groups or (None if trials else DEFAULT_GROUPS),
            **asdict(settings),
        }
    )
    if trials is not None:
        from mfbayes.cli.own_traces import read_own_traces
        from mfbayes.trials import read_trials

        settings.check()
        table = read_trials(trials)
        layers = {} if traces is None else read_own_traces(traces, table)
        check_output(out, settings, overwrite=overwrite)
        analyse(table, out, settings, record, traces=layers, overwrite=overwrite)
        return
    from mfbayes.cli.study import check_models, collect_study

    settings.check()
    asked = model or []
    models = check_models(asked)
    check_output(out, settings, overwrite=overwrite)
    table, layers = collect_study(
        models,
        out,
        record,
        n_groups=DEFAULT_GROUPS if groups is None else groups,
        data_seed=seed,
        with_collected=ALL in asked,
        overwrite=overwrite,
    )
    analyse(table, out, settings, record, traces=layers, overwrite=overwrite)
