"""Predictions: P(text) of a conflict that was not in the data."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import ArrayLike
from scipy.special import expit

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.draws import (
    labelled_posterior,
    stack_draws,
    stack_lapses,
    subject_coordinates,
    tails,
    thin,
    total_spread,
)
from mfbayes.indices import COLUMNS
from mfbayes.tables import read_table
from mfbayes.uncertainty import relative_uncertainty
from mfbayes.values import read_numbers

_DRAWS = 2000
_NODES, _WEIGHTS = hermegauss(21)


def predict(
    tree: xr.DataTree, *, H_text: ArrayLike, H_image: ArrayLike, subject: str | None = None, seed: int = 0
) -> xr.Dataset:
    """P(text) for new pairs of uncertainties, averaged over groups and for one new group.

    Parameters
    ----------
    tree : DataTree
        A fit.
    H_text, H_image : array_like, shape (n_predictions,)
        Entropies in nats (or the index that was fitted) of the text alone and the image alone.
    subject : str, optional
        One subject of the fit; by default all.
    seed : int
        Seed of the new groups that are drawn.

    Returns
    -------
    Dataset
        Over (subject, prediction): `mean`, `lower`, `upper` of the share of trials that follow the text
        over many groups (the interval is what is not known of the parameters), and `new_group_median`,
        `new_group_lower`, `new_group_upper` of P(text) in one group not seen before (its own effects
        included). Coordinates `dH`, `H_text`, `H_image` over prediction.

    Raises
    ------
    InputError
        For entropies below zero, both zero, or lists of two lengths; for a subject that the fit does not have.
    """
    try:
        given = [np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (H_text, H_image)]
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected numbers for H_text and H_image, got {H_text!r} and {H_image!r}.") from error
    sizes = {values.size for values in given} - {1}
    if any(values.ndim > 1 for values in given) or len(sizes) > 1:
        shapes = " and ".join(str(values.shape) for values in given)
        raise InputError(f"Expected one entropy or a list of one length for H_text and H_image, got shapes {shapes}.")
    of_text, of_image = np.broadcast_arrays(*given)
    bad = ~(np.isfinite(of_text) & np.isfinite(of_image)) | (of_text < 0) | (of_image < 0) | (of_text + of_image == 0)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InputError(
            "Expected finite entropies of at least 0, not both 0, "
            f"got H_text {of_text[i]:g} and H_image {of_image[i]:g} (prediction {i})."
        )
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    subjects = [str(label) for label in posterior[names.SUBJECT].to_numpy()]
    if subject is not None and subject not in subjects:
        raise InputError(f"Expected a subject among {', '.join(subjects)}, got {subject!r}.")
    kept = thin(posterior if subject is None else posterior.sel({names.SUBJECT: [subject]}), _DRAWS)
    dH = relative_uncertainty(of_text, of_image)
    spread = total_spread(kept)
    balance_point, slope = stack_draws(kept, "balance_point"), stack_draws(kept, "slope")
    level = slope[:, None, :] * (balance_point[:, None, :] - dH[:, None])
    share = np.zeros_like(level)
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        share += weight * expit(level + node * spread)
    lapse = stack_lapses(kept)[:, None, :]
    share = lapse + (1 - 2 * lapse) * share
    new_group = lapse + (1 - 2 * lapse) * expit(
        level + spread * np.random.default_rng(seed).standard_normal(spread.size)
    )
    lower, upper = np.quantile(share, tails(ci_prob), axis=-1)
    new_lower, median, new_upper = np.quantile(new_group, [*tails(ci_prob), 0.5], axis=-1)[[0, 2, 1]]
    found = {
        "mean": share.mean(axis=-1),
        "lower": lower,
        "upper": upper,
        "new_group_median": median,
        "new_group_lower": new_lower,
        "new_group_upper": new_upper,
    }
    return xr.Dataset(
        {name: ((names.SUBJECT, "prediction"), values) for name, values in found.items()},
        coords=subject_coordinates(kept)
        | {
            names.DH: ("prediction", dH),
            names.H_TEXT: ("prediction", of_text),
            names.H_IMAGE: ("prediction", of_image),
        },
        attrs={"ci_prob": ci_prob},
    )


def read_conflicts(path: str | Path, *, index: str = names.ENTROPY) -> pd.DataFrame:
    """Read new conflicts: a row each, with the two uncertainties of the index that was fitted; more columns are kept.

    Raises
    ------
    InputError
        Where the file is no table, or a column or a number is missing.
    """
    columns = COLUMNS[index]
    table, place = read_table(Path(path), as_text=frozenset())
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"Expected the columns {' and '.join(columns)} in {path}, for the fit's dH is made of them; "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing."
        )
    if not len(table):
        raise InputError(f"The file {path} has no rows. Expected one for each new conflict.")
    numbers = {column: read_numbers(table[column], place, expected="a finite number >= 0") for column in columns}
    both = np.flatnonzero((numbers[columns[0]] + numbers[columns[1]]).to_numpy() == 0)
    if both.size:
        raise InputError(f"{columns[0]} and {columns[1]} are both 0 in {place(int(both[0]))}: dH does not exist there.")
    return table.assign(**numbers)


def predict_table(tree: xr.DataTree, conflicts: pd.DataFrame) -> pd.DataFrame:
    """P(text) of every subject in every new conflict, a row each, with whatever else the conflicts' table has.

    Parameters
    ----------
    tree : DataTree
        A fit.
    conflicts : DataFrame
        As `read_conflicts` returns it.

    Returns
    -------
    DataFrame
        `row` (from 1), the columns of the conflicts, `dH`, the subject's labels, and the numbers of `predict`.
    """
    of_text, of_image = COLUMNS[str(tree.attrs["index"])]
    found = predict(tree, H_text=conflicts[of_text].to_numpy(), H_image=conflicts[of_image].to_numpy())
    table = found.drop_vars([names.H_TEXT, names.H_IMAGE]).to_dataframe().reset_index()
    own = conflicts.drop(columns=[column for column in conflicts if column in table])
    rows = own.iloc[table["prediction"].to_numpy()].reset_index(drop=True)
    measured = [str(name) for name in found.data_vars]
    labels = table.drop(columns=["prediction", *measured]).assign(ci_prob=found.attrs["ci_prob"])
    row = (table["prediction"] + 1).rename("row")
    return pd.concat([row, rows, labels, table[measured]], axis="columns")
