"""What a split leaves out of the training set altogether."""

import pytest

from al_driver.workflow.split import Split, describe_lost, only_held_back

ELEMENTS = [{"H", "O"}, {"H", "O"}, {"Si"}, {"H"}]
FORMULAS = ["H2O1", "H2O1", "Si2", "H2"]


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (Split(train=[0, 2, 3], valid=[1]), ""),
        (Split(train=[0, 1, 3], valid=[2]), "no frame to train on holds Si: all that do are held back"),
        (Split(train=[0, 1, 3], left_out=[2]), "no frame to train on holds Si: all that do are held back"),
        (Split(train=[0, 1, 2], valid=[3]), "every frame of H2 is held back: none is trained on"),
    ],
)
def test_what_is_held_back_whole_is_named(split: Split, text: str) -> None:
    assert describe_lost(split, ELEMENTS, FORMULAS) == text


def test_many_are_counted() -> None:
    names = [f"H{n}" for n in range(9)]
    text = describe_lost(Split(train=[8], valid=[*range(8)]), [{"H"}] * 9, names)
    assert text == "every frame of H0, H1, H2, H3, H4 and 3 more is held back: none is trained on"
    assert only_held_back(Split(train=[0]), [{"H"}]) == []
