"""`mfbayes predict`: P(text) of new conflicts, by a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from mfbayes.cli.progress import say
from mfbayes.errors import InputError
from mfbayes.names import FIT_FILE


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    conflicts: Annotated[
        Path,
        typer.Option(
            help="CSV or parquet with a row a new conflict: H_text and H_image, or the index that was fitted."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV to write; by default predictions.csv in the run's folder.")
    ] = None,
) -> None:
    """Predict how often each model follows the text in new conflicts."""
    if not (run / FIT_FILE).is_file():
        raise InputError(f"Expected a finished run in {run}, but it has no {FIT_FILE}. Run `python -m mfbayes fit`.")
    from mfbayes.estimates.predictions import predict_table, read_conflicts
    from mfbayes.fitting import load_fit
    from mfbayes.storage import write_text

    tree = load_fit(run / FIT_FILE)
    table = predict_table(tree, read_conflicts(conflicts, index=str(tree.attrs["index"])))
    if tree.attrs["status"] != "ok":
        say("The fit did not converge, so these predictions cannot be trusted.")
    path = out or run / "predictions.csv"
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    typer.echo(f"Predictions: {path}")
