"""Why a multimodal language model follows the text or the image when the two disagree.

The functions below are loaded when first used, so that importing mfbayes costs nothing.

Examples
--------
>>> import mfbayes
>>> trials = mfbayes.read_trials("trials.csv")  # doctest: +SKIP
>>> fit = mfbayes.fit(trials, seed=1)  # doctest: +SKIP
>>> mfbayes.balance_points(fit)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from mfbayes._version import __version__ as __version__

if TYPE_CHECKING:
    from mfbayes.estimates.balance import balance_points as balance_points
    from mfbayes.fitting import fit as fit
    from mfbayes.reports.page import write_report as report
    from mfbayes.trials import read_trials as read_trials

_HOMES = {
    "balance_points": ("mfbayes.estimates.balance", "balance_points"),
    "fit": ("mfbayes.fitting", "fit"),
    "read_trials": ("mfbayes.trials", "read_trials"),
    "report": ("mfbayes.reports.page", "write_report"),
}
__all__ = ["__version__", "balance_points", "fit", "read_trials", "report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mfbayes' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
