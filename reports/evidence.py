"""What a fit found, as the page reads it: one `Subject` a model and task, and the finished estimates beside."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.tables import without_nonsense
from mfbayes.reports.lettering import without_shared
from mfbayes.reports.measures import Measure, measure_of
from mfbayes.reports.palette import look

type Reading = Literal["text", "image", "even", "unclear", "none"]

ZONE = 0.1
"""Half-width of the zone of practical equivalence where the estimates name none."""

REACH = 0.5
"""Half-width in dH of the ambiguous region where the estimates name none."""


@dataclass(frozen=True)
class Subject:
    """One model on one task, with the numbers of its row of `balance_points`.

    `name` is the model's name in drawings and headlines: long names lose what all of them share.
    `task` says the condition too where there are several: models are compared within a task and condition.
    """

    key: str
    model: str
    name: str
    task: str
    colour: int
    shape: str
    status: str
    law: str
    median: float
    lower: float
    upper: float
    slope: float
    slope_lower: float
    slope_upper: float
    free_slope: float
    n_trials: int
    n_text: int
    n_image: int
    n_other: int
    tfr: float
    tfr_lower: float
    tfr_upper: float
    condition: str = ""
    family: str = ""
    zone: float = ZONE

    @property
    def located(self) -> bool:
        """Whether a balance point can be named: both sides chosen, within the observed dH, and the law holds."""
        return self.status == "ok" and self.law == "falls"

    @property
    def defies_the_law(self) -> bool:
        """Whether P(text) rises with dH, in trials that can tell."""
        return self.status == "ok" and self.law == "rises"

    @property
    def reading(self) -> Reading:
        """Which side the model leans to, judged by its whole interval."""
        if not self.located:
            return "none"
        if self.lower >= -self.zone and self.upper <= self.zone:
            return "even"
        if self.lower > 0:
            return "text"
        return "image" if self.upper < 0 else "unclear"

    @property
    def only_side(self) -> str:
        """The side a one-sided model always chose; empty if it gave neither answer."""
        if self.n_text:
            return "text"
        return "image" if self.n_image else ""


@dataclass(frozen=True)
class Evidence:
    """Subjects in the order the page shows them, and the estimates by name."""

    subjects: tuple[Subject, ...]
    tasks: tuple[str, ...]
    estimates: dict[str, xr.Dataset]
    attributes: dict[str, Any]
    converged: bool

    @property
    def several_tasks(self) -> bool:
        """Whether names must also say the task."""
        return len(self.tasks) > 1

    @property
    def setting(self) -> str:
        """What `tasks` differ in, as a noun."""
        points = self.estimates["balance_points"]
        conditions = _distinct(points, names.CONDITION)
        if conditions < 2:
            return "task"
        return "condition" if _distinct(points, names.TASK) < 2 else "setting"

    @property
    def zone(self) -> float:
        """Half-width of the zone of practical equivalence."""
        return _read_zone(self.estimates)

    @property
    def reach(self) -> float:
        """Half-width in dH of the ambiguous region around a balance point."""
        table = self.table("oscillations")
        return REACH if table is None else float(table.attrs.get("ambiguous_reach", REACH))

    @property
    def measure(self) -> Measure:
        """The index of uncertainty that dH is made of."""
        return measure_of(str(self.attributes.get("index", names.ENTROPY)))

    @property
    def uncertainty(self) -> str:
        """The label of an axis of dH."""
        return "relative uncertainty dH" + (f" (by {self.measure.word})" if self.measure.word else "")

    def short(self, key: str) -> str:
        """A subject's name in running text, with its task where there are several."""
        found = next((s for s in self.subjects if s.key == key), None)
        if found is None:
            return key
        return f"{found.name} ({found.task})" if self.several_tasks else found.name

    @property
    def level(self) -> str:
        """The probability of the intervals, as text: "95 %"."""
        share = 100 * float(self.attributes.get("ci_prob", 0.95))
        return f"{share:g}\N{NO-BREAK SPACE}%"

    @property
    def notes(self) -> list[str]:
        """What the fit has to say about its data."""
        stored = self.attributes.get("notes", [])
        notes = json.loads(stored) if isinstance(stored, str) else stored
        return [str(note) for note in np.atleast_1d(np.asarray(notes, dtype=object))]

    def of_task(self, task: str) -> list[Subject]:
        """Subjects of one task, in page order."""
        return [subject for subject in self.subjects if subject.task == task]

    def table(self, name: str) -> xr.Dataset | None:
        """The estimates of that name, or nothing where the data could not give them."""
        return self.estimates.get(name)


def read_evidence(tree: xr.DataTree) -> Evidence:
    """Read the finished estimates of a fit.

    Raises
    ------
    InputError
        Where the tree has no `/estimates/balance_points`.
    """
    if "estimates" not in tree.children or "balance_points" not in tree["estimates"].children:
        found = ", ".join(sorted(tree.children)) or "nothing"
        raise InputError(
            f"Expected a fit with the node /estimates/balance_points, found {found}. Fit the trials again "
            "with `mfbayes fit`."
        )
    nodes = tree["estimates"].children
    estimates = {str(name): without_nonsense(node.to_dataset(inherit=False).load()) for name, node in nodes.items()}
    checks = estimates.get("convergence")
    passed = True if checks is None else bool(checks.attrs.get("passed", True))
    converged = passed and tree.attrs.get("status", "ok") != "not-converged"
    subjects = _read_subjects(estimates["balance_points"], converged=converged, zone=_read_zone(estimates))
    tasks = tuple(dict.fromkeys(subject.task for subject in subjects))
    return Evidence(subjects, tasks, estimates, {str(key): value for key, value in tree.attrs.items()}, converged)


def _read_zone(estimates: dict[str, xr.Dataset]) -> float:
    table = estimates.get("equivalence")
    return ZONE if table is None else float(table.attrs.get("zone", ZONE))


def _distinct(points: xr.Dataset, name: str) -> int:
    return len(np.unique(points[name].values.astype(str))) if name in points.variables else 1


def _name_settings(points: xr.Dataset) -> list[str]:
    """The task of each subject, the condition where only that differs, or both."""
    shown = [name for name in (names.TASK, names.CONDITION) if _distinct(points, name) > 1]
    if not shown:
        shown = [names.TASK] if names.TASK in points.variables else []
    parts = [points[name].values.astype(str) for name in shown]
    return (
        [" / ".join(p for p in row if p) for row in zip(*parts, strict=True)]
        if parts
        else [""] * points.sizes["subject"]
    )


def _read_status(status: str, *, converged: bool) -> str:
    """Choices of one side only are a fact of the trials, whatever the sampler did."""
    return status if converged or status == "one-sided" else "not-converged"


def _read_subjects(points: xr.Dataset, *, converged: bool, zone: float) -> tuple[Subject, ...]:
    rows = {name: points[name].values for name in points.variables}
    keys = [str(key) for key in rows["subject"]]
    models = [str(model) for model in rows.get("model", keys)]
    tasks = _name_settings(points)
    conditions, families = (rows.get(name, np.full(len(keys), "")) for name in (names.CONDITION, names.FAMILY))
    task_order = list(dict.fromkeys(tasks))
    medians = np.nan_to_num(rows["median"].astype(float), nan=-np.inf)
    order = sorted(range(len(keys)), key=lambda i: (task_order.index(tasks[i]), -medians[i], keys[i]))
    short = without_shared(list(dict.fromkeys(models)))
    looks = {model: look(i) for i, model in enumerate(dict.fromkeys(models[i] for i in order))}

    def real(name: str, i: int) -> float:
        return float(rows[name][i]) if name in rows else float("nan")

    def whole(name: str, i: int) -> int:
        return int(rows[name][i]) if name in rows else 0

    return tuple(
        Subject(
            key=keys[i],
            model=models[i],
            name=short[models[i]],
            task=tasks[i],
            colour=looks[models[i]][0],
            shape=looks[models[i]][1],
            status=_read_status(str(rows["status"][i]) if "status" in rows else "ok", converged=converged),
            law=str(rows["law"][i]) if "law" in rows else "falls",
            median=real("median", i),
            lower=real("lower", i),
            upper=real("upper", i),
            slope=real("slope_mean", i),
            slope_lower=real("slope_lower", i),
            slope_upper=real("slope_upper", i),
            free_slope=real("free_slope", i),
            n_trials=whole("n_trials", i),
            n_text=whole("n_text", i),
            n_image=whole("n_image", i),
            n_other=whole("n_other", i),
            tfr=real("tfr", i),
            tfr_lower=real("tfr_lower", i),
            tfr_upper=real("tfr_upper", i),
            condition=str(conditions[i]),
            family=str(families[i]),
            zone=zone,
        )
        for i in order
    )
