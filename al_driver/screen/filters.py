"""What a candidate must keep to, to be ranked at all."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from pydantic import Field

from al_driver.data.frames import Array
from al_driver.data.gate import too_close
from al_driver.schema.base import CrossError, Float, Params, PositiveFloat, PositiveInt, cross_check

Window = tuple[Float | None, Float | None]
"""The lowest and the highest value; null where there is no limit."""


class Filters(Params):
    """Limits; a value on a limit passes."""

    windows: dict[str, Window] = Field(default={})
    """For a predicted property, by the name of its column, the values that pass: [lowest, highest]."""
    min_distance: PositiveFloat = 0.5
    """Shortest distance between atoms, as a share of the sum of the two covalent radii."""
    max_atoms: PositiveInt | None = None
    """The largest cell."""
    max_uncertainty: PositiveFloat | None = None
    """Of the property that is ranked by, in its unit."""

    @cross_check
    def _check_windows(self) -> "Filters":
        for name, (low, high) in self.windows.items():
            if low is not None and high is not None and low > high:
                raise CrossError([(("windows", name), f"{low:g} is more than {high:g}: nothing would pass")])
        return self

    def judge(self, crystals: Sequence[Atoms], values: Mapping[str, Array], uncertainty: Array | None) -> list[str]:
        """Return why each candidate is left out; an empty word for those that pass.

        Parameters
        ----------
        values
            Predicted properties by name, shape (n_crystals,) each.
        uncertainty
            Of the property that is ranked by, shape (n_crystals,); None where the model knows none.

        Raises
        ------
        KeyError
            If a window's property is not predicted.
        """
        reasons = np.full(len(crystals), "", dtype=object)
        for name, (low, high) in self.windows.items():
            inside = (values[name] >= (-np.inf if low is None else low)) & (
                values[name] <= (np.inf if high is None else high)
            )
            reasons[~inside & (reasons == "")] = name  # what is no number passes no window
        if self.max_uncertainty is not None and uncertainty is not None:
            reasons[(uncertainty > self.max_uncertainty) & (reasons == "")] = "uncertain"
        for number, atoms in enumerate(crystals):
            if self.max_atoms is not None and len(atoms) > self.max_atoms:
                reasons[number] = "large"
            elif not reasons[number] and too_close(atoms, self.min_distance):
                reasons[number] = "close"
        return [str(reason) for reason in reasons]


def describe(reasons: Sequence[str]) -> str:
    """Return in words how many pass, and why the others do not: the property whose window they miss, or a word."""
    counts = Counter(reasons)
    left_out = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()) if reason)
    return f"{counts['']} pass" + (f"; left out: {left_out}" if left_out else "")
