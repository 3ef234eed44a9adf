"""`mfbayes import`: outputs that others made, as a table of trials."""

from pathlib import Path
from typing import Annotated

import typer

from mfbayes.cli.progress import say
from mfbayes.errors import InputError
from mfbayes.names import NLL, TRIALS_FILE
from mfbayes.storage import make_folder, write_text, write_with

RATIOS_FILE = "published_ratios.csv"

app = typer.Typer(no_args_is_help=True, help="Read outputs that others made as trials.")


@app.callback()
def _choose() -> None:
    """Read outputs that others made as trials."""


@app.command("words-or-vision")
def import_words_or_vision(
    path: Annotated[Path, typer.Argument(help="Copy of github.com/d-ailin/blind-faith-in-text, or a folder of it.")],
    out: Annotated[Path, typer.Option(help="Folder for trials.parquet.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace trials that are there.")] = False,
) -> None:
    """Read the published outputs of "Words or Vision" (arXiv:2503.02199): every data set and model found."""
    from mfbayes.imports.words_or_vision import read_words_or_vision
    from mfbayes.trials import check_trials

    _check_output(out, overwrite=overwrite)
    imported = read_words_or_vision(path)
    for note in imported.notes:
        say(note)
    ratios = imported.ratios
    write_text(out / RATIOS_FILE, ratios.to_csv(index=False))
    width = max(map(len, ratios["model"]))
    typer.echo("Text-preference ratio, text / (text + image):")
    for row in ratios.to_dict("records"):
        typer.echo(
            f"  {row['model']:<{width}}  {row['task']}  {row['text_preference_ratio']:.2%}  {row['n_text']} text, "
            f"{row['n_image']} image, {row['n_other']} other, {row['n_same']} without conflict"
        )
    if imported.trials.empty:
        raise InputError(
            f"No answer in {path} has log-probabilities, so there is no uncertainty to fit. The ratios are in "
            f"{out / RATIOS_FILE}."
        )
    trials = check_trials(imported.trials)
    write_with(out / TRIALS_FILE, lambda file: trials.to_parquet(file, index=False))
    typer.echo(
        f"{len(trials):,} trials: {out / TRIALS_FILE}. Their uncertainty is the answer's negative log-likelihood: "
        f"python -m mfbayes fit --trials {out / TRIALS_FILE} --index {NLL} --out {out}-fit"
    )


def _check_output(out: Path, *, overwrite: bool) -> None:
    make_folder(out)
    if (out / TRIALS_FILE).exists() and not overwrite:
        raise InputError(
            f"{out / TRIALS_FILE} is there already. Choose another --out, or pass --overwrite to replace it."
        )
