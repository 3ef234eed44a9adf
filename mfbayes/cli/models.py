"""`mfbayes models`: which models there are, where they are and what is collected."""

from pathlib import Path
from typing import Annotated

import typer


def command(out: Annotated[Path, typer.Option(help="Folder of the run to look into.")] = Path("runs")) -> None:
    """List models, where they are and what is collected."""
    from mfbayes.inference.inventory import list_models

    rows = [("model", "where", "status", "items", "folder")]
    rows += [
        (e.name, e.where, e.status, f"{e.n_items:,}" if e.n_items else "", str(e.folder)) for e in list_models(out)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip())
