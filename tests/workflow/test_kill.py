"""A driver killed again and again ends where an undisturbed one does; nothing is lost, nothing complete is repeated.

The driver is ended by SIGKILL once after every finished step and at ten random moments; every other time its tasks die
with it, as when a node goes down.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from killing import count_ends, end_driver, start_driver, wait_until
from small_run import read_datasets

STEPS = [f"iter.000{k}/{step}" for k in (0, 1) for step in ("train", "explore", "query", "label")]
N_RANDOM = 10


@pytest.mark.long
@pytest.mark.needs("dp", "lmp")
def test_killed_at_every_step_and_ten_random_moments(make_run: Callable[..., Path], finished_run: Path) -> None:
    wall = (finished_run / "work/al.log").stat().st_mtime - (finished_run / "param.json").stat().st_mtime
    folder = make_run("killed", **json.loads((finished_run / "param.json").read_text()))
    rng = np.random.default_rng(2026)
    random_moments = sorted(rng.uniform(0, wall, N_RANDOM).tolist())
    pauses = [after - before for before, after in zip([0.0, *random_moments], random_moments, strict=False)]
    kills = 0
    for step in STEPS:
        for _ in range(2 if pauses else 0):  # random moments on the way to each step's end
            if pauses:
                driver = start_driver(folder)
                pause, begun = pauses.pop(), time.monotonic()
                wait_until(lambda begun=begun, pause=pause: time.monotonic() - begun > pause, driver)  # type: ignore[misc]
                end_driver(driver, folder, tasks_too=kills % 2 == 1)
                kills += 1
        driver = start_driver(folder)
        wait_until((folder / "work" / step / "step.json").exists, driver)
        end_driver(driver, folder, tasks_too=kills % 2 == 1)
        kills += 1
    assert not pauses
    driver = start_driver(folder)
    assert wait_until((folder / "work/final/model.000").exists, driver)
    end_driver(driver, folder, tasks_too=True)
    assert start_driver(folder).wait() == 0, (folder / "driver.out").read_text()[-2000:]

    expected, found = read_datasets(finished_run / "work"), read_datasets(folder / "work")
    assert expected.keys() == found.keys()
    assert len(expected) > 0
    different = [name for name in expected if expected[name] != found[name]]
    assert different == []
    repeated = {name: n for name, n in count_ends(folder / "work").items() if n > 1}
    assert repeated == {}
    assert not list((folder / "work").rglob("*.bak.*"))
