"""jinja2 templates of program inputs: ours and users'. A missing variable is an error, never an empty string.

Templates come with examples and from colleagues, so that they run in jinja2's sandbox: they can compute and print, and
reach neither Python nor files. Ours lie in the repository's top-level ``templates/``; the wheel carries them inside the
package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import SandboxedEnvironment

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest


def templates_dir() -> Path:
    """Return the folder of our own templates: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def read_variables(path: Path) -> set[str]:
    """Return the names a template takes from outside.

    Raises
    ------
    ConfigError
        If it cannot be read, has a syntax error (with its line), or includes another file.
    """
    source = _read(path)
    try:
        tree = _environment().parse(source)
    except TemplateSyntaxError as error:
        raise ConfigError(Problem(f"line {error.lineno}: {error.message}", file=path)) from error
    except RecursionError as error:
        raise ConfigError(Problem("is nested too deeply", file=path)) from error
    if any(True for _ in meta.find_referenced_templates(tree)):
        raise ConfigError(Problem("a template cannot include or import another; write it as one file", file=path))
    return meta.find_undeclared_variables(tree)


def render(path: Path, values: Mapping[str, Any]) -> str:
    """Return the text of a template with these values.

    Raises
    ------
    ConfigError
        As `read_variables`; or if a name is undefined (the known ones are listed), or an expression fails.
    """
    unknown = sorted(read_variables(path) - set(values))
    if unknown:
        known = ", ".join(sorted(values))
        hint = nearest(unknown[0], values) if len(values) > 24 else f"; known are {known}"
        raise ConfigError(Problem(f"unknown variable {', '.join(map(repr, unknown))}{hint}", file=path))
    try:
        return _environment().from_string(_read(path)).render(values)
    except UndefinedError as error:
        raise ConfigError(Problem(f"{error.message}", file=path)) from error
    except (
        TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise ConfigError(Problem(f"an expression fails: {error or type(error).__name__}", file=path)) from error


def render_page(name: str, values: Mapping[str, Any]) -> str:
    """Return one of our own HTML templates with these values, every one of them escaped."""
    return _environment(escape=True).from_string(_read(templates_dir() / "html" / name)).render(values)


def _environment(*, escape: bool = False) -> SandboxedEnvironment:
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=escape,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(Problem(f"cannot read the template: {reason}", file=path)) from error
