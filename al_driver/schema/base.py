"""What every parameter class shares: frozen, strict, with paths relative to the file that names them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo

from al_driver.files import hash_path


class Params(BaseModel):
    """A part of a JSON file. A key that does not exist is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Make a path absolute, from the folder of the JSON file it stands in."""
    base = (info.context or {}).get("base", Path.cwd())
    return Path(base, path.expanduser()).absolute()


UserPath = Annotated[Path, AfterValidator(_resolve)]
"""A path as a user writes it: ``~`` is expanded, a relative one starts at the JSON file's folder."""

Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Float = Annotated[float, Strict()]
PositiveInt = Annotated[int, Strict(), Field(gt=0)]
NonNegativeInt = Annotated[int, Strict(), Field(ge=0)]
PositiveFloat = Annotated[float, Strict(), Field(gt=0)]
NonNegativeFloat = Annotated[float, Strict(), Field(ge=0)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]


def identity(value: Any) -> Any:
    """Return what a parameter means, as JSON: a path stands for the content of what it names.

    Two inputs with the same identity ask for the same physics, wherever their files lie.

    Raises
    ------
    FileNotFoundError
        If a named file is not there; `al check` has looked before.
    """
    if isinstance(value, BaseModel):
        return {name: identity(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Path):
        return {"sha256": hash_path(value)}
    if isinstance(value, dict):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(item) for item in value]
    return value
