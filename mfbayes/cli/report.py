"""`mfbayes report`: the page of a finished run, built again."""

from pathlib import Path
from typing import Annotated

import typer

from mfbayes.errors import InputError
from mfbayes.names import FIT_FILE


def command(out: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Build a run's report again from its fit."""
    if not (out / FIT_FILE).is_file():
        raise InputError(f"Expected a finished run in {out}, but it has no {FIT_FILE}. Run `python -m mfbayes fit`.")
    from mfbayes.reports.page import write_report

    typer.echo(f"Report: {write_report(out)}")
