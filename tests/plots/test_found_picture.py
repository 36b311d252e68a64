"""What the labels of a screening found: read from its folder while it runs and after, and drawn."""

import csv

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from al_driver.files import write_json
from al_driver.layout import WorkFolder
from al_driver.workflow.screen_found import LabelledScreening, draw_found_of, found_section

VALUES = {"a": 3.0, "b": 1.0, "c": None, "d": 2.0, "e": 0.5, "f": 4.0}


def write_step(folder, asked, known, result, inputs):
    """Write a finished query, or the ranking: ``asked`` ids, and a table that has the values of ``known``."""
    folder.mkdir(parents=True)
    frames = [bulk("Ni" if name in "abc" else "Al") for name in asked]
    for atoms, name in zip(frames, asked, strict=True):
        atoms.info["id"] = name
    if frames:
        ase.io.write(folder / "selected.extxyz", frames)
    with (folder / "ranked.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "known", "left_out"])
        for name, value in VALUES.items():
            is_known = name in known and value is not None
            table.writerow([name, value if is_known else "", "failed" if name in known and value is None else ""])
    marker = {"fingerprint": str(folder), "inputs": inputs, "result": result, "outputs": [], "finished": ""}
    write_json(folder / "step.json", marker)


def write(root, *, ranked, per_composition=False, goal="min", select=2, old=False):
    """Write a screening of two iterations, the first at random; an old one says less of its queries."""
    rules = {"rank": {"property": "heat", "goal": goal}, "per_composition": per_composition}
    told = {} if old else {"property": "heat", "unit": "eV", "wanted": select}
    write_step(root / "iter.0000/query", "abc", "", told | {"by": "random"}, rules)
    write_step(root / "iter.0001/query", "def", "abc", told | {"by": "acquisition"}, rules)
    if ranked:
        write_step(root / "rank", "", VALUES, {}, rules | {"select": select})
    return LabelledScreening(WorkFolder(root))


def test_the_best_are_those_of_all_labels_and_what_failed_counts(tmp_path):
    folder = write(tmp_path, ranked=True)
    found = folder.found
    assert found.value == pytest.approx([3, 1, np.nan, 2, 0.5, 4], nan_ok=True)
    assert found.best.tolist() == [3, 1, 1, 1, 0.5, 0.5]
    assert found.wanted.tolist() == [False, True, False, False, True, False]
    assert (found.ends, found.names, found.n_blind) == ([3, 6], ["0", "1"], 3)
    assert (found.labels_for(0.5), found.labels_for(1.0)) == (2, 5)
    words = " ".join(found_section(folder, tmp_path / "missing.png").paragraphs)
    assert "6 candidates in 2 iterations, the first 3 before anything had been learnt; 1 gave no value." in words
    assert "half were found with 2 labels, all with 5" in words
    values, shares = draw_found_of(folder).axes
    assert values.get_ylabel() == "heat (eV)"
    assert shares.lines[0].get_ydata()[-1] == 100


def test_while_it_runs_it_shows_what_the_last_query_knew(tmp_path):
    found = write(tmp_path, ranked=False).found
    assert found.value == pytest.approx([3, 1, np.nan], nan_ok=True)
    assert found.wanted.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [({"goal": "max", "select": 1}, "f"), ({"goal": 2.2, "select": 1}, "d"),
     ({"per_composition": True, "select": 1}, "be")],
)  # fmt: skip
def test_what_is_looked_for_decides_which_are_the_best(tmp_path, keys, wanted):
    folder = write(tmp_path, ranked=True, **keys)
    names = np.array(list("abcdef"))
    assert "".join(names[folder.found.wanted]) == wanted
    if "per_composition" in keys:
        assert "from the best of its composition" in folder.axis
        assert folder.found.value == pytest.approx([2, 0, np.nan, 1.5, 0, 3.5], nan_ok=True)


def test_of_an_old_folder_it_shows_what_its_ranking_knows(tmp_path):
    ranked, running = (
        write(tmp_path / "ranked", ranked=True, old=True),
        write(tmp_path / "running", ranked=False, old=True),
    )
    assert ranked.found.wanted.tolist() == [False, True, False, False, True, False]
    assert draw_found_of(ranked).axes[0].get_ylabel() == "heat"
    assert running.steps == []
    assert found_section(running, tmp_path) is None


def test_nothing_is_drawn_before_something_is_labelled(tmp_path):
    rules = {"rank": {"property": "heat"}, "per_composition": False}
    told = {"property": "heat", "unit": "", "wanted": 1, "by": "random"}
    write_step(tmp_path / "iter.0000/query", "abc", "", told, rules)
    folder = LabelledScreening(WorkFolder(tmp_path))
    assert folder.steps == []
    assert found_section(folder, tmp_path) is None
