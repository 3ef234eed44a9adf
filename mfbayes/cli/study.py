"""The whole road for `fit --model`: dataset, collection of every model, trials and traces of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mfbayes.cli.extras import needing
from mfbayes.cli.progress import counting, say
from mfbayes.cli.record import Record
from mfbayes.names import ALL, DATA_FOLDER, TRACES_FILE, TRIALS_FILE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def check_models(names: Sequence[str], out: Path) -> list[str]:
    """Models to ask, in order and each once; `all` is every embedded model and every one collected in `out`.

    Raises
    ------
    InputError
        If a name is unknown; the nearest is suggested.
    """
    with needing("inference"):
        from mfbayes.inference.catalogue import collected_models, embedded_models, find_model
    wanted: list[str] = []
    for name in names:
        wanted += [*embedded_models(), *collected_models(out)] if name == ALL else [name]
    models = list(dict.fromkeys(wanted))
    for name in models:
        find_model(name)
    return models


def collect_study(
    models: Sequence[str],
    out: Path,
    record: Record,
    *,
    n_groups: int,
    data_seed: int,
    overwrite: bool,
) -> "tuple[pd.DataFrame, dict[str, xr.Dataset]]":
    """Make the dataset in `out`, ask each model about it, and read what they answered.

    Returns
    -------
    DataFrame
        Trials of all models, conflict items and controls.
    dict of str to Dataset
        Layer traces by model.
    """
    with needing("all"):
        from mfbayes.data_gen.generation import generate
        from mfbayes.inference.collection import collect
    import pandas as pd

    from mfbayes.traces import read_traces

    with record.timing("generate"), counting("Drawing groups", n_groups) as advance:
        dataset = generate(out / DATA_FOLDER, n_groups=n_groups, seed=data_seed, overwrite=overwrite, on_group=advance)
    record.hashes["dataset"] = dataset.content_hash
    tables, traces = [], {}
    for number, model in enumerate(models, start=1):
        say(f"Model {number} of {len(models)}: {model}")
        with record.timing(f"collect {model}"):
            folder = collect(dataset, model, out=out, overwrite=overwrite, progress=True)
        tables.append(pd.read_parquet(folder / TRIALS_FILE))
        traces[model] = read_traces(folder / TRACES_FILE)
    return pd.concat(tables, ignore_index=True), traces
