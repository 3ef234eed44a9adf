"""`mfbayes pool`: balance points of tables too large for a fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfbayes.cli.progress import counting
from mfbayes.errors import InputError
from mfbayes.names import BOTH_CORRECT, ENTROPY

if TYPE_CHECKING:
    import xarray as xr

TABLE_FILE = "pooled.csv"
PAIRS_FILE = "pooled_pairwise.csv"
DATASET_FILE = "pooled.nc"
PARTS_FOLDER = "parts"


def command(
    trials: Annotated[list[Path], typer.Option(help="Parquet file of trials, or a folder. May be given again.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs"),
    processes: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on them.")] = 1,
    subset: Annotated[
        str, typer.Option(help="Trials to use: both-correct (each input alone answered correctly) or all.")
    ] = BOTH_CORRECT,
    index: Annotated[
        str, typer.Option(help="Uncertainty that dH compares: entropy, margin, max-probability or nll.")
    ] = ENTROPY,
    ci_prob: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other trials.")] = False,
) -> None:
    """Balance points from any number of trials: one curve a model, streamed. Goes on where it was interrupted."""
    from mfbayes.pooled.pooling import check_options, plan, run, write_pooled
    from mfbayes.storage import hash_content

    check_options(ci_prob=ci_prob, processes=processes)
    work = plan(trials, subset=subset, index=index)
    key = hash_content(str(ci_prob), *(part.key for part in work.parts))
    _check_output(out, key, overwrite=overwrite)
    estimate = run(work, out / PARTS_FOLDER, ci_prob=ci_prob, processes=processes, counting=counting)
    estimate.attrs["content_key"] = key
    write_pooled(estimate, table=out / TABLE_FILE, pairs=out / PAIRS_FILE, dataset=out / DATASET_FILE)
    _print_summary(estimate, out)


def _check_output(out: Path, key: str, *, overwrite: bool) -> None:
    """Refuse to replace results of other trials or settings unasked."""
    import xarray as xr

    if overwrite or not any((out / name).exists() for name in (TABLE_FILE, PAIRS_FILE, DATASET_FILE)):
        return
    try:
        with xr.open_dataset(out / DATASET_FILE, engine="h5netcdf") as found:
            same = found.attrs.get("content_key") == key
    except (OSError, ValueError, KeyError):
        same = False
    if not same:
        raise InputError(
            f"{out} holds pooled estimates of other trials or with other settings. Choose another --out, "
            "or pass --overwrite to replace them."
        )


def _print_summary(estimate: "xr.Dataset", out: Path) -> None:
    from mfbayes.pooled.pooling import tabulate_pooled
    from mfbayes.reports.measures import measure_of

    for note in filter(None, estimate.attrs["notes"].split("\n")):
        typer.echo(note, err=True)
    table = tabulate_pooled(estimate)
    width = table["subject"].str.len().max()
    index = measure_of(estimate.attrs["index"]).word
    by = f" by {index}" if index else ""
    typer.echo(
        f"Balance points of the pooled model (dH{by} at which text and image are followed equally often), "
        f"{100 * estimate.attrs['ci_prob']:g} % intervals over groups; slopes are marginal:"
    )
    for row in table.itertuples():
        typer.echo(
            f"  {row.subject:<{width}}  {row.balance_point:+.3f} [{row.lower:+.3f}, {row.upper:+.3f}]"
            f"  slope {row.marginal_slope:.2f}  TFR {row.tfr:.2f}  {row.n_trials:,} trials  {row.status}"
        )
    typer.echo(f"Estimates: {out / TABLE_FILE}, {out / PAIRS_FILE}, {out / DATASET_FILE}")
