"""A ranking as a picture: a row for each composition, uncertainties where known, and what is not shown is said."""

import numpy as np

from al_driver.plots.ranking import MOST_ROWS, RankedCandidates, draw_ranking


def candidates(n, **keys):
    known = {
        "formula": [f"Li{index}O" for index in range(n)],
        "value": np.linspace(-1, 0, n),
        "deviation": None,
        "ranked": np.arange(n) < n - 1,
        "selected": np.arange(n) < 2,
    }
    return RankedCandidates(**(known | keys))


def test_each_composition_has_a_row_the_best_on_top():
    (axes,) = draw_ranking("title", "energy (eV/atom)", candidates(5)).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"Li{index}O" for index in range(5)]
    low, high = axes.get_ylim()
    assert low > high
    labels = [scatter.get_label() for scatter in axes.collections]
    assert labels == ["left out by filters (1)", "ranked (2)", "selected (2)"]


def test_compositions_beyond_the_last_row_are_counted():
    (axes,) = draw_ranking("title", "energy", candidates(MOST_ROWS + 3)).axes
    assert axes.get_xlabel() == "energy\n(3 more compositions are not shown)"


def test_uncertainties_are_bars():
    (axes,) = draw_ranking("title", "energy", candidates(4, deviation=np.full(4, 0.1))).axes
    assert len(axes.containers) == 3  # of those left out, ranked and selected
