"""The example's own files on a cluster give the dataset that they give on this machine."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import al_driver
from al_driver.files import hash_path

sys.path.append(str(Path(__file__).parents[1]))
from slurm_cluster import PROGRAMS, run_cluster

EXAMPLE = Path(__file__).parents[2] / "examples/si"


@pytest.mark.long
@pytest.mark.needs("lmp", *PROGRAMS)
@pytest.mark.parametrize("accounting", [False, True], ids=["squeue", "sacct"])
def test_first_data_of_the_example_are_the_same_on_a_cluster(tmp_path, monkeypatch, accounting):
    made = {}
    with run_cluster(3, accounting=accounting) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        for resource in ("resource.json", "resource.slurm.json"):
            folder = tmp_path / resource
            shutil.copytree(EXAMPLE, folder)
            al_driver.init_bulk(folder / "init_param.json", folder / resource)
            work = folder / json.loads((folder / "init_param.json").read_text())["work_dir"]
            made[resource] = hash_path(work / "dataset", leave_out=("frames.jsonl", "settings.json"))
        assert len(cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()) >= 4
    assert made["resource.json"] == made["resource.slurm.json"]
