"""``al convert``: what is written equals what was read, what is not is told, and nothing is overwritten."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from small_run import call_al

import al_driver
from al_driver.data.blocks import pack, write_blocks
from al_driver.data.dataset import read_system, write_systems
from al_driver.data.frames import Label, labelled_frame, read_frames, write_frames
from al_driver.errors import ConfigError
from al_driver.files import hash_path

FILES = Path(__file__).parents[1] / "data" / "files"


def trajectory(n_frames: int, symbols: str = "SiC", pbc: bool | list[bool] = True, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = Atoms(symbols, cell=rng.normal(scale=0.1, size=(3, 3)) + 4.4 * np.eye(3), pbc=pbc)
        atoms.positions = rng.normal(size=(len(atoms), 3))
        virial = rng.normal(size=(3, 3)) if atoms.pbc.all() else None
        frames.append(labelled_frame(Label(atoms, float(rng.normal()), rng.normal(size=(len(atoms), 3)), virial)))
    return frames


def systems(folder: Path) -> dict[str, list[Atoms]]:
    found = sorted(path.parent for path in folder.rglob("type.raw"))
    return {path.relative_to(folder).as_posix(): list(read_system(path)) for path in found}


def energies(frames: list[Atoms]) -> list[float]:
    return [atoms.info["energy"] for atoms in frames]


def test_every_output_becomes_a_system_of_its_formula(tmp_path: Path) -> None:
    result = al_driver.convert(FILES, tmp_path / "out", workers=2)
    assert result.type_map == ["C", "Cu", "Fe", "Ge", "H", "O", "Si"]
    assert result.written == {"Cu72": 2, "Ge8": 1, "C1H4": 1, "Si2": 17, "Fe12O18": 1, "H4O2": 3}
    assert {name: len(frames) for name, frames in systems(tmp_path / "out").items()} == result.written
    assert not result.refused
    assert result.left_out == {"scf_unconverged": 5}
    assert [(path.name, reason) for path, reason in result.aside] == [
        ("vasprun.h2o.md.xml.gz", "the same run as OUTCAR.h2o.md.gz, counted once")
    ]
    (methane,) = systems(tmp_path / "out")["C1H4"]
    assert methane.get_chemical_symbols() == ["C", *"HHHH"]
    assert methane.info["energy"] == -23.94708651
    assert methane.arrays["forces"][0].tolist() == [-0.797374, -0.742916, 1.686781]
    data = dpdata.LabeledSystem(str(tmp_path / "out/H4O2"), fmt="deepmd/npy").data
    assert data["energies"].tolist() == [-28.38622624, -28.43874406, -28.46658469]


def test_order_and_number_of_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        al_driver.convert(FILES, tmp_path / f"{workers}", workers=workers)
    assert hash_path(tmp_path / "1") == hash_path(tmp_path / "2") == hash_path(tmp_path / "3")


def test_there_and_back_changes_nothing(tmp_path: Path) -> None:
    al_driver.convert(FILES, tmp_path / "npy")
    al_driver.convert(tmp_path / "npy", tmp_path / "xyz", to="extxyz")
    al_driver.convert(tmp_path / "xyz", tmp_path / "npy2")
    al_driver.convert(tmp_path / "npy2", tmp_path / "all.extxyz")
    al_driver.convert(tmp_path / "all.extxyz", tmp_path / "npy3")
    first = systems(tmp_path / "npy")
    for other in ("npy2", "npy3"):
        again = systems(tmp_path / other)
        assert again.keys() == first.keys()
        for one, two in ((one, two) for name in first for one, two in zip(first[name], again[name], strict=True)):
            assert one.get_chemical_symbols() == two.get_chemical_symbols()
            assert abs(one.info["energy"] - two.info["energy"]) <= 1e-10
            for a, b in (
                (one.positions, two.positions), (one.cell.array, two.cell.array),
                (one.arrays["forces"], two.arrays["forces"]), (one.info["virial"], two.info["virial"]),
            ):  # fmt: skip
                assert np.abs(a - b).max() <= 1e-10


def test_extxyz_tells_where_each_frame_is_from(tmp_path: Path) -> None:
    source = FILES / "OUTCAR.ch4.unconverged.gz"
    al_driver.convert(source, tmp_path / "a", to="extxyz")
    (atoms,) = read_frames(tmp_path / "a/C1H4/frames.extxyz")
    assert (atoms.info["source"], atoms.info["step"], atoms.info["program"]) == (str(source), 3, "vasp")
    al_driver.convert(tmp_path / "a", tmp_path / "b.extxyz")  # and keeps it
    (again,) = read_frames(tmp_path / "b.extxyz")
    assert (again.info["source"], again.info["step"]) == (str(source), 3)


def test_a_relative_source_is_told_from_where_the_frames_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vasp").mkdir()
    shutil.copy(FILES / "OUTCAR.ch4.unconverged.gz", tmp_path / "vasp/OUTCAR.gz")
    monkeypatch.chdir(tmp_path)
    al_driver.convert("vasp/OUTCAR.gz", "out/all.extxyz")
    (atoms,) = read_frames(Path("out/all.extxyz"))
    assert atoms.info["source"] == "../vasp/OUTCAR.gz"


@pytest.mark.parametrize("pbc", [True, False, [True, True, False]])
def test_blocks_are_written_as_frames_are(tmp_path: Path, pbc: bool | list[bool]) -> None:
    frames = [*trajectory(3, "CSi", pbc), *trajectory(2, "SiC", pbc, seed=1), *trajectory(2, "Si2", pbc)]
    labels = [Label(atoms, atoms.info["energy"], atoms.arrays["forces"], atoms.info.get("virial")) for atoms in frames]
    (tmp_path / "blocks").mkdir()
    (tmp_path / "frames").mkdir()
    places = write_blocks(tmp_path / "blocks", pack(labels, [{} for _ in labels]), ["Si", "C"])
    assert places == write_systems(tmp_path / "frames", frames, ["Si", "C"])
    assert hash_path(tmp_path / "blocks") == hash_path(tmp_path / "frames")


def test_every_takes_each_nth_step_of_each_file(tmp_path: Path) -> None:
    first, second = trajectory(7), trajectory(4, seed=1)
    write_frames(tmp_path / "a.extxyz", first)
    write_frames(tmp_path / "b.extxyz", second)
    al_driver.convert([tmp_path / "a.extxyz", tmp_path / "b.extxyz"], tmp_path / "out", every=3)
    assert energies(systems(tmp_path / "out")["C1Si1"]) == energies(first[::3] + second[::3])


def test_validation_is_a_block_behind_a_gap(tmp_path: Path) -> None:
    frames = trajectory(20)
    write_frames(tmp_path / "a.extxyz", frames)
    result = al_driver.convert(tmp_path / "a.extxyz", tmp_path / "out", valid=0.2)
    assert result.written == {"train/C1Si1": 15, "valid/C1Si1": 4}
    assert result.gap == 1
    found = systems(tmp_path / "out")
    assert energies(found["train/C1Si1"]) == energies(frames[:15])
    assert energies(found["valid/C1Si1"]) == energies(frames[16:])


def test_single_frames_are_drawn_by_the_seed(tmp_path: Path) -> None:
    frames = trajectory(12)
    for index, atoms in enumerate(frames):
        write_frames(tmp_path / f"{index:02d}.extxyz", [atoms])
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = al_driver.convert(tmp_path / "*.extxyz", tmp_path / name, valid=0.25, seed=seed)
        assert (result.written, result.gap) == ({"train/C1Si1": 9, "valid/C1Si1": 3}, 0)
        found = systems(tmp_path / name)
        assert sorted(energies(found["train/C1Si1"] + found["valid/C1Si1"])) == sorted(energies(frames))
        drawn.append(energies(found["valid/C1Si1"]))
    assert drawn[0] == drawn[1] != drawn[2]


def test_bare_structures_are_written_alone_and_never_beside_labels(tmp_path: Path) -> None:
    write_frames(tmp_path / "bare.extxyz", [bulk("Si")] * 2)
    write_frames(tmp_path / "labelled.extxyz", trajectory(2))
    result = al_driver.convert(tmp_path / "bare.extxyz", tmp_path / "bare")
    assert result.written == {"Si2": 2}
    assert sorted(path.name for path in (tmp_path / "bare/Si2/set.000").iterdir()) == ["box.npy", "coord.npy"]
    both = [tmp_path / "bare.extxyz", tmp_path / "labelled.extxyz"]
    result = al_driver.convert(both, tmp_path / "both")
    assert result.written == {"C1Si1": 2}
    assert "bare.extxyz: holds structures without energies, and other inputs hold labels" in str(result.refused[0])
    (tmp_path / "folder").mkdir()
    for path in both:
        path.rename(tmp_path / "folder" / path.name)
    result = al_driver.convert(tmp_path / "folder", tmp_path / "found")  # nobody named it
    assert (result.refused, [path.name for path, _ in result.aside]) == ([], ["bare.extxyz"])


def test_what_cannot_be_read_is_refused_and_the_rest_is_converted(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("hello")
    text = gzip.decompress((FILES / "OUTCAR.h2o.md.gz").read_bytes()).decode()
    (tmp_path / "OUTCAR").write_text(text.replace("TITEL", "TITLE"))
    write_frames(tmp_path / "good.extxyz", trajectory(2))
    ended = call_al(tmp_path, "convert", "junk", "OUTCAR", "good.extxyz", "-o", "out")
    assert ended.returncode == 2
    assert "junk: is in no format that is recognised; say by --from what it is" in ended.stderr
    assert "OUTCAR: cannot be read as vasp/outcar (ValueError: no OUTCAR: it names no species" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "out/C1Si1  2 frames" in ended.stdout
    assert list(systems(tmp_path / "out")) == ["C1Si1"]
    ended = call_al(tmp_path, "convert", "junk", "--from", "vasp/outcar", "-o", "out2")
    assert ended.returncode == 2
    assert ended.stderr.startswith("al: junk: cannot be read as vasp/outcar (ValueError")
    assert not (tmp_path / "out2").exists()


def test_an_output_that_did_not_converge_gives_nothing(tmp_path: Path) -> None:
    ended = call_al(tmp_path, "convert", str(FILES / "OUTCAR.ch4.1step.gz"), "-o", "out")
    assert ended.returncode == 2
    assert "nothing to convert: all of 1 step left out (scf_unconverged 1)" in ended.stderr
    assert "first step 1: 1 electronic steps, and NELM is 1" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_it_left_out(tmp_path: Path) -> None:
    ended = call_al(tmp_path, "convert", str(FILES / "OUTCAR.ch4.unconverged.gz"), "-o", "out", "--type-map", "H,C")
    assert ended.returncode == 0, ended.stderr
    assert (
        "vasp/outcar  1 frame, 2 left out: scf_unconverged (step 1: 15 electronic steps, and NELM is 15)"
        in ended.stdout
    )
    assert "1 file, 1 frame, 2 left out: scf_unconverged" in ended.stdout
    assert "out/H4C1  1 frame\n" in ended.stdout
    assert "elements in order: H C" in ended.stdout


@pytest.mark.parametrize(
    ("inputs", "options", "text"),
    [
        (["nothing"], {}, "nothing: does not exist"),
        (["*.cif"], {}, "no file matches this pattern"),
        ([], {}, "no input; expected files, folders or patterns"),
        (["empty"], {}, "empty: holds no file in a format that is recognised; say by --from what it is"),
        (["a.extxyz"], {"format": "vasp/outcr"}, "knows no format 'vasp/outcr'; did you mean 'vasp/outcar'?"),
        (["a.extxyz"], {"to": "npz"}, "--to npz: can write deepmd/npy and extxyz"),
        (["a.extxyz"], {"every": 0}, "--every 0: expected 1 or more"),
        (["a.extxyz"], {"valid": 1.0}, "--valid 1: expected a share from 0 to below 1"),
        (["a.extxyz"], {"valid": 0.9}, "--valid 0.9 of 2 labelled frames leaves none to train on"),
        (["a.extxyz"], {"valid": 0.5}, "--valid 0.5 of 2 frames holds none back.\n  Give more frames"),
        (["a.extxyz"], {"type_map": ["Si"]}, "a.extxyz: has C, which type_map ['Si'] lacks"),
        (["a.extxyz"], {"out": "a.extxyz"}, "a.extxyz exists already, and is not overwritten"),
        (["a.extxyz"], {"out": "full"}, "full exists already, and is not overwritten"),
        (["a.extxyz"], {"out": "b.extxyz", "valid": 0.5}, "b.extxyz is one extxyz file; --valid needs a folder"),
    ],
)
def test_what_is_asked_wrongly_is_told(tmp_path, monkeypatch, inputs, options, text) -> None:
    write_frames(tmp_path / "a.extxyz", trajectory(2))
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        al_driver.convert(inputs, **{"out": "out", **options})
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "out").exists()


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.extxyz", trajectory(2))
    inputs = [tmp_path / "a.extxyz", tmp_path, tmp_path / "*.extxyz"]
    assert al_driver.convert(inputs, tmp_path / "out").written == {"C1Si1": 2}


def test_a_killed_reader_is_no_hang(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.extxyz", trajectory(1))
    write_frames(tmp_path / "b.extxyz", trajectory(1))
    program = (
        "import os, signal, al_driver.workflow.convert_files as files\n"
        "def die(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.load_source = die\n"
        "from al_driver.cli import main; import sys\n"
        "sys.argv = ['al', 'convert', 'a.extxyz', 'b.extxyz', '-o', 'out', '--workers', '2']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert "a process that read files was killed" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_work_folders_and_their_calculations_are_left_to_gather(tmp_path: Path) -> None:
    task = tmp_path / "work/iter.0000/label/task.000000"
    task.mkdir(parents=True)
    (tmp_path / "work/history.json").write_text("{}")
    write_frames(task / "frames.extxyz", trajectory(3))
    told = f"{tmp_path}/work is a work folder: `al gather {tmp_path}/work -o OUT` takes each good label once"
    for number, given in enumerate(("work", "work/iter.0000", "work/iter.0000/label/task.*/frames.extxyz")):
        (hint,) = al_driver.convert(tmp_path / given, tmp_path / f"out{number}").hints
        assert hint.startswith(told)
    write_frames(tmp_path / "own.extxyz", trajectory(3))
    assert al_driver.convert(tmp_path / "own.extxyz", tmp_path / "own").hints == []


def test_what_is_held_back_whole_is_told(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.extxyz", trajectory(9))
    write_frames(tmp_path / "b.extxyz", trajectory(1, "SiC2"))
    write_frames(tmp_path / "c.extxyz", trajectory(1, "GeC", seed=3))
    hints = {}
    for seed in range(6):
        for other in "bc":
            inputs = [tmp_path / "a.extxyz", tmp_path / f"{other}.extxyz"]
            result = al_driver.convert(inputs, tmp_path / f"{other}{seed}", valid=0.6, seed=seed)
            hints |= dict.fromkeys(result.hints)
    assert set(hints) == {"every frame of C2Si1 is held back: none is trained on"}  # and Ge is trained on


def test_an_extxyz_folder_is_told_with_its_file(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.extxyz", trajectory(2))
    told = call_al(tmp_path, "convert", "a.extxyz", "--to", "extxyz", "-o", "out").stdout
    assert "\nout/C1Si1/frames.extxyz  2 frames\n" in told


def test_a_format_that_nobody_knows_is_told_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"knows no format 'magic'; known are vasp/outcar, .*, and those of dpdata"):
        al_driver.convert(tmp_path / "file", tmp_path / "out", format="magic")
    with pytest.raises(ConfigError, match=r"^VASP has several formats; name one: vasp/outcar, vasp/xml$"):
        al_driver.convert(tmp_path / "file", tmp_path / "out", format="VASP")
    with pytest.raises(ConfigError, match=r"knows no format 'vasp/outcr'; did you mean 'vasp/outcar'"):
        al_driver.convert(tmp_path / "file", tmp_path / "out", format="vasp/outcr")


def test_the_benchmark_finds_the_numbers_of_dpdata() -> None:
    script = Path(__file__).parents[2] / "benchmarks/convert.py"
    argv = [sys.executable, str(script), "--files", "2", "--steps", "8", "--repeats", "1"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "2 OUTCARs, 16 frames" in ended.stdout and "largest relative difference between the sets: " in ended.stdout
