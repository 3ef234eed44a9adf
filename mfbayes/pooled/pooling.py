"""Files of trials in, balance points out: the pooled model from end to end."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import PLURALS
from mfbayes.pooled.estimate import estimate_pooled
from mfbayes.pooled.optimum import Coefficients
from mfbayes.pooled.parts import Part, compress_parts, divide, score_parts, working
from mfbayes.pooled.streaming import find_sources
from mfbayes.storage import make_folder, write_bytes, write_text
from mfbayes.trials import CORRECT
from mfbayes.values import count, list_choices

type Counting = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be pooled: parts of files, the subset that they really give, the index of dH, and notes."""

    parts: tuple[Part, ...]
    subset: str
    index: str
    notes: tuple[str, ...]


def plan(places: Iterable[Path], *, subset: str = names.BOTH_CORRECT, index: str = names.ENTROPY) -> Work:
    """Find the trials and divide them into parts, before anything expensive.

    Raises
    ------
    InputError
        Where files cannot be used, or the subset or the index is unknown.
    """
    if subset not in names.SUBSETS:
        raise InputError(f"Expected subset {list_choices(names.SUBSETS)}, got {subset!r}.")
    sources = find_sources(places, index=index)
    absent = [column for column in CORRECT if column not in sources[0].columns]
    notes: tuple[str, ...] = ()
    if subset == names.BOTH_CORRECT and absent:
        subset = names.ALL
        notes = (
            "All trials are used, also items that a model cannot answer from one modality alone: "
            f"the column{'s' if len(absent) > 1 else ''} {' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} "
            "absent.",
        )
    return Work(parts=divide(sources, subset=subset), subset=subset, index=index, notes=notes)


def pool(
    places: str | Path | Sequence[str | Path],
    *,
    subset: str = names.BOTH_CORRECT,
    index: str = names.ENTROPY,
    ci_prob: float = 0.95,
    processes: int = 1,
    folder: str | Path | None = None,
) -> xr.Dataset:
    """Balance points by one logistic curve a subject, from parquet files of any size.

    Trials are streamed twice and never all in memory; that no item comes twice is not checked.

    Parameters
    ----------
    places : str, Path or sequence of them
        Parquet files, or folders of them, with the columns of `mfbayes.trials.read_trials`.
    subset : {"both-correct", "all"}
        Only items that the model answers correctly from each modality alone, or every item.
    index : {"entropy", "margin", "max-probability", "nll"}
        The uncertainty whose relative difference is dH; see `mfbayes.indices`.
    ci_prob : float
        Probability of the intervals.
    processes : int
        Number of processes; the result does not depend on it.
    folder : str or Path, optional
        Where finished parts are kept, so that a later call goes on from them; nowhere by default.

    Returns
    -------
    Dataset
        As `mfbayes.pooled.estimate.estimate_pooled`; attrs `ci_prob`, `subset`, `index`, `notes`.

    Raises
    ------
    InputError
        Where a file or a value cannot be used, or nothing is left to analyse.
    """
    check_options(ci_prob=ci_prob, processes=processes)
    several = [places] if isinstance(places, str | Path) else places
    work = plan(map(Path, several), subset=subset, index=index)
    with TemporaryDirectory() if folder is None else nullcontext(folder) as kept:
        return run(work, Path(kept), ci_prob=ci_prob, processes=processes)


def check_options(*, ci_prob: float, processes: int) -> None:
    """Refuse values out of range.

    Raises
    ------
    InputError
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, but {ci_prob} came. For 95 % write 0.95.")
    if processes < 1:
        raise InputError(f"Expected 1 process or more, but {processes} came.")


def _count_silently(label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda done: None)


def run(
    work: Work, folder: Path, *, ci_prob: float, processes: int, counting: Counting = _count_silently
) -> xr.Dataset:
    """Do planned work: compress, fit, and score; see `pool`."""
    make_folder(folder)
    notes = list(work.notes)
    with working(min(processes, len(work.parts))) as mapper:
        with counting("Compressing trials", len(work.parts)) as tell:
            compression = compress_parts(work.parts, folder, mapper=mapper, tell=tell)
        if not (compression.n_trials.any() or compression.n_other.any()):
            raise InputError(
                "No conflict trial is left to analyse: every row is a control, has no dH, or is outside the subset "
                f"{work.subset!r}. Check kind, the {PLURALS[work.index]}, text_correct and "
                "image_correct, or use the subset 'all'."
            )
        if compression.n_undefined:
            notes.append(
                f"{count(compression.n_undefined, 'row')} left out: both {PLURALS[work.index]} are zero, "
                "so the relative uncertainty dH does not exist."
            )

        def score(coefficients: Coefficients) -> pd.DataFrame:
            with counting("Scoring groups", len(work.parts)) as tell:
                return score_parts(coefficients, work.parts, folder, mapper=mapper, tell=tell)

        estimate = estimate_pooled(compression, score, ci_prob=ci_prob)
    return estimate.assign_attrs(subset=work.subset, index=work.index, notes="\n".join(notes))


def tabulate_pooled(estimate: xr.Dataset) -> pd.DataFrame:
    """A row a subject: its labels and everything but the comparisons with other subjects."""
    table = estimate.drop_dims("other_subject").to_dataframe().reset_index()
    labels = ["subject", "model", "task", "condition"]
    table = table[[*labels, *(name for name in table if name not in labels)]]
    return table.assign(index=estimate.attrs["index"], ci_prob=estimate.attrs["ci_prob"])


def tabulate_pairs(estimate: xr.Dataset) -> pd.DataFrame:
    """A row an ordered pair of subjects on one scale: difference of their balance points, and their covariance."""
    pairs = estimate[["difference", "difference_se", "difference_lower", "difference_upper", "covariance"]]
    table = pairs.to_dataframe().dropna(subset="difference").reset_index()
    labels = ["subject", "other_subject", "model", "task", "condition"]
    table = table[[*labels, *pairs]].rename(columns=lambda name: name.removeprefix("difference_"))
    return table.assign(index=estimate.attrs["index"], ci_prob=estimate.attrs["ci_prob"])


def write_pooled(estimate: xr.Dataset, *, table: Path, pairs: Path, dataset: Path) -> None:
    """Write the tables of subjects and of their pairs as CSV and everything as netCDF, each atomically."""
    write_text(table, tabulate_pooled(estimate).to_csv(index=False, lineterminator="\n"))
    write_text(pairs, tabulate_pairs(estimate).to_csv(index=False, lineterminator="\n"))
    write_bytes(dataset, estimate.to_netcdf(engine="h5netcdf"))
