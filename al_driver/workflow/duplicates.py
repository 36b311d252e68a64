"""Equal frames of several files, or of one: the first is taken, so that none is in training and validation both."""

from collections.abc import Sequence

from al_driver.data.blocks import take
from al_driver.data.formats.load import Loaded


def drop_duplicates(files: Sequence[Loaded]) -> None:
    """Leave out, with the reason ``duplicate``, each frame that equals one before it; labels are not compared."""
    seen: dict[bytes, str] = {}
    for loaded in files:
        kept = []
        for index, key in enumerate(key for block in loaded.blocks for key in block.frame_keys()):
            place = f"step {loaded.moments[index] + 1}"
            if key in seen:
                loaded.left_out.append(("duplicate", f"{place}: equals {seen[key]}"))
            else:
                seen[key] = f"{place} of {loaded.source.path}"
                kept.append(index)
        if len(kept) < len(loaded.moments):
            loaded.blocks = take(loaded.blocks, kept)
            loaded.moments = [loaded.moments[index] for index in kept]
