"""Notes of a fit: what its data could not tell, in sentences for the report."""

import json

import xarray as xr


def append_notes(tree: xr.DataTree, notes: list[str]) -> None:
    """Add sentences to the attribute `notes` of a fit, a JSON list, in place."""
    tree.attrs["notes"] = json.dumps([*read_notes(tree), *notes], ensure_ascii=False)


def read_notes(tree: xr.DataTree) -> list[str]:
    """The sentences of a fit, in the order in which they were found."""
    return [str(note) for note in json.loads(str(tree.attrs.get("notes", "[]")))]
