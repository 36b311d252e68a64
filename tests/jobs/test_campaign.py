"""Kill the driver, its runner or both at random moments, again and again: each task ends exactly once."""

import os
import subprocess
from collections import Counter

import numpy as np
import pytest
from fault_campaign import run_campaign
from faults import SHARES
from on_cluster import PROGRAMS
from test_resume import logging_scripts, start_driver

from al_driver.jobs.journal import read_claim
from al_driver.jobs.processes import is_running


def kill_runners(folder) -> None:
    """Kill whatever runs a job, as a dying machine would."""
    for path in folder.glob("jobs/*/claim"):
        claim = read_claim(path.parent)
        if claim["by"] == "runner" and is_running(claim["pid"], claim["started"]):
            os.kill(claim["pid"], 9)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_each_task_ends_exactly_once(tmp_path, executor, seed):
    rng = np.random.default_rng(seed)
    scripts = logging_scripts(tmp_path, 14, 0.12)
    for patience in [*rng.uniform(0.2, 1.0, 40), 300.0]:  # a busy machine may need all of the last
        driver = start_driver(tmp_path, scripts, executor=executor, workers=2)
        try:
            driver.wait(timeout=patience)
            break
        except subprocess.TimeoutExpired:
            if rng.random() < 0.3:
                kill_runners(tmp_path)
            driver.kill()
            driver.wait()
    assert driver.returncode == 0
    log = Counter((tmp_path / "log").read_text().splitlines())
    assert log == Counter(f"{word} {name}" for name in scripts for word in ("begin", "end"))
    assert all((tmp_path / name / "result").read_text() == f"{name}\n" for name in scripts)


@pytest.mark.long
@pytest.mark.needs(*PROGRAMS)
def test_faults_of_a_cluster_lose_and_repeat_nothing(tmp_path):
    """The campaign in small; ``python tests/jobs/fault_campaign.py --faults 100`` is the whole."""
    kinds = [kind for kind in SHARES if kind != "time limit"]  # SLURM looks at those twice a minute
    campaign = run_campaign(tmp_path, 8, seed=1, kinds=kinds)
    assert campaign.faults.counts.total() == 8 and campaign.ends.total() >= 1
