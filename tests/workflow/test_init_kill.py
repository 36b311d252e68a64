"""A driver of ``al init_bulk`` killed again and again ends where an undisturbed one does."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from killing import count_ends, end_driver, start_driver, wait_until
from small_run import RESOURCE, SW, call_al

from al_driver.data.dataset import find_systems
from al_driver.layout import INIT_STAGES

ENTRY = {
    "path": "POSCAR",
    "name": "si",
    "relax": True,
    "supercell": [2, 1, 1],
    "scale": [0.98, 1.02],
    "perturb": {"copies": 3, "temperature": 400},
    "aimd": {"temperature": 600, "n_steps": 400, "every": 100, "starts": 4},
}
PARAM = {
    "seed": 7, "work_dir": "work", "type_map": ["Si"], "label": SW, "structures": [ENTRY], "valid_fraction": 0.3,
}  # fmt: skip
N_RANDOM = 10


def write_inputs(folder: Path) -> Path:
    from ase.build import bulk

    folder.mkdir()
    (folder / "param.json").write_text(json.dumps(PARAM))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    bulk("Si", cubic=True, a=5.5).write(folder / "POSCAR", format="vasp")
    return folder


def read_sets(work: Path) -> dict[str, bytes]:
    files = [file for name in ("dataset", "valid") for file in sorted((work / name).rglob("*")) if file.is_file()]
    return {str(file.relative_to(work)): file.read_bytes() for file in files}


@pytest.mark.long
@pytest.mark.needs("lmp")
def test_killed_after_every_stage_and_at_ten_random_moments(tmp_path: Path) -> None:
    undisturbed = write_inputs(tmp_path / "undisturbed")
    begun = time.monotonic()
    assert call_al(undisturbed, "init_bulk", "param.json", "resource.json").returncode == 0
    wall = time.monotonic() - begun

    folder = write_inputs(tmp_path / "killed")
    rng = np.random.default_rng(2026)
    pauses = iter(rng.uniform(0, wall / 2, N_RANDOM).tolist())
    kills = 0
    for stage in (*INIT_STAGES, "split"):
        for pause in (next(pauses, None), next(pauses, None)):
            if pause is not None:
                driver, started = start_driver(folder, "init_bulk"), time.monotonic()
                wait_until(lambda s=started, p=pause: time.monotonic() - s > p, driver)  # type: ignore[misc]
                end_driver(driver, folder, tasks_too=kills % 2 == 1)
                kills += 1
        driver = start_driver(folder, "init_bulk")
        wait_until((folder / "work" / stage / "step.json").exists, driver)
        end_driver(driver, folder, tasks_too=kills % 2 == 1)
        kills += 1
    assert next(pauses, None) is None
    assert call_al(folder, "init_bulk", "param.json", "resource.json").returncode == 0
    assert len(find_systems(folder / "work/dataset")) == 1
    assert read_sets(folder / "work") == read_sets(undisturbed / "work")
    assert max(count_ends(folder / "work").values()) == 1
