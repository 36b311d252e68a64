"""What a reference engine is: it writes an input, names its command, and reads a label from what the program wrote.

An engine is at once the schema of its keys, the plugin and the behaviour. Adding one is one file in this folder, or a
class that an outside package names in the entry-point group ``al_driver.engines``; ``engines/testing.py`` holds the
conformance test that it must pass.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from al_driver.data.frames import Label
from al_driver.errors import Problem
from al_driver.files import hash_json
from al_driver.schema.base import Params, identity


class Engine(Params):
    """A program that calculates energy, forces and virial of a frame. eV, eV/Å, eV."""

    default_command: ClassVar[str]
    """The program that runs when resource.json names none."""
    output_name: ClassVar[str] = "output"
    """The file, in the task's folder, that takes the program's stdout and stderr."""

    scratch: ClassVar[tuple[str, ...]] = ()
    """Patterns of what the program may leave in the task's folder and nobody reads; removed after each attempt."""

    @abstractmethod
    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write everything the program reads into a folder of its own."""

    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """Return what follows the program's name on its command line."""

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, from the launcher that resource.json gives."""
        return (*launcher, *self.arguments())

    @abstractmethod
    def is_complete(self, directory: Path) -> bool:
        """Say, from a cheap text marker, whether the program ran to its end. Convergence is `read_label`'s matter."""

    @abstractmethod
    def read_label(self, directory: Path) -> Label:
        """Read the label, in the order of atoms that was sent.

        Raises
        ------
        EngineError
            ``no_output``, ``engine_error`` or ``scf_unconverged``, with what the program said.
        """

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:  # noqa: ARG002  (there is nothing to check here)
        """Yield what is wrong with the user's files and keys; keys are relative to the engine's object."""
        yield from ()

    def set_by_driver(self) -> tuple[str, ...]:
        """Return, in words, what the driver sets in the user's input; `al check` prints it."""
        return ()

    def identity(self) -> str:
        """Return a hash of everything that decides the numbers this engine gives."""
        return hash_json(identity(self))
