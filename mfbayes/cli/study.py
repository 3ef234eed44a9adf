"""The whole road for `fit --model`: dataset, collection of every model, trials and traces of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mfbayes.cli.extras import needing
from mfbayes.cli.progress import counting, say
from mfbayes.cli.record import Record, relative
from mfbayes.names import ALL, DATA_FOLDER, MODEL, TRACES_FILE, TRIALS_FILE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from mfbayes.datasets import Dataset


def check_models(names: Sequence[str]) -> list[str]:
    """Models to ask, each once and in order; `all` stands for every embedded model.

    Raises
    ------
    InputError
        If a name is unknown; the nearest is suggested.
    """
    from mfbayes.inference.sources import embedded_models, locate_model

    embedded = embedded_models()
    wanted = [model for name in names for model in (embedded if name == ALL else [name])]
    models = list(dict.fromkeys(wanted))
    with needing("inference"):
        for name in models:
            locate_model(name)
    return models


def collect_study(
    models: Sequence[str],
    out: Path,
    record: Record,
    *,
    n_groups: int,
    data_seed: int,
    with_collected: bool,
    overwrite: bool,
) -> "tuple[pd.DataFrame, dict[str, xr.Dataset]]":
    """Make the dataset in `out`, ask each model about it, and read what they answered.

    Parameters
    ----------
    models : sequence of str
        Models to ask; those that were asked before are read again.
    out : Path
        Folder of the run.
    record : Record
        Told hashes and timings.
    n_groups, data_seed : int
        Size and seed of the dataset.
    with_collected : bool
        Add every other model that has been asked about this dataset in `out` before.
    overwrite : bool
        Replace a dataset and collections of other content.

    Returns
    -------
    DataFrame
        Trials of all models, conflict items and controls.
    dict of str to Dataset
        Layer traces by model.
    """
    with needing("generate"):
        from mfbayes.data_gen.generation import generate

    import pandas as pd

    from mfbayes.inference.collection import collect, how_asked
    from mfbayes.traces import read_traces

    with record.timing("generate"), counting("Drawing groups", n_groups) as advance:
        dataset = generate(out / DATA_FOLDER, n_groups=n_groups, seed=data_seed, overwrite=overwrite, on_group=advance)
    record.hashes["dataset"] = dataset.content_hash
    folders = []
    for number, model in enumerate(models, start=1):
        say(f"Asking model {number} of {len(models)}: {model}")
        with record.timing(f"collect {relative(Path(model))}"), needing("inference"):
            folders.append(collect(dataset, model, out=out, overwrite=overwrite, progress=True))
    if with_collected:
        folders += _find_collected(dataset, out, known=folders)
    tables, traces = [], {}
    for folder in folders:
        table = pd.read_parquet(folder / TRIALS_FILE)
        tables.append(table)
        name = str(table[MODEL].iloc[0])
        traces[name] = read_traces(folder / TRACES_FILE)
        record.asked[name] = how_asked(folder)
    return pd.concat(tables, ignore_index=True), traces


def _find_collected(dataset: "Dataset", out: Path, *, known: Sequence[Path]) -> list[Path]:
    """Folders of other models asked about this dataset; says which cannot be used, and why."""
    from mfbayes.inference.collection import is_collected
    from mfbayes.inference.inventory import COLLECTED, list_models

    found = []
    for entry in list_models(out):
        if entry.folder in known:
            continue
        if entry.status == COLLECTED and is_collected(entry.folder, dataset):
            found.append(entry.folder)
        else:
            reason = "asked about another dataset, or by another version" if entry.status == COLLECTED else entry.status
            say(f"Left out: {entry.name} ({reason}). Run `python -m mfbayes collect --model {entry.name}` for it.")
    return found
