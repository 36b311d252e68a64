"""How ``al screen`` collects labels and learns from them: the keys of ``label`` and ``learn`` in its param file."""

from typing import Annotated, Literal

from pydantic import Field

from al_driver.schema.base import Bool, Float, Params, PositiveFloat, PositiveInt, UserPath
from al_driver.schema.elements import Element
from al_driver.schema.relax import MaybeRelax
from al_driver.screen.job import Learning
from al_driver.units import Unit


class KnownTable(Params):
    """Values that are known already, measured or calculated elsewhere, in place of an engine."""

    table: UserPath
    """A CSV file, or .csv.gz, whose first line names its columns."""
    column: Annotated[str, Field(min_length=1)]
    """The column with the values of the property that is ranked by."""
    id_column: Annotated[str, Field(min_length=1)] = "id"
    """The column that says whose value it is: the id of a candidate, or the name of its file without the ending where
    the file gives one candidate."""
    unit: str = ""
    """Of the values."""


class Refit(Learning):
    """How networks are trained in each iteration."""

    epochs: PositiveInt = 60
    """At most."""
    learning_rate: PositiveFloat = 2e-3
    """The largest; it rises for a tenth of the steps, then falls."""


class Learn(Params):
    """Iterations of choosing candidates, labelling them and learning from the labels."""

    max_labels: PositiveInt
    """The most candidates that are calculated, those that fail among them."""
    max_labels_per_iteration: PositiveInt = 10
    """How many are calculated before the next fit."""
    patience: PositiveInt | None = 3
    """It ends when so many iterations in a row brought none of their labels among the best, as many as `select` says
    (of its composition, with `per_composition`). With null only the budget ends it."""
    first: Literal["random", "diverse", "rank"] = "random"
    """How candidates are chosen before there are labels enough to fit: at random, far from each other in the model's
    features, or by what the model predicts."""
    relax: MaybeRelax = None
    """Relax a candidate before it is labelled; true is by the label engine, of atoms and cell. What is learnt is the
    relaxed crystal's value for the crystal as it was made."""
    reference_energies: Annotated[dict[Element, Float], Unit("eV/atom")] | None = None
    """Energy an atom of each element in its reference state, by the same engine. The property is the formation energy
    per atom with them, and the energy per atom without."""
    from_scratch: Bool = False
    """Fit each iteration's networks from random weights, in place of those of the model."""
    fit: Refit = Refit()
    """Size of the ensemble and how it is trained, as in `al screen finetune`."""
