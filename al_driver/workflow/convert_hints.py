"""What `al convert` says of a conversion that is sound and may not be what its user wants."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ase import Atoms

from al_driver.data.blocks import Block
from al_driver.data.dataset import formula_name
from al_driver.data.formats.load import Loaded
from al_driver.data.reference import describe_hashes, describe_mixed, references_in
from al_driver.layout import WorkFolder
from al_driver.words import shown_path
from al_driver.workflow.split import Split, describe_lost


def hint_at_gather(inputs: Sequence[Path], sources: Sequence[Path]) -> Iterator[str]:
    """Say which command reads work folders: one that is given, or whose calculations are."""
    works = [path for path in inputs if WorkFolder(path).history.is_file()]
    works += [work for path in sources if (work := _work_of_task(path)) is not None]
    for work in dict.fromkeys(works):
        command = f"al gather {shown_path(work)} -o OUT"
        yield f"{shown_path(work)} is a work folder: `{command}` takes each good label once, without validation data"


def hint_at_mixed(files: Sequence[Loaded]) -> Iterator[str]:
    """Say in what the references of frames differ; a run that trains on them together is refused."""
    infos = (info for loaded in files if loaded.is_labelled for block in loaded.blocks for info in block.infos)
    told = references_in(infos)
    if difference := describe_mixed(told):
        yield f"of different references, which do not belong into one training set: {difference}"
    elif difference := describe_hashes(told):
        yield f"{difference}: frames do not say in what"


def _work_of_task(path: Path) -> Path | None:
    """Return the work folder in one of whose tasks a file lies."""
    above = path.absolute().parents
    if not any(parent.name.startswith("task.") for parent in above):
        return None
    return next((parent for parent in above if WorkFolder(parent).history.is_file()), None)


def hint_at_lost(split: Split, blocks: Sequence[Block], type_map: Sequence[str]) -> str:
    """Say what the training set lacks since all its frames are held back."""
    formulas = [formula_name(Atoms(block.numbers), type_map) for block in blocks for _ in range(len(block))]
    return describe_lost(split, elements_of(blocks), formulas)


def elements_of(blocks: Sequence[Block]) -> list[frozenset[str]]:
    """Return the elements of each frame."""
    return [kind for block in blocks for kind in [frozenset(Atoms(block.numbers).symbols)] * len(block)]
