"""The outputs in ``files/``, unpacked where another reader needs them so."""

import gzip
from pathlib import Path

FILES = Path(__file__).parent / "files"


def unpack(name: str, folder: Path) -> Path:
    """Return an uncompressed copy of ``files/NAME.gz``."""
    path = folder / Path(name).name
    path.write_bytes(gzip.decompress((FILES / f"{name}.gz").read_bytes()))
    return path
