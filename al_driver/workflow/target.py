"""Where `al convert` and `al gather` write: told at once where nothing can be written, not after an hour of reading."""

import os
from pathlib import Path

from al_driver.errors import ConfigError


def check_target(out: Path) -> None:
    """Check that a folder or file can be made, or that it is a folder.

    Raises
    ------
    ConfigError
        If the path names something else, or lies below a file or below a folder that may not be written to.
    """
    if not out.name or out.name == "..":
        raise ConfigError(f"-o {out} is a folder that is there already; name a new one")
    if out.exists() and not (out.is_dir() or out.is_file()):
        raise ConfigError(f"-o {out} is a device; name a folder that is not there yet")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ConfigError(f"-o {out}: {above} is no folder; name a place below a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"-o {out}: you may not write in {above}; name another place")
