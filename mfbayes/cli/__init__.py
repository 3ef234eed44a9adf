"""The command line: the program above all stages, and the only part that knows them all.

Commands import what they need when they run, so that `--help` is quick.
"""

import errno
import os
import sys
from typing import Annotated

import typer

from mfbayes._version import __version__
from mfbayes.cli import collect, fit, generate, imports, models, pool, predict, report, simulate
from mfbayes.errors import MfbayesError

UNEXPECTED = 1
REFUSED = 2
INTERRUPTED = 130
DEBUG = "--debug"

app = typer.Typer(
    name="mfbayes",
    help="Find out why a multimodal language model follows the text or the image when the two disagree.",
    epilog=f"Add {DEBUG} to any command to see the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit")(fit.command)
app.command("report")(report.command)
app.command("predict")(predict.command)
app.command("collect")(collect.command)
app.add_typer(generate.app, name="generate")
app.add_typer(imports.app, name="import")
app.command("models")(models.command)
app.command("pool")(pool.command)
app.command("simulate")(simulate.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mfbayes {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Find out why a multimodal language model follows the text or the image when the two disagree."""


def main() -> None:
    """Run a command; end with 0 done, 2 refused, 3 not converged, 130 interrupted, 1 a fault of mfbayes itself."""
    # The matrices here are small: more threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    debug = DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    try:
        app(args=arguments, prog_name="mfbayes")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("Stopped. What is finished is kept: the same command goes on from there.", err=True)
        raise
    except MfbayesError as error:
        if debug:
            raise
        _tell(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            _tell(
                f"The disk is full or a size limit was reached ({error}). What was finished before is unharmed; "
                "make room and run the same command again."
            )
            sys.exit(REFUSED)
        _tell(
            f"mfbayes failed unexpectedly ({type(error).__name__}: {error}). This is a fault of mfbayes: "
            f"run the command again with {DEBUG} and report the traceback."
        )
        sys.exit(UNEXPECTED)


def _tell(message: str) -> None:
    typer.echo(f"Error: {message}", err=True)
