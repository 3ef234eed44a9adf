"""`mfbayes models`: which models there are, where they are and what is collected."""

from pathlib import Path
from typing import Annotated

import typer


def command(out: Annotated[Path, typer.Option(help="Folder of the run to look into.")] = Path("runs")) -> None:
    """List models, where they are and what is collected."""
    from mfbayes.inference.catalogue import inventory

    rows = [("model", "where", "collected"), *inventory(out)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for row in rows:
        typer.echo("  ".join(f"{value!s:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip())
