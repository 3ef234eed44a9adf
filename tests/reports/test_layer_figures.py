"""Figures on layers: their numbers, findings by rule, pages without their nodes, and what a case study may carry."""

import base64
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import numpy as np
import pytest
import xarray as xr

from mfbayes.reports.cases import draw_case
from mfbayes.reports.evidence import read_evidence
from mfbayes.reports.hazards import SIDES, TERMS, draw_hazards
from mfbayes.reports.layer_maps import draw_layer_maps
from mfbayes.reports.oscillations import draw_oscillations
from mfbayes.reports.page import render
from mfbayes.reports.switching_checks import MEASURES, check_switching
from mfbayes.reports.vacillation import SEPARABLE, TITLES, draw_contrasts, tabulate_verdicts
from mfbayes.simulated_traces import Switching, simulate_traces
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.trajectories import join_traces
from mfbayes.vacillation.estimates import describe_traces
from mfbayes.vacillation.summaries import align
from mfbayes.vacillation.verdicts import NO, NO_POSITIVITY, TEXT_SIDE_ONLY, VERDICTS, YES

HOSTILE = "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)> '&amp;"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TRUTH = {"a": 0.3, "b": -0.4}
SECTIONS = {
    "traces": "Round trips per item",
    "contrasts": 'id="vacillation"',
    "vacillation": "Verdicts by rule",
    "placebos": "around other centres than b",
    "total_entropy": "at equal total entropy, with",
    "layer_map": 'id="layers"',
    "hazard_by_depth": 'id="hazards"',
    "hazard_by_distance": "<caption>Hazard by distance",
    "switching_effects": "Effects on the log-odds",
    "predictive_checks": "Replicates: ",
    "missing_at_random": "Silent layers",
    "switching_comparison": "Terms: ",
    "switching_convergence": "largest R-hat",
    "switching_calibration": "Simulated traces: ",
    "case_study": 'id="case"',
    "case_image": "<img",
}


@pytest.fixture(scope="module")
def described() -> dict[str, xr.Dataset]:
    """What simulated traces say, by the code that says it of real ones."""
    rng = np.random.default_rng(3)
    trials, _ = simulate_trials(Scenario(models=TRUTH, n_groups=12), rng=rng)
    traces, _ = simulate_traces(trials, TRUTH, rng=rng, n_layers=6, switching=Switching(by_distance=2.0))
    joined, _ = join_traces(trials, traces, subset="both-correct", index="entropy")
    draws = np.array([[b] for b in TRUTH.values()]) + rng.normal(0, 0.05, (2, 200))
    estimates, _ = describe_traces(joined, draws, ci_prob=0.95, rng=rng)
    return estimates


@pytest.fixture
def layered(
    build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any], described: dict[str, xr.Dataset]
) -> xr.DataTree:
    """A fit with every node on layers."""
    tree = build_tree([make_case(name, b) for name, b in TRUTH.items()], traces=False)
    for name, node in (described | model_switching() | study_case()).items():
        tree[f"estimates/{name}"] = xr.DataTree(node.copy(deep=True))
    return tree


def model_switching() -> dict[str, xr.Dataset]:
    """Estimates of hazards in the form of `mfbayes.switching`, with numbers that tests can foretell."""
    subjects, sides, terms = list(TRUTH), list(SIDES), ["x", "distance", "switched-1-ago"]
    layers, grid = np.arange(1, 6), np.linspace(-2, 2, 41)

    def surround(dims: tuple[str, ...], mean: np.ndarray) -> dict[str, Any]:
        return {"mean": (dims, mean), "lower": (dims, 0.8 * mean), "upper": (dims, 1.2 * mean)}

    by_depth = np.full((2, 2, 5), 0.1)
    by_depth[:, 0, 2] = 0.4
    effects = surround(("subject", "side", "term"), np.ones((2, 2, 3)))
    effects |= {
        f"mean_{k}": (("side", "term"), np.full((2, 3), v)) for k, v in (("mean", 0.7), ("lower", 0.1), ("upper", 1.2))
    }
    effects["mean_p_positive"] = (("side", "term"), np.full((2, 3), 0.5))
    checks = surround(("subject", "measure"), np.ones((2, 5)))
    checks["observed"] = (("subject", "measure"), np.array([[1.0, 1.3, 1.0, 1.0, 1.0], [1.0, 1.4, 1.0, 1.0, 1.0]]))
    checks["p_tail"] = (("subject", "measure"), np.full((2, 5), 0.3))
    gaps = {"gaps": 9.0, "observed": 7.0, "expected": 3.2, "lower": 1.0, "upper": 6.0, "p_more": 0.01}
    versions = ["without x", "x", "x and distance"]
    compared = {"elpd": [-90.0, -60.0, -61.5], "elpd_difference": [-30.0, 0.0, -1.5], "difference_se": [7.0, 0.0, 2.0]}
    compared |= {"n_unknown": [0.0, 0.0, 2.0]}
    return {
        "hazard_by_depth": xr.Dataset(
            surround(("subject", "side", "layer"), by_depth), {"subject": subjects, "side": sides, "layer": layers}
        ),
        "hazard_by_distance": xr.Dataset(
            surround(("subject", "side", "x"), np.full((2, 2, 41), 0.2)),
            {"subject": subjects, "side": sides, "x": grid},
        ),
        "switching_effects": xr.Dataset(
            effects, {"subject": subjects, "side": sides, "term": terms}, {"passed": 1}
        ),
        "predictive_checks": xr.Dataset(checks, {"subject": subjects, "measure": list(MEASURES)}),
        "missing_at_random": xr.Dataset(
            {name: ("subject", np.full(3, value)) for name, value in gaps.items()}, {"subject": [*subjects, "all"]}
        ),
        "switching_comparison": xr.Dataset({k: ("version", v) for k, v in compared.items()}, {"version": versions}),
        "switching_calibration": xr.Dataset(
            {
                name: ("term", [value, value])
                for name, value in (
                    ("coverage", 0.95), ("coverage_error", 0.008), ("coverage_sets", 120),
                    ("bias", 0.02), ("bias_error", 0.05), ("bias_sets", 40),
                )
            },
            {"term": ["x", "distance"]},
        ),
        "switching_convergence": xr.Dataset(
            {name: ("parameter", [value, value]) for name, value in (("r_hat", 1.002), ("ess_bulk", 900.0))},
            {"parameter": ["p", "q"]},
            {"passed": 1},
        ),
    }  # fmt: skip


def study_case(text: str = "The circle is blue.", content: bytes = PNG) -> dict[str, xr.Dataset]:
    course = np.array([[1.0, -2.0, 3.0], [1.0, -1.0, -0.5], [-1.0, 0.5, -2.0]])
    study = xr.Dataset(
        {
            "logit_difference": (("case", "layer"), course),
            "state": (("case", "layer"), np.array([[1, 0, 1], [1, -1, 0], [0, -1, 0]])),
            "dH": ("case", [-1.2, 0.1, 0.9]),
            "H_text": ("case", [0.1, 0.4, 0.9]),
            "H_image": ("case", [0.4, 0.4, 0.4]),
            "choice": ("case", ["text", "image", "image"]),
            "text": ("case", [text] * 3),
            "text_answer": ("case", ["blue"] * 3),
        },
        {"case": ["easy", "middle", "hard"], "layer": [1, 2, 3]},
        {
            "model": "a",
            "subject": "a",
            "image_answer": "red",
            "question": "What color is the circle?",
            "rule": "widest",
        },
    )
    return {"case_study": study, "case_image": xr.Dataset({"content": ("byte", np.frombuffer(content, np.uint8))})}


def cells(html: str, caption: str) -> list[list[str]]:
    """The rows of the table of that caption."""
    table = html.split(f"<caption>{caption}")[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[unescape(cell) for cell in row] for row in rows]


def put(tree: xr.DataTree, node: str, table: xr.Dataset) -> None:
    tree[f"estimates/{node}"] = xr.DataTree(table)


@pytest.mark.parametrize("node", SECTIONS)
def test_a_missing_node_leaves_its_part_out(layered: xr.DataTree, node: str) -> None:
    assert SECTIONS[node] in render(layered)
    del layered["estimates"][node]
    assert SECTIONS[node] not in render(layered)


def test_every_figure_on_layers_has_title_alt_and_data(layered: xr.DataTree) -> None:
    figures = re.findall(r'<figure id="(\w+)"(.*?)</figure>', render(layered), re.DOTALL)
    found = dict(figures)
    for ident in ("oscillations", "vacillation", "layers", "case", "hazards"):
        assert re.search(r'class="finding"[^>]*>[^<]{12,}<', found[ident])
        assert re.search(r'role="img" aria-label="[^"]{40,}"', found[ident])
        assert "<table" in found[ident].split("<details>")[1]
        assert "nan" not in found[ident]


def test_means_and_contrasts_are_printed_as_stored(layered: xr.DataTree, described: dict[str, xr.Dataset]) -> None:
    html = render(layered)
    place = {"subject": "a", "measure": "round-trips", "region": "ambiguous"}
    row = next(
        r
        for r in cells(html, "What traces do")
        if r[:3] == ["a", "Round trips per item, one back and forth counting two", "ambiguous"]
    )
    assert row[3] == f"{float(described['traces']['mean'].sel(place)):.2f}"
    assert row[5] == f"{int(described['traces']['n'].sel(place)):,}"
    row = next(
        r for r in cells(html, "Contrasts of the") if r[:3] == ["All models", "Oscillations", "less the text's side"]
    )
    place = {"subject": "all", "measure": "oscillations", "contrast": "text-side"}
    assert row[3] == f"{float(described['contrasts']['mean'].sel(place)):.2f}".replace("-", "\N{MINUS SIGN}")


def test_clear_cases_are_compared_by_the_balanced_contrast(layered: xr.DataTree) -> None:
    table = layered["estimates/contrasts"].to_dataset()
    titles = []
    for lower, upper in ((0.1, 0.5), (-0.1, 0.5), (-0.5, -0.1)):
        table["lower"].loc[{"contrast": "balanced"}], table["upper"].loc[{"contrast": "balanced"}] = lower, upper
        put(layered, "contrasts", table)
        figure = draw_oscillations(read_evidence(layered))
        assert figure is not None
        titles.append(figure.title)
    assert titles == [
        "Ambiguous cases change sides more often than clear ones, in every model",
        "Ambiguous cases do not clearly change sides more often than clear ones, in any model",
        "Ambiguous cases change sides less often than clear ones, in every model",
    ]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("told", [YES, NO, NO_POSITIVITY])
def test_the_verdict_is_the_title(layered: xr.DataTree, verdict: str, told: str) -> None:
    table = layered["estimates/vacillation"].to_dataset()
    table["verdict"][:], table["separable"][:] = verdict, told
    put(layered, "vacillation", table)
    figure = draw_contrasts(read_evidence(layered))
    assert figure is not None
    assert figure.title.startswith(TITLES[verdict].split("{")[0])
    decided = verdict not in ("not distinguishable", "too few traces")
    assert figure.title.endswith(SEPARABLE[told]) == decided
    assert verdict in figure.intro


@pytest.mark.parametrize(("upper", "told"), [(-0.1, "text's side, and less often than"), (0.1, "not clearly than")])
def test_the_title_tells_of_the_other_side(layered: xr.DataTree, upper: float, told: str) -> None:
    table = layered["estimates/vacillation"].to_dataset()
    table["verdict"][:] = TEXT_SIDE_ONLY
    put(layered, "vacillation", table)
    contrasts = layered["estimates/contrasts"].to_dataset()
    contrasts["upper"].loc[{"contrast": "image-side"}] = upper
    put(layered, "contrasts", contrasts)
    figure = draw_contrasts(read_evidence(layered))
    assert figure is not None
    assert f"{told} on the image's" in figure.title


@pytest.mark.parametrize("near", [0.01, 0.5])
def test_a_peak_away_from_balance_is_told(layered: xr.DataTree, near: float) -> None:
    table = layered["estimates/vacillation"].to_dataset()
    for name, value in {"peak": 0.6, "peak_lower": 0.3, "peak_upper": 1.1, "peak_near": near}.items():
        table[name][:] = value
    put(layered, "vacillation", table)
    figure = draw_contrasts(read_evidence(layered))
    assert figure is not None
    assert ("peaks at 0.6 [0.3, 1.1] from the balance point, not near it" in figure.intro) == (near < 0.025)


def test_verdicts_are_tabled_with_p_and_peak(layered: xr.DataTree) -> None:
    found = tabulate_verdicts(read_evidence(layered))
    assert found is not None
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in found.rows}
    assert list(rows) == ["a", "b", "All models"]
    assert all(row[0] in VERDICTS and row[3] in VERDICTS for row in rows.values())
    assert "of simulated nulls" in found.caption
    table = layered["estimates/vacillation"].to_dataset()
    table["verdict"][:] = "too few traces"
    put(layered, "vacillation", table)
    found = tabulate_verdicts(read_evidence(layered))
    assert found is not None
    assert {row[3].text for row in found.rows} == {"\N{EN DASH}"}, "a peak that rests on too few traces is not shown"


def test_the_interval_of_the_balance_point_is_drawn_on_the_map(layered: xr.DataTree) -> None:
    evidence = read_evidence(layered)
    figure = draw_layer_maps(evidence)
    assert figure is not None
    for panel, subject in zip(figure.panels, evidence.subjects, strict=True):
        band = re.search(
            r'x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" class="balance-band"', panel.drawings[0].svg
        )
        assert band
        # The map is 146 px for dH from -2 to 2.
        assert float(band[1]) == pytest.approx(22 + 146 * (subject.lower + 2) / 4, abs=0.06)
        assert float(band[2]) == pytest.approx(146 * (subject.upper - subject.lower) / 4, abs=0.06)


@pytest.mark.parametrize(
    ("chances", "title"),
    [
        ((0.99, 0.98), "are likelier in both directions"),
        ((0.01, 0.02), "are less likely in both directions"),
        ((0.99, 0.5), "are likelier from the text to the image; the other direction is not clearly different"),
        ((0.99, 0.01), "are likelier from the text to the image, less likely from the image to the text"),
        ((0.6, 0.4), "are not clearly likelier in either direction"),
    ],
)  # fmt: skip
def test_hazards_are_judged_by_nearness(layered: xr.DataTree, chances: tuple[float, float], title: str) -> None:
    table = layered["estimates/switching_effects"].to_dataset()
    table["mean_p_positive"].loc[{"term": "distance"}] = np.array(chances)
    put(layered, "switching_effects", table)
    figure = draw_hazards(read_evidence(layered))
    assert figure is not None
    assert figure.title == f"Beyond the trend with dH, switches near balance {title}"
    assert "from the text to the image highest after layer 3, 40" in figure.alt
    assert "Extrapolated" not in figure.caption
    put(layered, "hazard_by_depth", layered["estimates/hazard_by_depth"].to_dataset().assign_attrs(outside="b"))
    figure = draw_hazards(read_evidence(layered))
    assert figure is not None
    assert figure.caption.endswith("lies outside the dH of the traces: b.")
    put(layered, "switching_effects", table.assign_attrs(passed=0))
    figure = draw_hazards(read_evidence(layered))
    assert figure is not None
    assert "did not converge" in figure.title


def test_checks_are_counted_and_marked(layered: xr.DataTree) -> None:
    found = check_switching(read_evidence(layered))
    assert found is not None
    assert found.title == "The hazard model misses two of ten statistics of the traces"
    rows = {row[0].text: row[1] for row in found.table.rows}
    assert rows["Replicates: share of traces with three switches or more"].text.endswith("in 2 of 2 models")
    bad = {name for name, cell in rows.items() if cell.css == "bad"}
    assert bad == {
        "Replicates: share of traces with three switches or more", "Silent layers", "Terms: x and distance",
    }  # fmt: skip
    assert rows["Terms: x"].text == "best at groups left out"
    assert rows["Terms: x and distance"].text == ("\N{MINUS SIGN}1.5 nats, standard error 2.0; not found of 2 groups")
    assert list(rows)[-6:-3] == ["Terms: x", "Terms: x and distance", "Terms: without x"]


def test_the_case_shows_its_image_and_every_layer(layered: xr.DataTree) -> None:
    case = draw_case(read_evidence(layered))
    assert case is not None
    assert case.figure.title == "One image, three texts: a follows the text one time and the image two times"
    assert base64.b64decode(case.image.removeprefix("data:image/png;base64,")) == PNG
    html = render(layered)
    assert re.search(
        r'<img class="stimulus" src="data:image/png;base64,[^"]+" alt="The image of the case\. What color', html
    )
    assert "img-src data:;" in html
    rows = cells(html, "Logit difference by layer, nats")
    assert rows[2] == [
        "2",
        "\N{MINUS SIGN}2.00 (image leads)",
        "\N{MINUS SIGN}1.00 (neither leads)",
        "0.50 (neither leads)",
    ]


@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", b"GIF89a"])
def test_only_images_are_embedded(layered: xr.DataTree, content: bytes) -> None:
    for name, node in study_case(content=content).items():
        put(layered, name, node)
    assert "<img" not in render(layered)


def test_words_of_a_case_are_inert(layered: xr.DataTree) -> None:
    nodes = study_case(HOSTILE)
    nodes["case_study"].attrs |= {"question": HOSTILE, "rule": HOSTILE, "image_answer": HOSTILE, "subject": HOSTILE}
    for name, node in nodes.items():
        put(layered, name, node)
    html = render(layered)
    assert "<script" not in html
    assert html.count("<img") == 1
    assert "onerror=alert(2)>" not in html


def test_deep_models_fit(layered: xr.DataTree) -> None:
    """Maps and hazards of 80 layers."""
    table = layered["estimates/layer_map"].to_dataset().isel(layer=np.arange(80) % 6)
    table = table.assign_coords(layer=np.arange(1, 81)).assign(n_layers=("subject", [80, 80]))
    put(layered, "layer_map", table)
    depth = layered["estimates/hazard_by_depth"].to_dataset().isel(layer=np.arange(79) % 5)
    put(layered, "hazard_by_depth", depth.assign_coords(layer=np.arange(1, 80)))
    html = render(layered)
    assert len(html.encode()) < 1_000_000
    assert "nan" not in html.split('id="inside"')[1].split("</section>")[0]


def test_words_are_those_of_the_models() -> None:
    from mfbayes.switching import pairs, replication, terms

    assert set(SIDES) == set(pairs.SIDES)
    assert set(MEASURES) == set(replication.MEASURES)
    assert set(TITLES) == set(VERDICTS)
    assert set(SEPARABLE) == {YES, NO, NO_POSITIVITY}
    assert set(TERMS) >= {*terms.DEFAULT_TERMS, *terms.APART, *pairs.AGES[:2]}


def put_third(layered: xr.DataTree, build: Callable[..., xr.DataTree], make: Callable[..., Any]) -> xr.DataTree:
    """The fit with a third model, of which nothing is known in the tables on layers, as the fit writes them."""
    tree = build([*(make(name, b) for name, b in TRUTH.items()), make("dumb", 0.1)], traces=False)
    points = tree["estimates/balance_points"].to_dataset()
    keys = points["subject"].to_numpy()
    labels = {name: ("subject", keys.astype(object)) for name in ("model", "task", "condition", "family")}
    for name in ("oscillations", "traces", "occupancy", "layer_map", "contrasts", "vacillation", "total_entropy"):
        put(tree, name, align(layered[f"estimates/{name}"].to_dataset(), points.assign_coords(labels)))
    return tree


def test_a_model_without_traces_is_left_out_of_the_maps_and_named(
    layered: xr.DataTree, build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]
) -> None:
    tree = put_third(layered, build_tree, make_case)
    assert int(tree["estimates/layer_map/n_layers"].sel(subject="dumb")) == 0
    figure = draw_layer_maps(read_evidence(tree))
    assert figure is not None
    assert [panel.subject.key for panel in figure.panels if panel.subject] == list(TRUTH)
    assert "not drawn: dumb." in figure.caption
    assert 'id="layers"' in render(tree)


def draw_maps(values: np.ndarray, layered: xr.DataTree, **changes: Any) -> str:
    """Title of maps in which bins of each model turn to their last sign at the layers given, shape (model, bin)."""
    table = layered["estimates/layer_map"].to_dataset()
    layer = np.arange(1, 7)[:, None]
    mean = np.stack([np.where(layer < own, -1.0, 1.0) for own in values])
    put(
        layered,
        "layer_map",
        table.assign({"mean": (("subject", "layer", "bin"), mean), "n": table["n"] * 0 + 50, **changes}),
    )
    figure = draw_layer_maps(read_evidence(layered))
    assert figure is not None
    return figure.title


def test_the_title_of_maps_tells_of_models_where_it_is_reversed(layered: xr.DataTree) -> None:
    """b is .3 and -.4: ambiguous bins are those with centres within half a unit."""
    centres = np.linspace(-2, 2, 17)[:-1] + 0.125
    near = np.stack([np.abs(centres - b) < 0.5 for b in TRUTH.values()])
    late = np.where(near, 5, 2)
    assert draw_maps(late, layered) == "Clear cases settle on a side in earlier layers, in every model"
    mixed = np.stack([late[0], np.where(near[1], 2, 5)])
    assert draw_maps(mixed, layered) == (
        "Clear cases settle on a side in earlier layers in one of two models, in later ones in b"
    )
    assert draw_maps(np.where(near, 2, 5), layered) == "Clear cases settle on a side in later layers, in every model"
    tied = np.stack([np.full(16, 3), mixed[1]])
    assert draw_maps(tied, layered).endswith("than ambiguous ones; they do in later ones in one of two models")


def test_maps_of_few_bins_or_silent_traces_claim_nothing(layered: xr.DataTree) -> None:
    centres = np.linspace(-2, 2, 17)[:-1] + 0.125
    late = np.stack([np.where(np.abs(centres - b) < 0.5, 5, 2) for b in TRUTH.values()])
    n = np.zeros((2, 6, 16), dtype=int)
    # Two ambiguous bins of each model, and all clear ones.
    n[late[:, None].repeat(6, axis=1) == 2] = 50
    for i, own in enumerate(late):
        n[i][:, np.flatnonzero(own == 5)[:2]] = 50
    assert draw_maps(late, layered, n=(("subject", "layer", "bin"), n)) == "How the decision forms over the layers"
    never = layered["estimates/oscillations"].to_dataset()
    never["never_committed"][:] = 1.0
    put(layered, "oscillations", never)
    assert draw_maps(late, layered) == "No layer reads either answer, so no side is settled on"
    figure = draw_layer_maps(read_evidence(layered))
    assert figure is not None
    assert "No layer of any trace reads either answer: a and b." in figure.caption


def test_the_share_of_silent_traces_is_tabled_with_its_interval(layered: xr.DataTree) -> None:
    for name in ("traces", "oscillations"):
        table = layered[f"estimates/{name}"].to_dataset()
        for column, value in {"never_committed": 0.25, "never_lower": 0.1, "never_upper": 0.4}.items():
            table[column][:] = value
        # Of b's traces none commits.
        table["never_committed"].loc[{"subject": "b"}] = 1.0
        table["mean"].loc[{"subject": "b"}] = np.nan
        put(layered, name, table)
    html = render(layered)
    rows = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in cells(html, "What traces do")]
    assert next(row for row in rows if row[0] == "a" and row[2] == "ambiguous")[-1] == "25 % [10 % to 40 %]"
    assert [row[3] for row in rows if row[0] == "b"] == ["\N{EN DASH}"] * 5
    assert "never on a side</text>" in html


def test_what_is_not_in_the_hazard_model_is_named(layered: xr.DataTree) -> None:
    for name in ("hazard_by_depth", "hazard_by_distance", "switching_effects"):
        put(layered, name, layered[f"estimates/{name}"].to_dataset().sel(subject=["a"]))
    figure = draw_hazards(read_evidence(layered))
    assert figure is not None
    assert [panel.subject.key for panel in figure.panels if panel.subject] == ["a"]
    assert figure.caption.endswith("or of a balance point: b.")
    assert "mean of the population" in render(layered)


def test_round_trips_are_not_said_to_peak_where_oscillations_do(layered: xr.DataTree) -> None:
    table = layered["estimates/vacillation"].to_dataset()
    for name, value in {"peak": 0.6, "peak_lower": 0.3, "peak_upper": 1.1, "peak_near": 0.0}.items():
        table[name].loc[{"measure": "oscillations"}] = value
        table[name].loc[{"measure": "round-trips"}] = np.nan
    put(layered, "vacillation", table)
    figure = draw_contrasts(read_evidence(layered))
    assert figure is not None
    assert figure.intro.endswith(
        "The contrast in oscillations peaks at 0.6 [0.3, 1.1] from the balance point, not near it."
    )
    assert "in round trips peaks" not in figure.intro


def test_it_is_said_how_many_models_all_models_are(layered: xr.DataTree) -> None:
    table = layered["estimates/contrasts"].to_dataset()
    assert "All models: mean" not in render(layered)
    table["n_subjects"].loc[{"subject": "all"}] = 1
    put(layered, "contrasts", table)
    assert "All models: mean of the one of two with enough cases in every region." in render(layered)
