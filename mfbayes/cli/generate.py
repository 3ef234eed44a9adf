"""`mfbayes generate`: conflict datasets."""

from pathlib import Path
from typing import Annotated

import typer

from mfbayes.cli.extras import needing
from mfbayes.cli.progress import counting

app = typer.Typer(help="Make a conflict dataset: images, texts and one manifest.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    """Make a conflict dataset: images, texts and one manifest."""


@app.command("color")
def color(
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    groups: Annotated[int, typer.Option(help="Groups; each has 14 images, 42 conflict items, 14 controls.")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.")] = 0,
    uniform_size: Annotated[bool, typer.Option("--uniform-size", help="Every tier at 448 x 448 px.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all usable cores by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another dataset.")] = False,
) -> None:
    """Make the colour task: 14 visual and 3 textual tiers of difficulty, balanced answers."""
    with needing("generate"):
        from mfbayes.data_gen.generation import generate
    with counting("Drawing groups", groups) as advance:
        dataset = generate(
            out,
            n_groups=groups,
            seed=seed,
            uniform_size=uniform_size,
            workers=workers,
            overwrite=overwrite,
            on_group=advance,
        )
    manifest = dataset.manifest
    kinds = manifest["kind"].value_counts()
    typer.echo(
        f"{out}: {manifest['group'].nunique()} groups, {manifest['image'].nunique()} images, "
        f"{kinds.get('conflict', 0)} conflict items, {kinds.get('control', 0)} controls"
    )
