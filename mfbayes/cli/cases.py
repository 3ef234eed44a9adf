"""The case study: one image with three texts, picked by rule where the dataset is at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mfbayes import names

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TIERS: Final = ("easy", "middle", "hard")
LARGEST_IMAGE: Final = 60_000
"""Bytes of an image that the report still takes along."""

RULE: Final = (
    "of all images that a model met with three texts and gave both answers to, the one whose texts span dH most widely"
)


def add_case_study(
    tree: "xr.DataTree", trials: "pd.DataFrame", traces: "Mapping[str, xr.Dataset]", dataset_folder: Path
) -> None:
    """Add `/estimates/case_study`, and `/estimates/case_image` with the bytes of its image file, in place.

    Of every subject and image with a trial of three texts or more, the easiest, the middle and the hardest text are
    taken; among those answered with the text and with the image at least once, the case is the one whose dH spans most
    (ties: first by subject and group). Only trials that the fit uses count, and only those whose trace can be used, as
    `mfbayes.trajectories.join_traces` says. Without such a case, or without the dataset, nothing is added.

    Parameters
    ----------
    tree : DataTree
        A fit of the same trials.
    trials : DataFrame
        The trials, with items and difficulty tiers.
    traces : mapping of str to Dataset
        Layer traces by model.
    dataset_folder : Path
        Folder of the dataset that was asked about. Its image is left out above 60 kB.
    """
    import pandas as pd
    import xarray as xr

    manifest = dataset_folder / names.MANIFEST_FILE
    if not {names.ITEM, names.D_TEXT, names.D_IMAGE} <= set(trials.columns) or not traces or not manifest.is_file():
        return
    case = _choose(_list_candidates(trials, traces, subset=str(tree.attrs["subset"]), index=str(tree.attrs["index"])))
    items = pd.read_parquet(manifest).set_index(names.ITEM)
    if case is None or not set(case[names.ITEM]) <= set(items.index):
        return
    own = items.loc[case[names.ITEM]]
    found = traces[str(case[names.MODEL].iloc[0])].sel({names.ITEM: case[names.ITEM].to_numpy(object)})
    by_case = {name: ("case", case[name].to_numpy(float)) for name in (names.DH, names.H_TEXT, names.H_IMAGE)}
    by_case |= {names.CHOICE: ("case", case[names.CHOICE].to_numpy(object))}
    by_case |= {
        "text": ("case", own["description"].to_numpy(object)),
        "text_answer": ("case", own["text_answer"].to_numpy(object)),
    }
    by_layer = {name: (("case", names.LAYER), found[name].to_numpy()) for name in (names.LOGIT_DIFFERENCE, names.STATE)}
    first = own.iloc[0]
    study = xr.Dataset(
        by_case | by_layer,
        coords={
            "case": list(TIERS),
            names.LAYER: found[names.LAYER].to_numpy(),
            names.ITEM: ("case", case[names.ITEM].to_numpy(object)),
        },
        attrs={
            names.MODEL: str(case[names.MODEL].iloc[0]),
            names.SUBJECT: str(case[names.SUBJECT].iloc[0]),
            "image_answer": str(first["image_answer"]),
            "question": str(first["question"]),
            "rule": RULE,
        },
    )
    tree["estimates/case_study"] = xr.DataTree(dataset=study)
    content = _read_image(dataset_folder, str(first["image"]))
    if content:
        import numpy as np

        picture = xr.Dataset({"content": ("byte", np.frombuffer(content, dtype=np.uint8).copy())})
        tree["estimates/case_image"] = xr.DataTree(dataset=picture)


def _list_candidates(
    trials: "pd.DataFrame", traces: "Mapping[str, xr.Dataset]", *, subset: str, index: str
) -> "pd.DataFrame":
    """Trials that a fit uses and that have a trace that can be used."""
    import numpy as np
    import pandas as pd

    from mfbayes.errors import InputError
    from mfbayes.selection import select_trials
    from mfbayes.trajectories import join_traces
    from mfbayes.trials import check_trials

    used = select_trials(check_trials(trials), subset=subset, index=index).trials
    try:
        joined, _ = join_traces(trials, traces, subset=subset, index=index)
    except InputError:
        return used.iloc[:0]
    traced = pd.MultiIndex.from_arrays([np.array(joined.subjects, dtype=object)[joined.subject], joined.items])
    return used[pd.MultiIndex.from_frame(used[[names.SUBJECT, names.ITEM]]).isin(traced)]


def _choose(candidates: "pd.DataFrame") -> "pd.DataFrame | None":
    """Three rows of the widest case, from the easiest text to the hardest, or nothing."""
    import numpy as np

    case = [names.SUBJECT, names.GROUP, names.D_IMAGE]
    ordered = candidates.sort_values([*case, names.D_TEXT], kind="stable").drop_duplicates([*case, names.D_TEXT])
    dH, choice = ordered[names.DH].to_numpy(), ordered[names.CHOICE].to_numpy()
    best, widest = None, 0.0
    for rows in ordered.groupby(case, sort=True).indices.values():
        if len(rows) < len(TIERS):
            continue
        three = np.array(rows)[[0, len(rows) // 2, -1]]
        span = float(np.ptp(dH[three]))
        if {names.TEXT, names.IMAGE} <= set(choice[three]) and span > widest:
            best, widest = ordered.iloc[three], span
    return best


def _read_image(folder: Path, relative: str) -> bytes:
    """The image file's bytes, empty where it is missing, lies outside the folder or is too large."""
    file = (folder / relative).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file() or file.stat().st_size > LARGEST_IMAGE:
        return b""
    return file.read_bytes()
