"""Trains the embedded models: `python -m mfbayes.inference.embedded.train`.

Each model is a chain of stages (see `recipes`), kept as checkpoints in a working folder, so that a run
that was cut off goes on where it stopped. One core needs about half an hour for the first model of a
family and a few minutes for each further one.
"""

import logging
from pathlib import Path
from typing import Annotated, Final

import torch
import typer

from mfbayes.errors import InputError
from mfbayes.inference.embedded.export import export_model
from mfbayes.inference.embedded.recipes import DECODERS, MODELS, VISION
from mfbayes.inference.embedded.stages import FAMILIES, Workshop

WEIGHTS: Final = Path(__file__).resolve().parent / "weights"

logger = logging.getLogger(__name__)


def train(
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Model to train and export; all by default.")
    ] = None,
    stages: Annotated[list[str] | None, typer.Option("--stage", help="Train this stage only, export nothing.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the exported models.")] = WEIGHTS,
    work: Annotated[Path, typer.Option(help="Folder of checkpoints.")] = Path(".training"),
    scale: Annotated[float, typer.Option(help="Multiplies all numbers of steps and scenes.", min=0)] = 1.0,
) -> None:
    """Train embedded models and write them as transformers checkpoints."""
    check_names(models or [], allowed=MODELS, option="--model")
    check_names(stages or [], allowed=[*(f"{name}-vision" for name in VISION), *DECODERS], option="--stage")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)  # sums are then taken in the same order on every machine
    workshop = Workshop(work, scale=scale)
    for stage in stages or []:
        workshop.reach(stage)
    if stages and not models:
        return
    for name in models or MODELS:
        model = workshop.reach(name)
        export_model(model, FAMILIES[DECODERS[name].family], out / name)
        logger.info("exported %s", name)


def check_names(names: list[str], *, allowed: tuple[str, ...] | list[str], option: str) -> None:
    """Raise InputError at the first name that is not allowed."""
    for name in names:
        if name not in allowed:
            raise InputError(f"{option} {name} is unknown. Choose one of: {', '.join(allowed)}.")


if __name__ == "__main__":
    typer.run(train)
