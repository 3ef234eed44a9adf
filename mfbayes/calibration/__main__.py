"""Measure what is not there yet and write the page."""

import argparse
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mfbayes.calibration.measures import compare_tiers, measure_coverage, rank_truth, sample_lapsing, sample_marginal
from mfbayes.calibration.page import describe
from mfbayes.calibration.studies import Study, list_studies
from mfbayes.storage import write_text

_SAMPLED = (2, 7, 13, 24, 31, 36)
"""Numbers of the studies of the grid that `nuts` is measured on, with the same seeds and so the same trials."""
_COMPARED = tuple(
    Study(n_groups=40, n_models=models, group_sd=sd, group_model_sd=model_sd, tilt=0.0)
    for sd, model_sd, models in ((0.3, 0.5, 2), (0.3, 1.5, 4), (1.5, 1.5, 4), (0.3, 0.0, 8))
)
_RANKED = Study(n_groups=30, n_models=4, group_sd=None, group_model_sd=None, tilt=0.0)
_LAPSING = replace(_RANKED, lapses=True)


def _jobs(
    replicates: int, sampled: int, ranked: int, compared: int, lapsing: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    grid: list[dict[str, Any]] = [{"study": study, "number": number} for number, study in enumerate(list_studies())]
    for number, job in enumerate(grid):
        yield f"fast-{number}", job | {"kind": "fast", "replicates": replicates}
    for number in _SAMPLED if sampled else ():
        yield f"nuts-{number}", grid[number] | {"kind": "nuts", "replicates": sampled}
    for replicate in range(compared):
        for number, study in enumerate(_COMPARED):
            job = {"kind": "tiers", "study": study, "number": 3000 + number, "replicate": replicate}
            yield f"tiers-{number}-{replicate}", job
    for replicate in range(ranked):
        yield f"rank-{replicate}", {"kind": "rank", "study": _RANKED, "number": 2000, "replicate": replicate}
    for replicate in range(lapsing):
        yield f"lapses-{replicate}", {"kind": "lapses", "study": _LAPSING, "number": 4000, "replicate": replicate}


def _work(key: str, job: Mapping[str, Any]) -> dict[str, Any]:
    study = job["study"]
    if job["kind"] in ("rank", "lapses"):
        sampled = sample_lapsing if study.lapses else sample_marginal
        found = rank_truth(study, number=job["number"], replicate=job["replicate"], fit=sampled)
    elif job["kind"] == "tiers":
        found = compare_tiers(study, number=job["number"], replicate=job["replicate"])
    else:
        fit = sample_marginal if job["kind"] == "nuts" else None
        found = measure_coverage(study, number=job["number"], replicates=job["replicates"], fit=fit)
    return {"key": key, "kind": job["kind"], **asdict(study), **found}


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.jsonl"))
    parser.add_argument("--replicates", type=int, default=40)
    parser.add_argument("--sampled", type=int, default=40)
    parser.add_argument("--ranked", type=int, default=200)
    parser.add_argument("--compared", type=int, default=15)
    parser.add_argument("--lapsing", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="fast, nuts, tiers, rank or lapses")
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {json.loads(line)["key"]: line for line in lines}
    asked = _jobs(options.replicates, options.sampled, options.ranked, options.compared, options.lapsing)
    jobs = [job for job in asked if job[0] not in done]
    jobs = [job for job in jobs if not options.only or job[1]["kind"] == options.only]
    with ProcessPoolExecutor(options.processes) as pool:
        for result in pool.map(_work, *zip(*jobs, strict=True)) if jobs else []:
            with options.out.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(result) + "\n")
    write_text(options.out.with_suffix(".md"), describe(options.out))


if __name__ == "__main__":
    main()
