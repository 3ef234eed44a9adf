"""`mfbayes import`: outputs that others made, as a table of trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfbayes.cli.progress import say
from mfbayes.errors import InputError
from mfbayes.names import INDICES, NLL, TRIALS_FILE
from mfbayes.storage import make_folder, write_text, write_with

if TYPE_CHECKING:
    from mfbayes.imports.results import Imported

RATIOS_FILE = "published_ratios.csv"

app = typer.Typer(no_args_is_help=True, help="Read outputs that others made as trials.")

Out = Annotated[Path, typer.Option(help="Folder for trials.parquet.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace trials that are there.")]


@app.callback()
def _choose() -> None:
    """Read outputs that others made as trials."""


@app.command("words-or-vision")
def import_words_or_vision(
    path: Annotated[Path, typer.Argument(help="Copy of github.com/d-ailin/blind-faith-in-text, or a folder of it.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Read the published outputs of "Words or Vision" (arXiv:2503.02199): every data set and model found."""
    from mfbayes.imports.words_or_vision import read_words_or_vision

    _check_output(out, overwrite=overwrite)
    _write(read_words_or_vision(path), path, out)


@app.command("chartqa-conflict")
def import_chartqa_conflict(
    path: Annotated[Path, typer.Argument(help="Copy of github.com/Ro-netizen004/multimodal-arbitration-artifact.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Read the published outputs of ChartQA-Conflict (arXiv:2608.17205): charts against reports, every model found."""
    from mfbayes.imports.chartqa_conflict import read_chartqa_conflict

    _check_output(out, overwrite=overwrite)
    _write(read_chartqa_conflict(path), path, out)


@app.command("lmms-eval")
def import_lmms_eval(
    log: Annotated[Path, typer.Argument(help="A file *samples_TASK.jsonl, or a folder with such files below it.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Read sample logs of lmms-eval; docs/imports.md says what their metadata must tell."""
    from mfbayes.imports.lmms_eval import read_lmms_eval

    _check_output(out, overwrite=overwrite)
    _write(read_lmms_eval(log), log, out)


@app.command("inspect")
def import_inspect(
    log: Annotated[Path, typer.Argument(help="A .eval or .json log, or a folder with such files below it.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Read logs of Inspect AI; docs/imports.md says what their metadata must tell."""
    from mfbayes.imports.inspect_ai import read_inspect

    _check_output(out, overwrite=overwrite)
    _write(read_inspect(log), log, out)


def _write(imported: "Imported", source: Path, out: Path) -> None:
    """Write ratios and trials, and say what is in them and how to go on."""
    from mfbayes.indices import PLURALS, has_index
    from mfbayes.trials import check_trials

    for note in imported.notes:
        say(note)
    ratios = imported.ratios
    write_text(out / RATIOS_FILE, ratios.to_csv(index=False))
    width = max(map(len, ratios["model"]), default=0)
    typer.echo("Text-preference ratio, text / (text + image):")
    for row in ratios.to_dict("records"):
        typer.echo(
            f"  {row['model']:<{width}}  {row['task']}  {row['text_preference_ratio']:.2%}  {row['n_text']} text, "
            f"{row['n_image']} image, {row['n_other']} other, {row['n_same']} without conflict"
        )
    if imported.trials.empty:
        raise InputError(
            f"No answer in {source} has log-probabilities, so there is no uncertainty to fit. The ratios are in "
            f"{out / RATIOS_FILE}."
        )
    trials = check_trials(imported.trials)
    write_with(out / TRIALS_FILE, lambda file: trials.to_parquet(file, index=False))
    typer.echo(
        f"{len(trials):,} trials: {out / TRIALS_FILE}. Their uncertainty is the answer's negative log-likelihood: "
        f"python -m mfbayes fit --trials {out / TRIALS_FILE} --index {NLL} --out {out}-fit"
    )
    for index in INDICES:
        if index != NLL and has_index(trials, index):
            typer.echo(f"They also have {PLURALS[index]} of the first token: --index {index}")


def _check_output(out: Path, *, overwrite: bool) -> None:
    make_folder(out)
    if (out / TRIALS_FILE).exists() and not overwrite:
        raise InputError(
            f"{out / TRIALS_FILE} is there already. Choose another --out, or pass --overwrite to replace it."
        )
