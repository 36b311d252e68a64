"""What every parameter class shares: frozen, strict, with paths relative to the file that names them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    model_validator,
)

from al_driver.files import hash_path

WAIVED, FAILED = "waived", "failed"
"""Keys of the validation's context: sets of cross checks to leave out, and of those that found something."""


class Params(BaseModel):
    """A part of a JSON file. A key that does not exist is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class CrossError(ValueError):
    """What does not fit together, found by a validator that sees several keys: pairs of location and message."""

    def __init__(self, found: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        self.found = tuple(found)
        super().__init__(
            "; ".join(f"{'.'.join(map(str, loc))}: {message}" if loc else message for loc, message in found)
        )


Checked = TypeVar("Checked", bound=Params)


def cross_check(check: Callable[[Checked], Checked]) -> Any:
    """Make a method a validator that sees several keys of an object, and that a second look may leave out.

    pydantic does not ask an object of which a part has failed: with that part's cross check waived it does, so that
    all that is wrong is told at once (`schema.load`).
    """

    def look(params: Checked, info: ValidationInfo) -> Checked:
        context = info.context or {}
        if check in context.get(WAIVED, ()):
            return params
        try:
            return check(params)
        except ValueError:
            context.get(FAILED, set()).add(check)
            raise

    return model_validator(mode="after")(look)


def hold_against(params: Checked, messages: Iterable[str]) -> Checked:
    """Return an object of which nothing is wrong; otherwise raise all messages together."""
    if found := [((), message) for message in messages]:
        raise CrossError(found)
    return params


def as_list(value: Any) -> Any:
    """Let a scalar stand for a list of one."""
    return value if isinstance(value, (list, tuple, dict)) or value is None else [value]


def as_entry(value: Any) -> Any:
    """Let a path stand for an entry of which nothing else is said."""
    return {"path": value} if isinstance(value, str) else value


def _check_text(value: Any) -> Any:
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError(f"needs a path; found {value!r}")
    return value


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Make a path absolute, from the folder of the JSON file it stands in."""
    base = (info.context or {}).get("base", Path.cwd())
    try:
        return Path(base, path.expanduser()).absolute()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r}: the home folder of that user is not known") from error


UserPath = Annotated[Path, BeforeValidator(_check_text, json_schema_input_type=Path), AfterValidator(resolve_path)]
"""A path as a user writes it: ``~`` is expanded, a relative one starts at the JSON file's folder."""

Name = Annotated[str, Field(pattern=r"^[\w.+-]+$")]
"""A name that fits into tables and file names: letters, digits and ``_ . + -``."""

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
