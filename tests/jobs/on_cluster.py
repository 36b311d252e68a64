"""What tests on a private SLURM cluster share."""

import json
import sys
import threading
from pathlib import Path

from batch_program import run_scripts

from al_driver.schema.resource import Profile

sys.path.append(str(Path(__file__).parents[1]))
from slurm_cluster import PROGRAMS, Cluster, run_cluster

__all__ = ["PROGRAMS", "Cluster", "run_cluster"]


def slurm(**keys) -> Profile:
    return Profile(executor="slurm", **keys)


def array_ids(folder: Path) -> list[str]:
    return [json.loads(file.read_text())["job_id"] for file in sorted(folder.glob("jobs/array.*/submitted.json"))]


def running_jobs(cluster: Cluster) -> list[str]:
    return sorted(cluster.run("squeue", "-h", "-r", "-t", "running", "-o", "%i").split())


def in_background(folder: Path, scripts: dict[str, str], profile: Profile) -> tuple[threading.Thread, list]:
    results: list = []
    thread = threading.Thread(target=lambda: results.append(run_scripts(folder, scripts, profile)))
    thread.start()
    return thread, results


def details(folder: Path) -> list[str]:
    return [json.loads(file.read_text())["detail"] for file in sorted(folder.glob("*.try-*/failed.json"))]


def sleep_once(folder: Path) -> str:
    """A task that hangs when it is run for the first time."""
    return f"if [ -e {folder}/again ]; then touch result; else touch {folder}/again; exec sleep 60; fi"
