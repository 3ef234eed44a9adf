"""Notes of a fit: what its data could not tell, in sentences for the report."""

import json

import xarray as xr


def append_notes(tree: xr.DataTree, notes: list[str]) -> None:
    """Add sentences to the attribute `notes` of a fit, a JSON list, in place."""
    present = json.loads(str(tree.attrs.get("notes", "[]")))
    tree.attrs["notes"] = json.dumps([*present, *notes], ensure_ascii=False)
