"""Estimates as tidy tables: a row for every combination of labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.estimates.draws import name_subjects
from mfbayes.storage import make_folder, write_text

# Draws and curves for figures; they have no use as tables.
_NOT_TABLES = frozenset({"balance_density", "law_curves", "layer_map", "dH_histogram", "case_study", "case_image"})

BEYOND_SENSE = 1e6
"""No estimate is larger than this: b lies about in [-2, 2], log-odds in the tens, sums over trials in the thousands."""

# Attributes that a table cannot be read without.
_TOLD = ("ci_prob", "zone", "dH_suffices", "ignorable", "status")


def tabulate(estimate: xr.Dataset) -> pd.DataFrame:
    """A labelled Dataset in long form, without rows that are empty and numbers that make no sense.

    Variables with fewer dims than the largest are repeated over the others, and so are attributes that say how to
    read them: `ci_prob`, `zone`, verdicts, `status`.

    Examples
    --------
    >>> estimate = xr.Dataset({"mean": ("subject", [0.1, np.nan])}, coords={"subject": ["a", "b"]})
    >>> tabulate(estimate).to_dict("records")
    [{'subject': 'a', 'mean': 0.1}]
    """
    estimate = without_nonsense(estimate)
    dims = list(estimate.dims)
    table = estimate.to_dataframe().reset_index()
    measured = [str(name) for name in estimate.data_vars]
    table = table[~table[measured].isna().all(axis="columns")]
    labels = [str(name) for name in table.columns if str(name) not in measured]
    labels.sort(key=lambda name: (name not in dims, dims.index(name) if name in dims else 0))
    table = table[[*labels, *measured]].reset_index(drop=True)
    for name in _TOLD:
        if name in estimate.attrs and name not in table:
            table[name] = estimate.attrs[name]
    return table


def split_by_dims(estimate: xr.Dataset) -> dict[str, xr.Dataset]:
    """Variables that stand over the same labels, or fewer of them, by the dims that only they have.

    A table of all would repeat each of two that cross for every label of the other. The widest is called "".

    Examples
    --------
    >>> crossed = xr.Dataset({"slope": (("side", "term"), [[1, 2]]), "sd": (("side", "scale"), [[3]])})
    >>> {name: list(part) for name, part in split_by_dims(crossed).items()}
    {'': ['slope'], 'scale': ['sd']}
    """
    dims = {name: frozenset(map(str, values.dims)) for name, values in estimate.data_vars.items()}
    widest = [own for own in dict.fromkeys(dims.values()) if not any(own < other for other in dims.values())]
    widest.sort(key=len, reverse=True)
    parts, left = {}, dict(dims)
    for own in widest:
        chosen = [name for name, its in left.items() if its <= own]
        parts["-".join(sorted(own - widest[0]))] = estimate[chosen]
        left = {name: its for name, its in left.items() if name not in chosen}
    return parts


def without_nonsense(estimate: xr.Dataset) -> xr.Dataset:
    """An estimate with NaN in place of what is no number, or none that makes sense: fits that fail leave such things.

    Examples
    --------
    >>> without_nonsense(xr.Dataset({"mean": ("subject", [0.5, np.inf, -1e233])}))["mean"].to_numpy().tolist()
    [0.5, nan, nan]
    """
    real = {name: values for name, values in estimate.data_vars.items() if values.dtype.kind == "f"}
    # Infinity is beyond any bound, and NaN within none.
    return estimate.assign({name: values.where(np.abs(values) <= BEYOND_SENSE) for name, values in real.items()})


def name_index(tree: xr.DataTree) -> str:
    """The index of uncertainty that a fit's dH is made of."""
    return str(tree.attrs.get("index", names.ENTROPY))


def list_tables(tree: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Estimates of a fit that are tables, by the names of their files; subjects with their model, task and so on."""
    estimates = tree["estimates"].children
    for name, node in estimates.items():
        estimate = node.to_dataset(inherit=False)
        if name == "plane":
            # The map is a picture; the curve on it is an estimate.
            name, estimate = "balance_curve", estimate.drop_dims("H_image_point")
        if name in _NOT_TABLES or not estimate.data_vars:
            continue
        if name == "balance_points":
            estimate = estimate.assign(index=name_index(tree))
        if names.SUBJECT in estimate.dims and "balance_points" in estimates:
            labels = name_subjects(estimates["balance_points"].to_dataset(), estimate[names.SUBJECT].to_numpy())
            estimate = estimate.assign_coords({name: at for name, at in labels.items() if name not in estimate.coords})
        for extra, part in split_by_dims(estimate).items():
            yield (f"{name}_by_{extra}" if extra else str(name)), part


def write_tables(tree: xr.DataTree, folder: Path) -> list[str]:
    """Write every estimate of a fit that is a table as `folder/NAME.csv`; returns their names."""
    make_folder(folder)
    written = []
    for name, part in list_tables(tree):
        write_text(folder / f"{name}.csv", tabulate(part).to_csv(index=False, lineterminator="\n"))
        written.append(name)
    return written


def remove_tables(tree: xr.DataTree, folder: Path) -> None:
    """Remove the files that `write_tables` made of a fit, before another takes its place."""
    for name, _ in list_tables(tree):
        (folder / f"{name}.csv").unlink(missing_ok=True)
