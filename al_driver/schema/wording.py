"""What one of pydantic's errors says, in plain words: what is needed, in which unit, and what was found."""

import json
from dataclasses import dataclass
from typing import Any

from al_driver.schema.places import MISSING, Loc, Place, Schema
from al_driver.schema.suggest import hint_at_ase, hint_at_executor, nearest

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
LONGEST_SHOWN = 60
"""Characters of a value that is told."""


@dataclass(frozen=True)
class Finding:
    """One of pydantic's errors, and the place it speaks of."""

    kind: str
    loc: Loc
    place: Place
    context: dict[str, Any]
    found: Any
    text: str = ""

    @property
    def tag(self) -> str:
        """The key that says which of several objects is meant, e.g. ``engine``."""
        return str(self.context.get("discriminator", "")).strip("'")


def describe(finding: Finding) -> str:
    """Say what is needed and what was found."""
    place, kind = finding.place, finding.kind
    if kind == "missing" and isinstance(finding.loc[-1], int):  # an entry of a list of fixed length
        return f"needs {_length(finding)}; found {len(place.value) if isinstance(place.value, list) else 1}"
    if kind == "missing":
        return f"is missing{_about(place)}"
    if kind == "union_tag_not_found":
        return f"is missing; legal are {', '.join(place.legal_tags)}"
    if kind == "union_tag_invalid":
        tag = place.value[finding.tag]
        hint = hint_at_ase(str(tag)) if finding.tag == "engine" else ""
        return f"{_show(tag)} is not known here{hint or nearest(str(tag), place.legal_tags)}"
    if kind in {"too_short", "too_long"}:
        return f"needs {_length(finding)}; found {finding.context.get('actual_length')}"
    if kind in NUMBER or kind in WANTED or kind in {"literal_error", "merged"}:
        value = finding.found if finding.loc[-1:] == ("[key]",) else place.value
        return f"needs {wanted(finding)}{place.unit}; found {_show(value)}{_correction(finding)}"
    return f"{finding.text}; found {_show(place.value)}"


def wanted(finding: Finding) -> str:
    """Name what may stand in a place."""
    node = finding.place.number_node()
    if finding.kind in NUMBER:
        return _number(node) if node else "a whole number" if finding.kind.startswith("int") else "a number"
    if finding.kind == "merged":
        return str(finding.context["wants"])
    if finding.kind == "literal_error":
        return str(finding.context["expected"]).replace("'", '"').replace("False", "false")
    if finding.kind.endswith("_type"):
        return forms(finding.place) or WANTED[finding.kind]
    return WANTED.get(finding.kind, "something else")


def forms(place: Place) -> str:
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


def _correction(finding: Finding) -> str:
    """Return what to write in the place of a wrong value: a number of the environment in quotes, a legal word."""
    value = finding.place.value
    if finding.kind == "string_type" and "env" in finding.loc and isinstance(value, (bool, int, float)):
        written = json.dumps(value)
        return f'; write "{written}", in quotes' if len(written) <= LONGEST_SHOWN else "; write it in quotes"
    if finding.kind != "literal_error" or not isinstance(value, str):
        return ""
    if finding.loc[-1:] == ("executor",) and (hint := hint_at_executor(value)):
        return hint
    hint = nearest(value, finding.place.legal_values)
    return hint if "mean" in hint else ""


def _about(place: Place) -> str:
    """Say what a missing key is for, or what it may be."""
    if place.legal_values:
        return f"; legal are {', '.join(place.legal_values)}"
    return f" ({place.description})" if place.description else ""


def _length(finding: Finding) -> str:
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


def _show(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
