"""Layer traces that users bring with their own trials: a file a model, in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from mfbayes.cli.progress import say
from mfbayes.errors import InputError
from mfbayes.names import FIT_FILE, ITEM, MODEL, TRACES_FILE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def read_own_traces(folder: Path, trials: "pd.DataFrame") -> "dict[str, xr.Dataset]":
    """Layer traces of the models of a table of trials; says which models have none, and which traces no trials.

    Parameters
    ----------
    folder : Path
        Holds ``MODEL.nc`` or, as a collection does, ``MODEL/traces.nc``, with "/" in a model's name written "--".
    trials : DataFrame
        Checked trials.

    Raises
    ------
    InputError
        Where trials have no `item`, the folder has traces of none of their models, or a file is no file of traces.
    """
    from mfbayes.inference.sources import folder_name
    from mfbayes.traces import read_traces

    if not folder.is_dir():
        raise InputError(f"Expected a folder of layer traces at {folder}, but there is none.")
    if ITEM not in trials:
        raise InputError("Expected the column 'item' in the trials, to join them with the layer traces of --traces.")
    places = {
        model: (folder / f"{folder_name(model)}.nc", folder / folder_name(model) / TRACES_FILE)
        for model in sorted(map(str, trials[MODEL].unique()))
    }
    files = {model: next((file for file in own if file.is_file()), None) for model, own in places.items()}
    found = {model: file for model, file in files.items() if file}
    if not found:
        wanted = ", ".join(own[0].name for own in places.values())
        raise InputError(f"Expected layer traces of the trials' models in {folder} ({wanted}), but there are none.")
    if missing := [model for model in places if model not in found]:
        say(f"No layer traces of {', '.join(missing)} in {folder}: nothing will be said of their layers.")
    files_there = {*folder.glob("*.nc"), *folder.glob(f"*/{TRACES_FILE}")} - {folder / FIT_FILE}
    if strangers := sorted(str(file.relative_to(folder)) for file in files_there - set(sum(places.values(), ()))):
        say(f"Files of models without trials in {folder}: {', '.join(strangers)}. Nothing is said of them.")
    return {model: read_traces(file) for model, file in found.items()}
