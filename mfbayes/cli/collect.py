"""`mfbayes collect`: ask models about a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from mfbayes.cli.extras import needing
from mfbayes.names import DATA_FOLDER, TRIALS_FILE


def command(
    model: Annotated[list[str], typer.Option(help="Embedded model, hub id or folder. May be given again.")],
    data: Annotated[Path | None, typer.Option(help="Dataset folder; OUT/data by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; auto is cuda where there is one, else cpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs at a time.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N items.")] = None,
    letters: Annotated[
        bool, typer.Option("--letters", help="Ask for A or B, in both orders, and average them by meaning.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="Ask one part only, such as 2/8; the last to finish writes the trials.")
    ] = None,
    engine: Annotated[str, typer.Option(help="here, or ray for a cluster.")] = "here",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; without, this machine alone.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; one a GPU or a node by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of another dataset.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
) -> None:
    """Ask models: answers, entropies and layer traces of every item. Goes on where it was interrupted."""
    from mfbayes.datasets import read_dataset
    from mfbayes.inference.collection import collect
    from mfbayes.inference.engines import open_engine
    from mfbayes.inference.sources import locate_model
    from mfbayes.inference.units import parse_share

    with needing("inference"):
        # All that can be refused is refused before the first model is asked.
        open_engine(engine, address=address, workers=workers)
        if shard is not None:
            parse_share(shard)
        for name in model:
            locate_model(name)
        dataset = read_dataset(data or out / DATA_FOLDER)
        for name in model:
            folder = collect(
                dataset,
                name,
                out=out,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                limit=limit,
                letters=letters,
                shard=shard,
                engine=engine,
                address=address,
                workers=workers,
                overwrite=overwrite,
                trust_remote_code=trust_remote_code,
                progress=True,
            )
            typer.echo(f"{name}: {folder}")
            if letters and (folder / TRIALS_FILE).exists():
                _tell_letters(folder / TRIALS_FILE)


def _tell_letters(file: Path) -> None:
    import pandas as pd

    from mfbayes.estimates.letters import describe_letters, word_letters

    found = describe_letters(pd.read_parquet(file))
    for line in word_letters(found) if found is not None else ():
        typer.echo(line)
