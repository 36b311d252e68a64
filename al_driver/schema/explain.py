"""pydantic's errors in plain words: which key, what was found, what is needed and in which unit.

Of a union only the branch that the user meant is reported; a key that is missing because another is misspelt is
told once.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from al_driver.errors import Problem
from al_driver.schema.base import CrossError, Params
from al_driver.schema.places import MISSING, Loc, Place, Schema, find_place, join_key
from al_driver.schema.suggest import nearest

NUMBER = {
    "int_type", "int_from_float", "int_parsing", "float_type", "float_parsing", "finite_number",
    "greater_than", "greater_than_equal", "less_than", "less_than_equal",
}  # fmt: skip
WANTED = {
    "string_type": "a text", "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list",
    "dict_type": "an object {…}", "model_type": "an object {…}", "model_attributes_type": "an object {…}",
    "path_type": "a path", "string_pattern_mismatch": "a name of letters, digits and _ . + - only",
    "string_unicode": "a text of whole characters", "none_required": "null",
}  # fmt: skip
BOUNDS = {
    "exclusiveMinimum": "larger than", "minimum": "of at least", "exclusiveMaximum": "smaller than",
    "maximum": "of at most",
}  # fmt: skip


@dataclass(frozen=True)
class _Finding:
    """One of pydantic's errors, and the place it speaks of."""

    kind: str
    loc: Loc
    place: Place
    context: dict[str, Any]
    found: Any
    text: str


def explain(error: ValidationError, data: Any, kind: type[Params], file: Path | None = None) -> Iterator[Problem]:
    """Yield one problem for each thing that is wrong in the user's data."""
    schema = _json_schema(kind)
    findings = [
        _Finding(e["type"], e["loc"], find_place(e["loc"], data, schema), e.get("ctx", {}), e["input"], e["msg"])
        for e in error.errors()
    ]
    chosen = [finding for finding in _choose(findings, 0) if not _is_echo(finding)]
    meant = {key for finding in chosen if finding.kind == "extra_forbidden" for key in _meant(finding, data, schema)}
    told = set()
    for finding in chosen:
        if finding.kind == "missing" and finding.place.key in meant:
            continue
        for key, message in _tell(finding, data, schema):
            if (key, message) not in told:
                told.add((key, message))
                yield Problem(_printable(message), _printable(key), file)


@functools.cache
def _json_schema(kind: type[Params]) -> Schema:
    return kind.model_json_schema()


def _is_echo(finding: _Finding) -> bool:
    """Say whether a list is called too short only because its items are wrong: those are told themselves."""
    value, least = finding.place.value, finding.context.get("min_length", 0)
    return finding.kind == "too_short" and (not isinstance(value, list) or len(value) >= least)


def _choose(findings: Iterable[_Finding], depth: int) -> list[_Finding]:
    """Keep, of each union, the branch whose type is that of the value; where none is, one error for all of them."""
    buckets: dict[Loc, list[_Finding]] = {}
    chosen: list[_Finding] = []
    for finding in findings:
        branches = finding.place.branches
        if len(branches) > depth:
            buckets.setdefault(finding.loc[: branches[depth]], []).append(finding)
        else:
            chosen.append(finding)
    for start, bucket in buckets.items():
        options: dict[int | str, list[_Finding]] = {}
        for finding in bucket:
            options.setdefault(finding.loc[len(start)], []).append(finding)
        fitting = [option for option in options.values() if not any(_misses(f, len(start) + 1) for f in option)]
        if len(options) == 1 or fitting:
            chosen += _choose(sorted(fitting, key=len)[0] if fitting else bucket, depth + 1)
        else:
            chosen.append(_merge([option[0] for option in options.values()]))
    return chosen


def _misses(finding: _Finding, length: int) -> bool:
    """Say whether a branch does not even have the right type at its top."""
    wrong = finding.kind in WANTED or finding.kind in NUMBER or finding.kind in {"literal_error", "none_required"}
    return wrong and len(finding.loc) <= length


def _merge(findings: list[_Finding]) -> _Finding:
    wants = _forms(findings[0].place) or " or ".join(dict.fromkeys(_wanted(finding) for finding in findings))
    first = findings[0]
    return _Finding("merged", first.loc, first.place, {"wants": wants}, first.found, "")


def _tell(finding: _Finding, data: Any, schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield pairs of key path and message."""
    if finding.kind in {"value_error", "assertion_error"}:
        error = finding.context["error"]
        if isinstance(error, CrossError):
            for loc, message in error.found:
                yield find_place((*finding.loc, *loc), data, schema).key, message
        else:
            yield finding.place.key, str(error)
        return
    if finding.kind == "extra_forbidden":
        yield _outer(finding, data, schema)
        return
    tag = finding.context.get("discriminator", "").strip("'")
    yield (join_key(finding.place.key, tag) if tag else finding.place.key), _message(finding)


def _message(finding: _Finding) -> str:
    """Say what is needed and what was found."""
    place, context = finding.place, finding.context
    special: dict[str, Callable[[], str]] = {
        "missing": lambda: f"is missing{_about(place)}",
        "union_tag_not_found": lambda: f"is missing; legal are {context['discriminator'] and _tags(finding)}",
        "union_tag_invalid": lambda: (
            f"{_show(context.get('tag'))} is not known here{nearest(str(context.get('tag')), _legal_tags(finding))}"
        ),
        "too_short": lambda: f"needs {_length(finding)}; found {context.get('actual_length')}",
        "too_long": lambda: f"needs {_length(finding)}; found {context.get('actual_length')}",
        "merged": lambda: f"needs {context['wants']}{place.unit}; found {_show(place.value)}",
    }
    if finding.kind == "missing" and isinstance(finding.loc[-1], int):
        return f"needs {_length(finding)}; found {len(place.value) if isinstance(place.value, list) else 1}"
    if finding.kind in special:
        return special[finding.kind]()
    if finding.kind in NUMBER or finding.kind in WANTED or finding.kind == "literal_error":
        value = finding.found if finding.loc[-1:] == ("[key]",) else place.value
        return f"needs {_wanted(finding)}{place.unit}; found {_show(value)}{_correction(finding)}"
    return f"{finding.text}; found {_show(place.value)}"


def _wanted(finding: _Finding) -> str:
    node = finding.place.number_node()
    if finding.kind in NUMBER:
        return _number(node) if node else "a whole number" if finding.kind.startswith("int") else "a number"
    if finding.kind == "literal_error":
        return str(finding.context["expected"]).replace("'", '"').replace("False", "false")
    if finding.kind.endswith("_type"):
        return _forms(finding.place) or WANTED[finding.kind]
    return WANTED.get(finding.kind, "something else")


def _forms(place: Place) -> str:
    """Name every form that may stand in a place, short ones included."""
    names = {"array": "a list", "object": "an object {…}", "boolean": "true or false", "null": "null"}
    forms = []
    for node in place.nodes:
        kind = node.get("type")
        if kind == "string":
            forms.append("a path" if node.get("format") == "path" else "a text")
        elif kind in {"number", "integer"}:
            forms.append(_number(node))
        elif "const" in node:
            forms.append(json.dumps(node["const"]))
        elif kind in names:
            forms.append(names[kind])
    return " or ".join(dict.fromkeys(forms))


def _number(node: Schema) -> str:
    """Describe a number with its bounds."""
    exclusive = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
    bounds = [
        f"{words} {node[bound]:g}" for bound, words in BOUNDS.items()
        if bound in node and exclusive.get(bound) not in node
    ]  # fmt: skip
    name = "a whole number" if node["type"] == "integer" else "a number"
    return f"{name} {' and '.join(bounds)}" if bounds else name


def _correction(finding: _Finding) -> str:
    """Return the legal word that is near to a wrong one."""
    if finding.kind != "literal_error" or not isinstance(finding.place.value, str):
        return ""
    hint = nearest(finding.place.value, finding.place.legal_values)
    return hint if "mean" in hint else ""


def _about(place: Place) -> str:
    """Say what a missing key is for, or what it may be."""
    if place.legal_values:
        return f"; legal are {', '.join(place.legal_values)}"
    return f" ({place.description})" if place.description else ""


def _length(finding: _Finding) -> str:
    sizes = [node for node in finding.place.nodes if "minItems" in node or "maxItems" in node]
    least = next((node["minItems"] for node in sizes if "minItems" in node), finding.context.get("min_length", 0))
    most = next((node["maxItems"] for node in sizes if "maxItems" in node), finding.context.get("max_length"))
    if least == most:
        return f"{least} entries"
    return (
        f"at most {most} entries"
        if finding.kind == "too_long"
        else f"at least {least or 1} entr{'y' if least in {0, 1} else 'ies'}"
    )


def _outer(finding: _Finding, data: Any, schema: Schema) -> tuple[str, str]:
    """Speak of a key that does not exist."""
    owner = find_place(finding.loc[:-1], data, schema)
    name = str(finding.loc[-1])
    legal = [key for key in owner.legal_keys if key != "$schema"]
    return join_key(owner.key, name), f"there is no such key{nearest(name, legal)}"


def _meant(finding: _Finding, data: Any, schema: Schema) -> list[str]:
    """Return the key path that a misspelt key stands for."""
    owner = find_place(finding.loc[:-1], data, schema)
    hint = nearest(str(finding.loc[-1]), owner.legal_keys)
    return [join_key(owner.key, key) for key in owner.legal_keys if hint == f"; did you mean {key!r}?"]


def _legal_tags(finding: _Finding) -> list[str]:
    return [tag.strip().strip("'") for tag in str(finding.context.get("expected_tags", "")).split(",")]


def _tags(finding: _Finding) -> str:
    mapping = [node["discriminator"]["mapping"] for node in finding.place.nodes if "discriminator" in node]
    return ", ".join(sorted(mapping[0])) if mapping else "the names of its plugins"


def _show(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _printable(text: str) -> str:
    """Escape what a terminal cannot show."""
    return text.encode("utf-8", "backslashreplace").decode()
