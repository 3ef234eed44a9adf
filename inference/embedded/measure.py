"""Measures exported models and writes their cards: `python -m mfbayes.inference.embedded.measure`."""

import logging
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from safetensors import safe_open

from mfbayes.data_gen.generation import generate
from mfbayes.errors import InputError
from mfbayes.inference.embedded.card import write_card
from mfbayes.inference.embedded.evaluation import evaluate
from mfbayes.inference.embedded.recipes import MODELS
from mfbayes.inference.embedded.train import WEIGHTS, check_names
from mfbayes.storage import write_text

CARD_FILE: Final = "README.md"
WEIGHTS_FILE: Final = "model.safetensors"
DATASET_SEED: Final = 977  # of a generator that training does not use

logger = logging.getLogger(__name__)


def measure(
    models: Annotated[list[str] | None, typer.Option("--model", help="Model to measure; all by default.")] = None,
    weights: Annotated[Path, typer.Option(help="Folder of the exported models.")] = WEIGHTS,
    work: Annotated[Path, typer.Option(help="Folder of the dataset and of what models answered.")] = Path(".training"),
    groups: Annotated[int, typer.Option(help="Groups of the dataset.", min=4)] = 400,
) -> None:
    """Ask exported models a fresh dataset and write what they did into their cards."""
    check_names(models or [], allowed=MODELS, option="--model")
    chosen = models or [name for name in MODELS if (weights / name / WEIGHTS_FILE).exists()]
    for name in chosen:
        if not (weights / name / WEIGHTS_FILE).exists():
            raise InputError(f"{name} is not in {weights}. Train it first, or choose another folder with --weights.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    folder = work / f"evaluation-{groups}"
    dataset = generate(folder, n_groups=groups, seed=DATASET_SEED, workers=1)
    for name in chosen:
        evaluation = evaluate(weights / name, dataset, work=folder / "answers")
        card = write_card(
            name,
            evaluation,
            n_parameters=count_parameters(weights / name / WEIGHTS_FILE),
            dataset_seed=DATASET_SEED,
        )
        write_text(weights / name / CARD_FILE, card)
        logger.info("%s: balance point %.2f [%.2f, %.2f]", name, *evaluation.balance_point)


def count_parameters(weights: Path) -> int:
    """Number of weights in a safetensors file, without statistics that are not trained."""
    with safe_open(weights, framework="pt") as file:
        sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(torch.Size(shape).numel() for key, shape in sizes.items() if not key.endswith(buffers))


if __name__ == "__main__":
    typer.run(measure)
