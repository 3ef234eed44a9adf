"""What every importer gives back: trials, the choices behind them, and what was left out."""

import re
from dataclasses import dataclass

import pandas as pd

from mfbayes import names

SAME = "same"
"""In place of a choice where both inputs alone were answered alike, so that nothing conflicts."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NOT_WORDS = re.compile(r"[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Trials, the ratio of every data set and model, and what was left out.

    Attributes
    ----------
    trials : DataFrame
        As `mfbayes.read_trials` takes them, with indices of uncertainty other than entropies.
    ratios : DataFrame
        `model`, `task`, `condition` where there are several, `n_text`, `n_image`, `n_other`, `n_same` (both inputs
        alone were answered alike, so that nothing conflicts) and `text_preference_ratio` = n_text / (n_text + n_image).
    notes : list of str
        What was left out, and why.
    """

    trials: pd.DataFrame
    ratios: pd.DataFrame
    notes: list[str]


def normalise(answer: str) -> str:
    """An answer without letter case, punctuation, articles and repeated spaces; the letter "A" alone stays.

    Examples
    --------
    >>> normalise(" The  Dog. "), normalise("A.")
    ('dog', 'a')
    """
    words = _NOT_WORDS.sub(" ", answer.lower())
    return " ".join(_ARTICLES.sub(" ", words).split() or words.split())


def count_choices(table: pd.DataFrame) -> pd.DataFrame:
    """Choices of each data set and model over its conflict rows, and the share of the text among the followed."""
    conflicts = table[table[names.KIND] == names.CONFLICT]
    by = [column for column in (names.MODEL, names.TASK, names.CONDITION) if column in table]
    counts = conflicts.assign(n=1).pivot_table(index=by, columns=names.CHOICE, values="n", aggfunc="sum", fill_value=0)
    counts = counts.reindex(columns=[*names.CHOICES, SAME], fill_value=0)
    counts.columns = pd.Index([f"n_{label}" for label in counts.columns])
    followed = counts["n_text"] + counts["n_image"]
    return counts.assign(text_preference_ratio=counts["n_text"] / followed.where(followed > 0)).reset_index()
