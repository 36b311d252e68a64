"""Hull and voltage of an intercalation compound, and how columns agree within compositions; by hand-made numbers."""

import numpy as np
import pytest
from ase import Atoms

from al_driver.plots.voltage import draw_hull, draw_voltage
from al_driver.screen.agreement import compare, find_best
from al_driver.screen.intercalation import make_series

METAL = -1.9
ENERGIES = {0: [-20.0, -19.8], 1: [-25.9, -25.5], 2: [-31.6], 4: [-42.0, -41.0]}
"""eV a cell of Ni4O8 with so many lithium atoms."""


@pytest.fixture
def cells():
    """Return crystals, and their energies per atom."""
    crystals, per_atom = [], []
    for n, energies in ENERGIES.items():
        for energy in energies:
            crystals.append(Atoms(f"Li{n}Ni4O8" if n else "Ni4O8", positions=np.zeros((12 + n, 3))))
            per_atom.append(energy / (12 + n))
    return crystals, np.array(per_atom)


def test_the_hull_holds_the_lowest_and_no_phase_above_a_line(cells):
    (series,) = make_series(*cells, "Li")
    assert series.host == "Ni4O8"
    assert np.ravel(series.lowest()) == pytest.approx([0, -20, 1, -25.9, 2, -31.6, 4, -42])
    assert series.hull() == series.lowest()  # slopes −5.9, −5.7, −5.2 rise
    assert series.formation()[[0, 5]] == pytest.approx([0, 0], abs=1e-12)
    assert series.formation()[2] == pytest.approx((-25.9 - (-20 - 22 / 4)) / 4)
    raised = cells[1] + np.array([0, 0, 0.5, 0.5, 0, 0, 0]) / 13
    (other,) = make_series(cells[0], raised, "Li")
    assert [n for n, _ in other.hull()] == [0, 2, 4]  # −25.4 lies above the line at −25.8


def test_the_voltage_is_the_slope_against_the_metal(cells):
    (series,) = make_series(*cells, "Li")
    steps = series.voltages(METAL, 1)
    assert [voltage for *_, voltage in steps] == pytest.approx([5.9 + METAL, 5.7 + METAL, 5.2 + METAL])
    assert [(one, two) for one, two, _ in steps] == [(0, 0.25), (0.25, 0.5), (0.5, 1)]
    assert series.voltages(METAL, 2)[0][2] == pytest.approx(2.0)
    mean = sum((two - one) * voltage for one, two, voltage in steps)
    assert mean == pytest.approx(-(-42 + 20 - 4 * METAL) / 4)  # whatever lies between


def test_hosts_are_apart_and_one_content_makes_no_series(cells):
    crystals, per_atom = cells
    alone = Atoms("Li4Ni3AlO8", positions=np.zeros((16, 3)))
    found = make_series([*crystals, alone], np.append(per_atom, -2.0), "Li")
    assert [series.host for series in found] == ["Ni4O8"]
    per_atom[[0, 1]] = np.nan  # not calculated
    (rest,) = make_series(crystals, per_atom, "Li")
    assert rest.n_ions.tolist() == [1, 1, 2, 4, 4]


def test_pictures_have_a_line_for_each_host_and_steps_of_the_voltage(cells):
    series = make_series(*cells, "Li")
    (axes,) = draw_hull("title", "Li", {"energy": series}).axes
    line = next(line for line in axes.lines if line.get_label() == "Ni4O8")
    assert line.get_xdata().tolist() == [0, 0.25, 0.5, 1]
    assert line.get_ydata()[[0, -1]] == pytest.approx([0, 0], abs=1e-9)
    (axes,) = draw_voltage("title", "Li", {"energy": [("Ni4O8", series[0].voltages(METAL, 1))]}).axes
    assert np.array(axes.lines[0].get_xdata()).tolist() == [0, 0.25, 0.25, 0.5, 0.5, 1]
    assert np.array(axes.lines[0].get_ydata()) == pytest.approx([4, 4, 3.8, 3.8, 3.3, 3.3])


def test_agreement_is_asked_within_compositions():
    formulas = ["A"] * 4 + ["B"] * 4 + ["C"] * 2
    one = np.array([0, 1, 2, 3, 10, 11, 12, 13, 20, 21.0])
    other = np.array([0, 1, 2, 3, 9, 8, 7, 6, 30, 31.0])
    found = compare(formulas, one, other)
    assert found.by_composition == {"A": (pytest.approx(1), 4), "B": (pytest.approx(-1), 4)}
    assert (found.n, found.mean) == (8, pytest.approx(0))
    other[5] = np.nan
    assert compare(formulas, one, other).by_composition["B"][1] == 3
    assert compare(formulas, one, np.zeros(10)).mean == 0
    assert compare(formulas[-2:], one[-2:], other[-2:]).mean is None


def test_the_best_are_the_smallest_that_are_known():
    assert find_best(np.array([3.0, np.nan, 1.0, 2.0]), 2) == {2, 3}
    assert find_best(np.array([np.nan, 1.0]), 5) == {1}
