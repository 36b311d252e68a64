"""The keys of ``al init_bulk`` and what they foretell."""

import pytest

from al_driver.schema.init_bulk import Aimd, InitBulkParams
from al_driver.schema.relax import Relax

LABEL = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}


def _params(folder, structures, **keys):
    content = {"seed": 1, "type_map": ["Si"], "label": False, "structures": structures} | keys
    return InitBulkParams.model_validate(content, context={"base": folder})


def test_the_label_is_an_engine_its_name_or_none(tmp_path):
    assert _params(tmp_path, ["POSCAR"]).label_engine is None
    named = _params(tmp_path, ["POSCAR"], label="sw", engines={"sw": LABEL}).label_engine
    assert named == _params(tmp_path, ["POSCAR"], label=LABEL).label_engine
    with pytest.raises(ValueError, match="no engine is called 'trut'; did you mean 'truth'"):
        _params(tmp_path, ["POSCAR"], label="trut", engines={"truth": LABEL})


def test_true_is_a_relaxation_with_the_label_engine_and_false_is_none(tmp_path):
    entries = [{"path": "a", "relax": True}, {"path": "a", "relax": False}, {"path": "a", "relax": {"engine": "other"}}]
    other = LABEL | {"pair_style": "tersoff", "pair_coeff": ["* * Si.tersoff Si"]}
    params = _params(tmp_path, entries, label=LABEL, engines={"other": other})
    first, second, third = (entry.relax for entry in params.structures)
    assert first == Relax(what="cell", max_force=0.02)
    assert params.engine_of(first) == params.label_engine
    assert second is None
    assert params.engine_of(third) == params.engines["other"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"relax": {"engine": "swt"}}, r"structures\.0\.relax\.engine: no engine is called 'swt'; did you mean 'sw'"),
        ({"relax": {"engine": "qe"}}, r'"qe", …}, or name one under `engines` and say that name'),
        ({"relax": True}, r"structures\.0\.relax\.engine: nothing is labelled, so there is no label engine to take"),
        ({"aimd": {"temperature": 300, "n_steps": 4, "every": 5}}, r"every: 5 is more than n_steps, 4"),
        ({"aimd": {"n_steps": 4}}, "temperature"),
        ({"relax": {"what": "volume"}}, "'cell' or 'positions'"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        _params(tmp_path, [{"path": "POSCAR", **entry}], engines={"sw": LABEL})


def test_an_engine_is_asked_only_for_what_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("al_driver.engines.lammps.LammpsEngine.can", frozenset({"label"}))
    for stage, keys, words in (
        ("relax", {}, "relax a structure"),
        ("aimd", {"temperature": 300, "n_steps": 4}, "run molecular dynamics"),
    ):
        with pytest.raises(ValueError, match=rf"{stage}\.engine: the engine 'sw' cannot {words}; it can label\."):
            _params(tmp_path, [{"path": "a", stage: {"engine": "sw", **keys}}], engines={"sw": LABEL})


def test_starts_are_spread_evenly():
    def starts(n_starts, n_structures):
        return Aimd(temperature=300, n_steps=10, starts=n_starts).choose_starts(n_structures)

    assert starts(3, 15) == [0, 5, 10]
    assert starts(4, 6) == [0, 1, 3, 4]
    assert starts(9, 2) == [0, 1]
    assert starts(None, 3) == [0, 1, 2]
