"""Pictures of a property against known values, and the page that holds them: what they state, and what they escape."""

import re

import numpy as np
import pytest

from al_driver.plots.page import Page, Section
from al_driver.plots.properties import draw_calibration, draw_property_parity
from al_driver.screen.uncertainty import judge
from al_driver.workflow.evaluation_page import write_evaluation


def draws(n=400, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    deviation = rng.uniform(0.05, 0.3, n)
    known = rng.normal(size=n)
    return known, known + scale * deviation * rng.normal(size=n), deviation


def test_the_parity_states_its_errors_and_shows_deviations():
    known, predicted, deviation = draws()
    (axes,) = draw_property_parity("title", "energy (eV/atom)", known, predicted, deviation).axes
    mae = np.abs(predicted - known).mean()
    assert axes.get_title(loc="left") + axes.get_title() == f"400 crystals: MAE {mae:.3g}, RMSE " + (
        f"{np.sqrt(np.mean((predicted - known) ** 2)):.3g} eV/atom"
    )
    assert axes.get_xlim() == axes.get_ylim()
    assert len(axes.collections) == 2  # bars and points
    (bare,) = draw_property_parity("title", "gap", known, predicted, None).axes
    assert len(bare.collections) == 1


@pytest.mark.parametrize(("scale", "low", "high"), [(1.0, 86, 94), (2.0, 50, 66), (0.3, 99.9, 100)])
def test_the_curve_of_coverage_tells_narrow_intervals_from_wide_ones(scale, low, high):
    known, predicted, deviation = draws(1000, scale)
    coverage, _ = draw_calibration("title", predicted - known, deviation).axes
    curve = next(line for line in coverage.lines if "promised" in line.get_label())
    found = float(re.search(r"promised, ([\d.]+) %", curve.get_label())[1])
    assert low <= found <= high
    assert curve.get_ydata()[90] == pytest.approx(found / 100, abs=1e-3)
    assert (np.diff(curve.get_ydata()) >= 0).all()


def evaluation(known, predicted, deviation, kinds=("distance",)):
    rows = ["id,path,energy,energy_std,known"]
    numbers = enumerate(zip(predicted, deviation, known, strict=True))
    rows += [f"<b>{i}</b>,x,{p:.8g},{s:.4g},{k:.8g}" for i, (p, s, k) in numbers]
    errors = predicted - known
    found = {
        "property": "energy", "unit": "eV/atom", "n": len(known), "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(np.mean(errors**2))), "mae_by_member": [0.1, 0.2], "uncertainty": kinds[0],
        "uncertainties": {kind: judge(errors, deviation, 1.645) for kind in kinds},
    }  # fmt: skip
    return "\n".join(rows) + "\n", found


def test_the_page_of_an_evaluation_holds_all_of_it(tmp_path):
    table, found = evaluation(*draws())
    page = write_evaluation(tmp_path / "new/plots", table, found)
    text = page.read_text()
    assert {file.name for file in page.parent.iterdir()} == {"parity.png", "coverage.png", "index.html"}
    assert text.count("data:image/png;base64,iVBOR") == 2
    assert f"MAE {found['mae']:.4g} eV/atom" in text and "distance (told)" in text
    assert "http" not in text and "<script" not in text  # nothing is fetched
    worst = text[text.index("The largest errors") :]
    assert worst.count("<tr") == 21


def test_what_a_file_is_called_is_no_html(tmp_path):
    table, found = evaluation(*draws(20))
    text = write_evaluation(tmp_path, table, found).read_text()
    assert "<b>" not in text and "&lt;b&gt;" in text
    page = Page("a < b", [Section("{{ 7 * 7 }}", ["<img src=x onerror=alert(1)>"], head=["&"], rows=[["<i>"]])])
    assert "<img src=x" not in page.render() and "49" not in page.render() and "&lt;i&gt;" in page.render()
