"""The published outputs of ChartQA-Conflict, read as trials.

The repository (github.com/Ro-netizen004/multimodal-arbitration-artifact) holds 229 charts, each with a report that says
something else, and what models made of chart and report together. Under `results/main_chartqa_conflict/ARM/MODEL/`
one of the two, the arm, is degraded in four levels: 0 is clean, 5 illegible. `*.generation.jsonl` has the answers and
whom they follow, `*.cll.jsonl` the summed log-likelihoods of both designed answers;
`results/calibration/chartqa_unimodal/` has answers to the chart alone and to the report alone.

Nobody published likelihoods of a modality alone, so an index is built from the arms: `nll_text` is the negative
log-likelihood, in nats over all tokens, of the report's answer *with the chart at level 5*, and `nll_image` that of the
chart's answer *with the report at level 5*. The charts are then read by nobody (at most 1 % right), the reports still
in part (8 to 20 % right), so that uncertainties of the chart come out somewhat too high, and balance points too low.
The choice is that of clean chart and clean report.

References
----------
Ghosh, Gupta and Wang, "Which Source Wins? Task-Dependent Reliance in Vision-Language Models", arXiv:2608.17205.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.imports.jsonlines import read_lines
from mfbayes.imports.results import Imported, count_choices
from mfbayes.values import count

TASK = "ChartQA-Conflict"
_ITEMS, _EXCLUDED = "items.jsonl", "excluded_items.json"
_GENERATION, _LIKELIHOODS, _ALONE = "generation.jsonl", "cll.jsonl", "decodability.jsonl"
_FOLLOWED = {"text": names.TEXT, "image": names.IMAGE}
_INDEX_NOTE = (
    "nll_text is the negative log-likelihood of the report's answer with the chart made illegible, nll_image that of "
    "the chart's answer with the report made (nearly) illegible: likelihoods of a modality alone were not published."
)


def read_chartqa_conflict(path: str | Path) -> Imported:
    """Read the outputs of every model in a copy of the repository, original charts only.

    The repository's own judgement of whom an answer follows is taken over ("neither", "ambiguous" and "invalid"
    become `other`), and its own judgement of the answers alone. Items that share a chart form a group. Models without
    likelihoods are counted only.

    Parameters
    ----------
    path : str or Path
        The repository.

    Raises
    ------
    InputError
        Where items or outputs are missing, or a file cannot be read; names file and line.
    """
    root = Path(path)
    items = _read_items(root)
    folders = sorted(folder.parent for folder in root.rglob(f"image/*/level_0_*.{_GENERATION}") if _is_main(folder))
    if not folders:
        raise InputError(
            f"Expected results/main_chartqa_conflict/image/MODEL/level_0_clean.{_GENERATION} below {root}, but found "
            "none. Is the copy of the repository whole?"
        )
    models = [folder.name for folder in folders]
    twice = next((model for model in models if models.count(model) > 1), None)
    if twice:
        raise InputError(f"There are two folders with the outputs of {twice} below {root}. Keep one.")
    table = pd.concat([_read_model(folder, items, root) for folder in folders], ignore_index=True)
    notes = [_INDEX_NOTE]
    silent = table[[names.NLL_TEXT, names.NLL_IMAGE]].isna().any(axis=1)
    for model in sorted(table.loc[silent, names.MODEL].unique()):
        n = int((silent & (table[names.MODEL] == model)).sum())
        notes.append(f"{model}: {count(n, 'row')} left out, whose answers have no log-likelihoods.")
    correct = table[[names.TEXT_CORRECT, names.IMAGE_CORRECT]].isna().any(axis=1) & ~silent
    if correct.any():
        notes.append(
            f"{count(int(correct.sum()), 'row')} without answers to a modality alone count as answered wrongly."
        )
    trials = table[~silent].reset_index(drop=True)
    for column in (names.TEXT_CORRECT, names.IMAGE_CORRECT):
        trials[column] = trials[column].eq(True)
    return Imported(trials=trials, ratios=count_choices(table), notes=notes)


def _is_main(file: Path) -> bool:
    """Whether outputs belong to the original charts: the ablation draws tables in their place."""
    return not any("table" in part or "ablation" in part for part in file.parts[:-1][-4:])


def _read_items(root: Path) -> dict[int, dict[str, Any]]:
    """Items by id, without those that the authors excluded."""
    found = sorted(root.rglob(_ITEMS))
    if not found:
        raise InputError(f"Expected data/chartqa_conflict/{_ITEMS} below {root}, but there is none. Is the copy whole?")
    needed = ("conflict_id", "chartqa_test_index", "chart_answer", "report_answer")
    items = {}
    for number, row in read_lines(found[0]):
        absent = [name for name in needed if name not in row]
        if absent:
            raise InputError(f"Expected {' and '.join(absent)} in line {number} of {found[0]}.")
        items[_read_id(row["conflict_id"], number, found[0])] = row
    excluded = found[0].with_name(_EXCLUDED)
    if excluded.is_file():
        try:
            dropped = {int(entry["conflict_id"]) for entry in json.loads(excluded.read_text(encoding="utf-8"))}
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise InputError(f"Expected a list of entries with `conflict_id` in {excluded}.") from error
        items = {number: row for number, row in items.items() if number not in dropped}
    if not items:
        raise InputError(f"Expected items in {found[0]}, but none is left. Is the copy whole?")
    return items


def _read_model(folder: Path, items: Mapping[int, Mapping[str, Any]], root: Path) -> pd.DataFrame:
    """One row an item of one model."""
    other = folder.parent.parent / "text" / folder.name
    choices = _read_level(folder, 0, _GENERATION)
    # The arm names what is degraded: the report speaks alone where the image is.
    of_text = _read_level(folder, 5, _LIKELIHOODS)
    of_image = _read_level(other, 5, _LIKELIHOODS)
    alone = {
        side: next((_read_level(file.parent, 0, _ALONE) for file in _find_alone(root, side, folder.name)), {})
        for side in (names.TEXT, names.IMAGE)
    }
    rows = []
    for number, item in items.items():
        if number not in choices:
            raise InputError(f"Item {number} has no answer of {folder.name} in {folder}. Is the copy whole?")
        row = {
            names.MODEL: folder.name,
            names.TASK: TASK,
            names.GROUP: _chart(item),
            names.ITEM: str(number),
            names.KIND: names.CONFLICT,
            names.CHOICE: _FOLLOWED.get(str(choices[number].get("follows")), names.OTHER),
            names.NLL_TEXT: _negative(of_text.get(number), names.TEXT),
            names.NLL_IMAGE: _negative(of_image.get(number), names.IMAGE),
            "text_answer": str(item["report_answer"]),
            "image_answer": str(item["chart_answer"]),
            "answer_both": str(choices[number].get("extracted_final") or ""),
            "answer_type": str(item.get("answer_type", "")),
        }
        for side, column in ((names.TEXT, names.TEXT_CORRECT), (names.IMAGE, names.IMAGE_CORRECT)):
            row[column] = alone[side].get(number, {}).get("correct")
        rows.append(row)
    return pd.DataFrame(rows)


def _chart(item: Mapping[str, Any]) -> str:
    """What tells charts apart: several questions of ChartQA share the table that a chart was drawn from."""
    return Path(str(item.get("source_table") or item["chartqa_test_index"])).stem


def _find_alone(root: Path, side: str, model: str) -> list[Path]:
    return sorted(root.rglob(f"chartqa_unimodal/{side}/{model}/level_0_*.{_ALONE}"))


def _read_level(folder: Path, level: int, kind: str) -> dict[int, dict[str, Any]]:
    """Rows of one level by item; none where there is no such file."""
    rows: dict[int, dict[str, Any]] = {}
    for file in sorted(folder.glob(f"level_{level}_*.{kind}")):
        for number, row in read_lines(file):
            key = _read_id(row.get("i"), number, file)
            if key in rows:
                raise InputError(f"Item {key} comes again in line {number} of {file}. Remove the copy.")
            rows[key] = row
    return rows


def _read_id(value: Any, number: int, file: Path) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"Expected the number of an item in line {number} of {file}, got {value!r}.") from error


def _negative(row: Mapping[str, Any] | None, side: str) -> float:
    """Negative log-likelihood of a side's answer, in nats; NaN where the model has none."""
    margin = (row or {}).get("margin")
    value = margin.get(f"cll_{side}_sum") if isinstance(margin, Mapping) else None
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value > 1e-6:
        raise InputError(
            f"Expected a finite log-likelihood of at most 0 for item {(row or {}).get('i')}, got {value!r}."
        )
    return max(0.0, -float(value))
