"""The explore step: molecular dynamics of every structure at every temperature and pressure of a stage."""

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.explorers.base import Stage, Trajectory
from al_driver.explorers.sweep import make_trajectories, read_structures, select_entries, structure_names
from al_driver.files import write_json
from al_driver.jobs.task import Task
from al_driver.layout import MD_TASKS_FILE, task_name
from al_driver.schema.base import identity
from al_driver.schema.run import RunParams
from al_driver.workflow.context import Context
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
