"""`mfbayes simulate`: trials and traces from known parameters, and how many groups a study needs."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfbayes.cli.progress import counting
from mfbayes.errors import InputError
from mfbayes.names import TRIALS_FILE

if TYPE_CHECKING:
    import xarray as xr

    from mfbayes.simulation import Scenario

TRUTH_FILE = "truth.json"
TRACES_FOLDER = "traces"
POWER_FILE = "power.csv"
POWER_PROGRESS_FILE = "power.json"
DEFAULT_GROUPS, DEFAULT_SIZES = "60", "40,100,200,400"

_NAME = re.compile(r"\w[\w.\-]*")


def command(
    out: Annotated[Path, typer.Option(help="Folder of the simulation.")],
    groups: Annotated[
        str | None,
        typer.Option(help=f"Item groups; {DEFAULT_GROUPS} by default. With --power several: {DEFAULT_SIZES}."),
    ] = None,
    models: Annotated[int | None, typer.Option(help="Models; 4 by default.")] = None,
    balance_points: Annotated[
        str | None, typer.Option(help='Models by their balance points, as "a=0.2,b=-0.3"; else drawn.')
    ] = None,
    slope: Annotated[float | None, typer.Option(help="Slope of every model; else drawn around 2.5.")] = None,
    families: Annotated[str | None, typer.Option(help='Families of the models, as "a=R,b=R".')] = None,
    tasks: Annotated[
        str | None, typer.Option(help='Tasks and what each adds to balance points, as "color=0,shape=0.2".')
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(help='Conditions and what each adds to balance points, as "plain=0,hint=-0.3".')
    ] = None,
    image_tiers: Annotated[int, typer.Option(help="Tiers of the images, one image each in a group.")] = 14,
    text_tiers: Annotated[int, typer.Option(help="Tiers of the texts, one text each in a group.")] = 3,
    group_sd: Annotated[float, typer.Option(help="Sd of what a group adds, in log-odds.")] = 0.8,
    group_model_sd: Annotated[float, typer.Option(help="Sd of what a group adds for one model.")] = 0.5,
    both_correct: Annotated[
        float, typer.Option(help="Share of trials answered correctly from each input alone.")
    ] = 0.8,
    other_share: Annotated[float, typer.Option(help="Share of answers of neither side.")] = 0.02,
    lapse: Annotated[float, typer.Option(help="Rate of random answers to either side.")] = 0.0,
    traces: Annotated[
        bool | None,
        typer.Option("--traces/--no-traces", help="Also simulate layer traces; by default without --conditions."),
    ] = None,
    layers: Annotated[int, typer.Option(help="Layers of the traces.")] = 32,
    power: Annotated[bool, typer.Option("--power", help="Tell how narrow intervals get instead.")] = False,
    width: Annotated[float, typer.Option(help="With --power: half-width of the interval that is wanted.")] = 0.1,
    replicates: Annotated[int, typer.Option(help="With --power: studies for each number of groups.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other content.")] = False,
) -> None:
    """Simulate trials and layer traces whose balance points are known, or ask how many groups a study needs."""
    from mfbayes.simulation import Scenario

    if models is not None and balance_points is not None:
        raise InputError("Expected --models or --balance-points, got both. The balance points say which models.")
    sizes = _read_sizes(groups or (DEFAULT_SIZES if power else DEFAULT_GROUPS), several=power)
    points = 4 if models is None else models
    named = points if balance_points is None else _read_numbers(balance_points, "--balance-points", "a=0.2,b=-0.3")
    names = list(named) if isinstance(named, dict) else [f"m{i + 1}" for i in range(named)]
    shifts: dict[str, Any] = {
        name: _read_numbers(text, f"--{name}", example)
        for name, text, example in (
            ("tasks", tasks, "color=0,shape=0.2"),
            ("conditions", conditions, "plain=0,hint=-0.3"),
        )
        if text is not None
    }
    scenario = Scenario(
        models=named,
        slopes=None if slope is None else dict.fromkeys(names, slope),
        families=None if families is None else _read_pairs(families, "--families", "a=R,b=R"),
        **shifts,
        n_groups=sizes[0],
        image_tiers=image_tiers,
        text_tiers=text_tiers,
        group_sd=group_sd,
        group_model_sd=group_model_sd,
        both_correct=both_correct,
        other_share=other_share,
        lapse=lapse,
    )
    if power:
        _tell_power(scenario, out, sizes, width=width, replicates=replicates, seed=seed, overwrite=overwrite)
    else:
        _write_study(
            scenario,
            out,
            n_layers=layers if (conditions is None if traces is None else traces) else 0,
            seed=seed,
            overwrite=overwrite,
        )


def _read_sizes(text: str, *, several: bool) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"Expected --groups as a number, or several with commas between them, got {text!r}."
        ) from error
    if len(sizes) > 1 and not several:
        raise InputError(f"Expected one number for --groups, got {text!r}. Several belong to --power.")
    return sizes


def _read_numbers(text: str, option: str, example: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in _read_pairs(text, option, example).items():
        try:
            found[name] = float(value)
        except ValueError as error:
            raise InputError(f'Expected {option} as "{example}", got {name}={value} in it.') from error
    return found


def _read_pairs(text: str, option: str, example: str) -> dict[str, str]:
    """Values by name; names become parts of file names."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = (each.strip() for each in part.partition("="))
        if not separator or not value:
            raise InputError(f'Expected {option} as "{example}", got {part.strip()!r} in it.')
        if not _NAME.fullmatch(name):
            raise InputError(f"Expected a name of letters, digits, '.', '_' and '-' in {option}, got {name!r}.")
        if name.casefold() in map(str.casefold, found):
            raise InputError(f"Expected each name once in {option}, got {name!r} twice.")
        found[name] = value
    return found


def _write_study(scenario: "Scenario", out: Path, *, n_layers: int, seed: int, overwrite: bool) -> None:
    """Trials, traces and their truth in a folder; the truth comes first, and says what the folder is for."""
    import numpy as np

    from mfbayes.simulated_traces import Switching, simulate_traces
    from mfbayes.simulation import simulate_trials
    from mfbayes.storage import write_json, write_with
    from mfbayes.traces import write_traces

    switching = Switching()
    settings = {"scenario": asdict(scenario), "seed": seed, "n_layers": n_layers}
    settings["switching"] = asdict(switching) if n_layers else {}
    _check_replaceable(out, settings, overwrite=overwrite)
    # Streams of their own: trials are the same with and without traces.
    streams = np.random.default_rng(seed).spawn(2)
    trials, truth = simulate_trials(scenario, rng=streams[0])
    points = {str(name): float(point) for name, point in truth["balance_point"].to_series().items()}
    traces: dict[str, xr.Dataset] = {}
    told: dict[str, Any] = {"settings": settings, "trials": _as_json(truth), "traces": {}}
    if n_layers:
        traces, process = simulate_traces(trials, points, rng=streams[1], n_layers=n_layers, switching=switching)
        told["traces"] = _as_json(process)
    write_json(out / TRUTH_FILE, told)
    write_with(out / TRIALS_FILE, lambda path: trials.to_parquet(path, index=False))
    for file in (out / TRACES_FOLDER).glob("*.nc"):
        if file.stem not in traces:
            file.unlink()
    for model, trace in traces.items():
        write_traces(out / TRACES_FOLDER / f"{model}.nc", trace["item"], trace["state"], trace["logit_difference"])
    typer.echo(
        f"{out}: {len(trials)} trials of {len(scenario.model_names)} models and {scenario.n_groups} groups"
        + (f", traces of {n_layers} layers" if n_layers else "")
    )
    for subject, point in points.items():
        typer.echo(f"  {subject}: balance point {point:+.3f}")
    with_traces = f" --traces {out / TRACES_FOLDER}" if n_layers else ""
    typer.echo(f"Fit them with `python -m mfbayes fit --trials {out / TRIALS_FILE}{with_traces} --out {out / 'fit'}`.")


def _check_replaceable(out: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder of other trials; a simulation that was cut short is simply made again."""
    import json

    from mfbayes.storage import read_json

    if overwrite:
        return
    if (out / TRUTH_FILE).exists():
        kept = read_json(out / TRUTH_FILE)
        if isinstance(kept, dict) and kept.get("settings") == json.loads(json.dumps(settings)):
            return
        raise InputError(f"{out} holds another simulation. Pass --overwrite to replace it, or choose another --out.")
    present = [name for name in (TRIALS_FILE, TRACES_FOLDER) if (out / name).exists()]
    if present:
        raise InputError(
            f"{out} already holds {present[0]}, and not from a simulation. Pass --overwrite to replace it, or choose "
            "another --out."
        )


def _as_json(truth: "xr.Dataset") -> dict[str, Any]:
    """Numbers as they are, and what is over a dim as a mapping from its labels."""
    return {
        str(name): values.item() if values.ndim == 0 else values.to_series().to_dict()
        for name, values in truth.data_vars.items()
    }


def _tell_power(
    scenario: "Scenario", out: Path, sizes: list[int], *, width: float, replicates: int, seed: int, overwrite: bool
) -> None:
    from mfbayes.power import ESTIMATES, find_groups, measure_power
    from mfbayes.storage import make_folder, write_text

    if not 0 < width < float("inf"):
        raise InputError(f"Expected --width above 0, in units of dH, got {width}.")
    make_folder(out)
    with counting("Simulating studies", len(set(sizes)) * replicates) as advance:
        table = measure_power(
            scenario,
            groups=sizes,
            replicates=replicates,
            seed=seed,
            progress=out / POWER_PROGRESS_FILE,
            overwrite=overwrite,
            on_replicate=advance,
        )
    write_text(out / POWER_FILE, table.to_csv(index=False, float_format="%.6g"))
    typer.echo("groups   trials    b +-          covered   difference +-  covered")
    for row in table.to_dict("records"):
        typer.echo(
            f"{row['n_groups']:6.0f} {row['n_trials']:8.0f}"
            f"    {row['balance_point_half_width']:.3f} ({row['balance_point_half_width_error']:.3f})"
            f"  {row['balance_point_coverage']:.3f}    "
            f" {row['difference_half_width']:.3f} ({row['difference_half_width_error']:.3f})"
            f"   {row['difference_coverage']:.3f}"
        )
    labels = dict(zip(ESTIMATES, ("a balance point", "a difference of two models"), strict=True))
    for estimate, label in labels.items():
        answer = find_groups(table, width, estimate=estimate)
        number = answer.bound or f"{answer.n_groups:.0f} (Monte Carlo error {answer.error:.1f})"
        typer.echo(f"Groups for a 95 % interval of +-{width:g} for {label}: {number}")
    failures = int(table["failures"].sum())
    if failures:
        typer.echo(f"{failures} fits did not find their mode; their intervals are in the means.", err=True)
