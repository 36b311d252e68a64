"""The page of a screening whose candidates have labels: which model orders them as their labels do."""

import csv

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from al_driver.files import write_json
from al_driver.workflow.screen_page import Screening, make_page

LABELS = [-1.0, -2.0, -3.0, -4.0, -5.5, -5.0, -6.5, None]
MODELS = {
    "right": [-1.0, -2.0, -3.0, -4.0, -5.5, -5.0, -6.5, -9.0],
    "wrong": [-4.0, -3.0, -2.0, -1.0, -5.0, -5.5, -5.2, -9.0],
}


def write(root, models=MODELS):
    """Write a finished screening of eight crystals of two compositions."""
    frames = [bulk("NaCl", "rocksalt", a=5.6) if i < 4 else bulk("KCl", "rocksalt", a=6.3) for i in range(8)]
    for index, atoms in enumerate(frames):
        atoms.info["id"] = f"c{index}"
    for folder in ("candidates", "predict", "rank"):
        (root / folder).mkdir(parents=True)
    ase.io.write(root / "candidates/candidates.extxyz", frames)
    with (root / "predict/predictions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["id", "path", *models], *zip("abcdefgh", "xxxxxxxx", *models.values(), strict=True)]
        )
    order = np.argsort([value if value is not None else 0 for value in LABELS])
    with (root / "rank/ranked.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["rank", "id", "formula", "right", "known", "selected"])
        for place, i in enumerate(order):
            known = "" if LABELS[i] is None else LABELS[i]
            table.writerow([place + 1, f"c{i}", frames[i].get_chemical_formula(), -1.0, known, int(place < 2)])
    result = {"property": "right", "unit": "eV/atom", "ranked": 8, "selected": 2, "lines": "8 pass"}
    marker = {"fingerprint": "", "inputs": {}, "result": result, "outputs": [], "finished": ""}
    write_json(root / "rank/step.json", marker)
    return Screening(root)


def test_the_page_says_which_model_wins(tmp_path):
    page = make_page(write(tmp_path / "a"), [("Ranking", tmp_path / "missing.png")])
    (section,) = [section for section in page.sections if "orders orderings" in section.heading]
    assert [row[:3] for row in section.rows] == [
        ["right", "1.00", "7"],
        ["wrong", "-0.79", "7"],
    ]  # −1 of four, −1/2 of three
    assert "right orders them best." in section.paragraphs
    assert "data:image" not in page.render()


def test_no_model_is_said_to_win_where_none_is_better_than_chance(tmp_path):
    page = make_page(write(tmp_path, {"wrong": MODELS["wrong"]}), [])
    (section,) = [section for section in page.sections if "orders orderings" in section.heading]
    assert "None orders them better than chance." in section.paragraphs
    assert section.best == ()


def test_columns_stand_in_the_order_of_the_ranking(tmp_path):
    folder = write(tmp_path)
    ids = [row["id"] for row in folder.rows]
    assert folder.columns["right"] == pytest.approx([MODELS["right"][int(name[1:])] for name in ids])
    assert np.isnan(folder.columns["known"][ids.index("c7")])
