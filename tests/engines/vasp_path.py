"""Lets a test import the stand-in's helpers: ``import vasp_path`` comes before ``from vasp_case import …``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "standins"))
