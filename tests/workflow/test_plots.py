"""Pictures of a run: which are drawn, of what, when again; and that none can stop a run."""

import json
import logging
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import bulk
from plot_folder import write_marker, write_query, write_run, write_train
from small_run import call_al

from al_driver.data.dataset import write_dataset
from al_driver.errors import StateMismatch
from al_driver.files import write_json
from al_driver.workflow import plotter as plotter_module
from al_driver.workflow.plot_data import (
    draw_coverage_of,
    draw_deviation_of,
    draw_learning_of,
    draw_parity_of,
    draw_selected_of,
    read_query,
)
from al_driver.workflow.plots import PlotReport, write_plots
from al_driver.workflow.plotter import Plotter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_ITERATION = ("deviation.png", "selected.png", "parity.png", "learning_curve.png")
OF_FINAL = ("parity.png", "learning_curve.png")
ALL = {f"iter.{index:04d}/plots/{name}" for index in range(2) for name in OF_ITERATION}
ALL |= {f"final/plots/{name}" for name in OF_FINAL}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all its pictures, to be copied."""
    root = write_run(tmp_path_factory.mktemp("drawn") / "work")
    report = write_plots(root)
    report.raise_errors()
    assert names(root, report.written) == ALL
    assert (report.current, report.nothing) == ([], [])
    return root


@pytest.fixture
def work(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "elsewhere/work"))


def names(root: Path, paths: list[Path]) -> set[str]:
    return {str(path.relative_to(root)) for path in paths}


def plot(root: Path) -> PlotReport:
    """Draw, and let every error surface."""
    report = write_plots(root)
    report.raise_errors()
    return report


def texts(figure: "Figure | str") -> list[str]:
    from matplotlib.text import Text

    assert not isinstance(figure, str), figure
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_pictures_are_whole_and_nothing_else_is_left(drawn: Path) -> None:
    for name in ALL:
        content = (drawn / name).read_bytes()
        assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")
        width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))
        assert 900 < width < 2000 and 500 < height < 1500
    plots = drawn / "iter.0000/plots"
    assert {path.name for path in plots.iterdir()} == {*OF_ITERATION, "plots.json"}


def test_in_a_folder_moved_elsewhere_all_are_up_to_date(work: Path) -> None:
    report = plot(work)
    assert (report.written, report.nothing) == ([], [])
    assert names(work, report.current) == ALL


def test_what_is_missing_or_changed_is_drawn_again(work: Path) -> None:
    (work / "iter.0001/plots/parity.png").unlink()
    assert names(work, plot(work).written) == {"iter.0001/plots/parity.png"}
    (work / "iter.0001/plots/plots.json").write_text("[")
    assert names(work, plot(work).written) == {f"iter.0001/plots/{name}" for name in OF_ITERATION}
    shutil.rmtree(work / "iter.0001/train")
    write_train(work / "iter.0001/train", n_train=11)
    assert names(work, plot(work).written) == {
        "iter.0001/plots/parity.png", "iter.0001/plots/learning_curve.png", "final/plots/learning_curve.png",
    }  # fmt: skip


def test_pictures_of_steps_set_aside_are_removed_and_said_to_be_missing(work: Path) -> None:
    (work / "iter.0001/query").rename(work / "iter.0001/query.bak.1")
    (work / "final").rename(work / "final.bak.1")
    report = plot(work)
    assert names(work, report.written) == {"iter.0001/plots/learning_curve.png"}
    assert report.nothing == ["iteration 1: no deviation.png and no selected.png before its query is done"]
    left = {str(path.relative_to(work)) for path in work.glob("iter.*/plots/*.png")}
    assert left == {name for name in ALL if name.startswith("iter")} - {
        "iter.0001/plots/deviation.png", "iter.0001/plots/selected.png",
    }  # fmt: skip


def write_audit(label: Path, frames: list[tuple[float, float | None]]) -> Path:
    write_marker(label, labelled=len(frames), rejected=0)
    told = [{"error": error, "bound": bound} for error, bound in frames]
    write_json(label / "audit.json", {"frames": told, "target": 0.2, "coverage": 0.9})
    return label


def test_a_run_with_a_target_shows_how_its_bounds_held(work: Path) -> None:
    first = write_audit(work / "iter.0000/label", [(0.1, None), (0.3, None)])
    second = write_audit(work / "iter.0001/label", [(0.1, 0.12), (0.2, 0.15), (0.1, 0.11), (0.4, None)])
    assert names(work, plot(work).written) == {f"iter.000{index}/plots/coverage.png" for index in range(2)}
    assert plot(work).written == []
    shown = texts(draw_coverage_of([(0, first), (1, second)]))
    assert "iteration 1: do the bounds on force errors hold?" in shown
    for line in ("iteration 1: 2 of 3 hold (66.7 %)", "earlier iterations: 0 of 0 hold", "without a bound: 3"):
        assert line in shown
    assert "error = bound; promised to 90.0 %" in shown and "target 0.2" in shown
    (first / "audit.json").unlink()
    assert draw_coverage_of([(1, write_audit(second, []))]) == "no audit frame has a label"
    plot(work)
    assert not (work / "iter.0000/plots/coverage.png").exists()


def test_a_run_that_has_only_begun_says_what_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "history.json", {"kind": "run", "state": "running", "events": []})
    assert plot(tmp_path).nothing == ["the run has not begun an iteration"]
    (tmp_path / "iter.0000").mkdir()
    assert plot(tmp_path).nothing == [
        "iteration 0: no deviation.png and no selected.png before its query is done",
        "iteration 0: no parity.png and no learning_curve.png before its training is done",
    ]


def test_models_of_an_earlier_version_have_no_parity(work: Path) -> None:
    shutil.rmtree(work / "iter.0001/train")
    write_train(work / "iter.0001/train", arrays=False)
    reason = "no iter.0001/plots/parity.png: model.000 left no evaluation.npz; it was trained by another version"
    for _ in range(2):
        assert [line.split(" or ")[0] for line in plot(work).nothing] == [reason]
    assert not (work / "iter.0001/plots/parity.png").exists()


def test_a_picture_that_fails_leaves_the_others_alone(work: Path) -> None:
    for name in ("iter.0000", "final"):
        shutil.rmtree(work / name / "plots")
    (work / "iter.0000/query/frames.csv").write_text("nonsense\n")
    (work / "final/model.001/evaluation.npz").write_bytes(b"PK")
    report = write_plots(work)
    failed = {"iter.0000/plots/deviation.png", "iter.0000/plots/selected.png", "final/plots/parity.png"}
    assert names(work, [path for path, _ in report.errors]) == failed
    assert names(work, [*report.written, *report.current]) == ALL - failed
    with pytest.raises(StateMismatch, match=r"frames\.csv begins with 'nonsense'"):
        report.raise_errors()
    message = r"model\.001/evaluation\.npz is damaged \(.*\); nothing but the picture needs it"
    with pytest.raises(StateMismatch, match=message):
        raise report.errors[-1][1]


def test_the_distribution_shows_counts_window_and_units(tmp_path: Path) -> None:
    write_query(tmp_path / "query")
    figure = draw_deviation_of(partial(read_query, tmp_path / "query"), 3)
    said = texts(figure)
    assert "iteration 3: how unsure the models are, 12 frames" in said
    assert {"accurate: 4 (33.3 %)", "candidate: 6 (50.0 %)", "failed: 2 (16.7 %)", "selected: 6"} <= set(said)
    assert {"lower 0.1", "upper 0.5", "largest force deviation in the frame (eV/Å)", "temperature (K)"} <= set(said)
    assert said.count("66.7 % unsure") == 2
    assert not isinstance(figure, str)
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}


@pytest.mark.parametrize("are_few", [True, False])
def test_the_selected_frames_lie_where_they_were_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, are_few: bool
) -> None:
    monkeypatch.setattr("al_driver.plots.selected._FEW", 6 if are_few else 5)
    write_query(tmp_path / "query")
    figure = draw_selected_of(partial(read_query, tmp_path / "query"), 3)
    said = texts(figure)
    assert {"grey: all 12 frames (darker: more)", "6 selected of si", "MD step", "300", "600"} <= set(said)
    assert ("temperature (K)" if are_few else "temperature (K), points spread\nwithin each row") in said
    assert "pressure (bar)" not in said, "it was not swept"
    assert not isinstance(figure, str)
    points = np.concatenate([points.get_offsets() for points in figure.axes[0].collections[1:]])
    assert sorted(points[:, 0].tolist()) == [30, 30, 40, 40, 50, 50]
    assert sorted(np.rint(points[:, 1]).tolist()) == [0, 0, 0, 1, 1, 1], "a row for each temperature"
    assert (set(points[:, 1].tolist()) == {0.0, 1.0}) == are_few, "in its middle, unless they would hide each other"


def test_the_legend_of_many_long_names_lies_in_the_picture_and_points_stand_out_from_the_grey(tmp_path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import QuadMesh

    write_query(tmp_path / "query")
    path = tmp_path / "query/frames.csv"
    head, *rows = path.read_text().splitlines()
    named = [row.replace(",si,", f",a_structure_of_{index % 5},") for index, row in enumerate(rows)]
    path.write_text("\n".join([head, *named]) + "\n")
    figure = draw_selected_of(partial(read_query, tmp_path / "query"), 0)
    assert not isinstance(figure, str)
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    (mesh,) = figure.findobj(QuadMesh)[:1]
    greys = mesh.to_rgba(mesh.get_array())
    assert greys[..., :3].min() > 0.8


def test_swept_pressures_have_a_panel_and_a_ramp_has_a_scale(tmp_path: Path) -> None:
    write_query(tmp_path / "query")
    path = tmp_path / "query/frames.csv"
    head, *rows = path.read_text().splitlines()
    fields = [row.split(",") for row in rows]
    pressed = [",".join([*f[:3], "0.0" if f[0].endswith("0") else "1e4", *f[4:]]) for f in fields]
    path.write_text("\n".join([head, *pressed]) + "\n")
    said = texts(draw_selected_of(partial(read_query, tmp_path / "query"), 0))
    assert {"pressure (bar)", "0", "10000"} <= set(said)
    ramped = [",".join([*f[:2], str(300.0 + 7 * index), *f[3:]]) for index, f in enumerate(fields * 2)]
    path.write_text("\n".join([head, *ramped]) + "\n")
    figure = draw_selected_of(partial(read_query, tmp_path / "query"), 0)
    assert not isinstance(figure, str)
    assert figure.axes[0].get_ylim() == pytest.approx((300, 300 + 7 * 23))
    assert not any(
        "unsure" in text and "%" in text
        for text in texts(draw_deviation_of(partial(read_query, tmp_path / "query"), 0))
    )


@pytest.mark.parametrize(("on", "words"), [("valid", "6 validation frames"), ("train", "6 training frames (no valid")])
def test_parity_has_a_panel_a_member_and_says_which_data(tmp_path: Path, on: str, words: str) -> None:
    write_train(tmp_path / "train", on)
    said = texts(draw_parity_of(tmp_path / "train", "iteration 0"))
    for name in ("model.000", "model.001"):
        assert sum(text.startswith(f"{name}\nRMSE ") for text in said) == 2
    assert any(text.startswith("iteration 0: models against labels") and words in text for text in said)
    members = json.loads((tmp_path / "train/step.json").read_text())["result"]["members"]
    for member in members:
        assert any(text.endswith(f"\nRMSE {1e3 * member['energy_rmse']:.2f} meV/atom") for text in said)
        assert any(text.endswith(f"\nRMSE {member['force_rmse']:.4f} eV/Å") for text in said)
    assert "6 energies and 900 force components (90 drawn at random are shown); RMSE of all of them" in said


def test_energies_of_several_formulas_stand_about_their_own_means(tmp_path: Path) -> None:
    write_train(tmp_path / "train")
    for member in range(2):
        path = tmp_path / f"train/model.{member:03d}/evaluation.npz"
        arrays = dict(np.load(path))
        arrays["formula"] = np.array([0, 0, 0, 4, 4, 4])
        for name in ("energy_reference", "energy_predicted"):
            arrays[name] = arrays[name] + 100.0 * arrays["formula"]
        np.savez(path, **arrays)
    figure = draw_parity_of(tmp_path / "train", "iteration 0")
    assert not isinstance(figure, str)
    assert "label: energy less the mean label of its formula (meV/atom)" in texts(figure)
    assert max(np.abs(figure.axes[0].get_xlim())) < 1000
    shown = figure.axes[0].collections[0].get_offsets()
    errors = np.asarray(shown)[:, 1] - np.asarray(shown)[:, 0]
    arrays = dict(np.load(tmp_path / "train/model.000/evaluation.npz"))
    assert errors == pytest.approx(1e3 * (arrays["energy_predicted"] - arrays["energy_reference"]))


def test_the_learning_curve_names_its_data_and_its_frames(tmp_path: Path) -> None:
    work = write_run(tmp_path / "work", on="train")
    trained = [(str(index), work / f"iter.{index:04d}/train") for index in range(2)] + [("final", work / "final")]
    scored = {str(index): work / f"iter.{index:04d}/query" for index in range(2)}
    said = texts(draw_learning_of(trained, scored, "final model"))
    assert "errors on training data (6 frames), which says little about new structures" in said
    assert {"0\n8", "1\n9", "final\n20", "energy RMSE\n(meV/atom)", "force RMSE\n(eV/Å)"} <= set(said)
    for many in range(40):
        trained.insert(2, (str(41 - many), work / "final"))
    assert len({text for text in texts(draw_learning_of(trained, scored, "final model")) if "\n20" in text}) <= 17


def test_status_draws_and_says_what(work: Path) -> None:
    (work / "iter.0001/plots/parity.png").unlink()
    (work / "final").rename(work / "final.bak.1")
    write_marker(work / "iter.0002/explore", trajectories=1, failed=0)
    shown = call_al(work.parent, "status", "--plots", "work")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-4:] == [
        "drawn: work/iter.0001/plots/parity.png",
        "up to date: 7 pictures in work/iter.0000/plots, work/iter.0001/plots",
        "not drawn: iteration 2: no deviation.png and no selected.png before its query is done",
        "not drawn: iteration 2: no parity.png and no learning_curve.png before its training is done",
    ]
    state = json.loads(call_al(work.parent, "status", "--plots", "--json").stdout)
    assert (len(state["plots"]["current"]), state["plots"]["written"], state["plots"]["failed"]) == (8, [], [])
    (work / "iter.0000/query/frames.csv").unlink()
    (work / "iter.0000/plots/plots.json").unlink()
    shown = call_al(work.parent, "status", "--plots")
    assert (shown.returncode, shown.stderr.count("\n")) == (4, 1)
    assert shown.stderr.endswith("frames.csv is missing: redo the query of its iteration.\n")
    assert "drawn: work/iter.0000/plots/parity.png" in shown.stdout


def test_first_data_show_energies_over_volume(tmp_path: Path) -> None:
    write_json(tmp_path / "history.json", {"kind": "init_bulk", "state": "done", "events": []})
    nothing = "no labels.png before the structures are labelled and split; an init_bulk has no other pictures"
    assert plot(tmp_path).nothing == [nothing]
    rng = np.random.default_rng(1)
    for name, lengths in (("dataset", (5.3, 5.4, 5.5)), ("valid", (5.45,))):
        frames = [bulk("Si", cubic=True, a=a) for a in lengths]
        for atoms in frames:
            atoms.info["energy"] = float(rng.normal())
            atoms.arrays["forces"] = rng.normal(size=(8, 3))
        write_dataset(tmp_path / name, frames, ["Si"])
    write_marker(tmp_path / "split", dataset=3, valid=1, left_out=0)
    assert names(tmp_path, plot(tmp_path).written) == {"plots/labels.png"}
    assert names(tmp_path, plot(tmp_path).current) == {"plots/labels.png"}


def test_a_users_own_matplotlibrc_changes_nothing(work: Path, tmp_path: Path) -> None:
    before = (work / "iter.0000/plots/parity.png").read_bytes()
    (work / "iter.0000/plots/parity.png").unlink()
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    code = "import sys; from al_driver.tasks.plots import main; sys.exit(main(sys.argv[1:]))"
    environment = {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(work)], env=environment, check=True)
    assert (work / "iter.0000/plots/parity.png").read_bytes() == before


def test_the_driver_itself_does_not_load_matplotlib() -> None:
    modules = "al_driver.cli, al_driver.workflow.verbs, al_driver.workflow.plots"
    code = f"import sys, {modules}; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_beside_a_run_all_are_drawn_however_often_it_is_asked(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(work / "final/plots")
    with caplog.at_level(logging.WARNING), Plotter(work) as plotter:
        for _ in range(3):
            plotter.draw()
        plotter.finish()
    assert caplog.messages == []
    assert names(work, list(work.glob("*/plots/*.png"))) == ALL


def test_an_error_in_plotting_is_one_warning(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    (work / "iter.0000/query/frames.csv").unlink()
    (work / "iter.0000/plots/deviation.png").unlink()
    with caplog.at_level(logging.WARNING), Plotter(work) as plotter:
        for _ in range(2):
            plotter.draw()
            plotter.finish()
    (message,) = caplog.messages
    assert message.startswith("plots: ")
    assert "frames.csv is missing: redo the query of its iteration." in message
    assert message.endswith("The run does not need them; `al status --plots` draws them again")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_MODULE", "al_driver.tasks.no_such_module", "No module named al_driver.tasks.no_such_module"),
        ("sys", type("Sys", (), {"executable": "/no/such/python"}), "No such file or directory: '/no/such/python'"),
    ],
)
def test_a_process_that_cannot_be_started_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: Any, words: str
) -> None:
    monkeypatch.setattr(plotter_module, name, value)
    with caplog.at_level(logging.WARNING), Plotter(tmp_path) as plotter:
        plotter.draw()
        plotter.finish()
    (message,) = caplog.messages
    assert words in message


def test_what_still_draws_is_ended_with_the_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Plotter(tmp_path) as plotter:
        plotter.draw()
        process = plotter._process
        raise KeyboardInterrupt
    assert process is not None and process.returncode is not None


@pytest.mark.needs("dp", "lmp")
def test_a_real_run_leaves_all_its_pictures(finished_run: Path) -> None:
    work = finished_run / "work"
    assert "plots:" not in (work / "al.log").read_text()
    assert names(work, list(work.glob("*/plots/*.png"))) == ALL
    report = plot(work)
    assert (report.written, report.nothing) == ([], [])
    members = json.loads((work / "final/step.json").read_text())["result"]["members"]
    assert [member["n_train"] for member in members] == [12, 12]
