"""Random answers: how often each model gives one, where the fit has estimated that."""

from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import interval, percent


def tabulate_lapses(evidence: Evidence) -> Table | None:
    """Tabulate the shares of random answers, or nothing where none were estimated."""
    table = evidence.table("lapses")
    if table is None:
        return None
    numbers = Numbers(table, "model")
    rows = [
        [
            model,
            percent(2 * numbers("mean", model)),
            interval(200 * numbers("lower", model), 200 * numbers("upper", model), digits=1),
        ]
        for model in numbers.labels["model"]
    ]
    return Table.of(
        "Share of answers given at random", ["Model", "Random answers", f"{evidence.level} interval, in %"], rows
    )
