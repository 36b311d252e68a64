"""Where in a user's file a validation error lies, and what the JSON Schema says of that place.

pydantic's locations also name branches of unions and the long forms of what a user may write short. Walking the
user's own data along a location keeps only what stands in the file; walking the schema beside it gives units, legal
keys, bounds and descriptions.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Loc = tuple[int | str, ...]
Schema = dict[str, Any]


class _Missing:
    """Stands for the value of a key that is not there."""


MISSING = _Missing()


@dataclass(frozen=True)
class Place:
    """A place in the user's data."""

    key: str
    """Key path as a user counts, e.g. ``explore.iterations[0].jobs[1].temperatures``."""
    value: Any
    """What stands there, or `MISSING`."""
    nodes: tuple[Schema, ...]
    """The parts of the JSON Schema that speak of it."""
    branches: tuple[int, ...] = ()
    """Positions in the location that name a branch of a union, not a key."""

    @property
    def unit(self) -> str:
        return next((f", in {node['unit']}" for node in self.nodes if "unit" in node), "")

    @property
    def description(self) -> str:
        text = next((node["description"] for node in self.nodes if "description" in node), "")
        return " ".join(text.split("\n\n")[0].split()).rstrip(".").split(". ")[0]

    @property
    def legal_keys(self) -> list[str]:
        return sorted({key for node in self.nodes for key in node.get("properties", ())})

    @property
    def legal_values(self) -> list[str]:
        values = [value for node in self.nodes for value in (*node.get("enum", ()), *_const(node))]
        return [value for value in values if isinstance(value, str)]

    @property
    def legal_tags(self) -> list[str]:
        return sorted({tag for node in self.nodes for tag in node.get("discriminator", {}).get("mapping", ())})

    def number_node(self) -> Schema | None:
        """Return the part of the schema that describes a number, if one does."""
        return next((node for node in self.nodes if node.get("type") in {"number", "integer"}), None)


def find_place(loc: Loc, data: Any, schema: Schema) -> Place:
    """Walk the user's data and the schema along a location."""
    place = Place("", data, tuple(_expand(schema, data, schema)))
    for position, item in enumerate(loc):
        if item == "[key]":  # speaks of the name itself
            continue
        is_last = position == len(loc) - 1
        inside = isinstance(place.value, dict) and item in place.value
        inside |= isinstance(place.value, list) and isinstance(item, int) and 0 <= item < len(place.value)
        if inside:
            value = place.value[item]
            place = Place(join_key(place.key, item), value, _children(place, item, value, schema), place.branches)
        elif is_last and isinstance(place.value, dict) and item in place.legal_keys:
            nodes = _children(place, item, MISSING, schema)
            place = Place(join_key(place.key, item), MISSING, nodes, place.branches)
        elif isinstance(item, int) or item in place.legal_keys:  # a short form: the scalar is the list, or the object
            nodes = (*_children(place, item, place.value, schema), *place.nodes)
            place = Place(place.key, place.value, nodes, place.branches)
        else:
            place = Place(place.key, place.value, place.nodes, (*place.branches, position))
    return place


def join_key(key: str, item: int | str) -> str:
    """Return ``key.item`` or ``key[3]``; a name that is no plain word stands in quotes."""
    if isinstance(item, int):
        return f"{key}[{item}]"
    if not item.replace("_", "").replace("$", "").replace("-", "").isalnum():
        return f"{key}[{json.dumps(item[:40])}]"
    return f"{key}.{item}" if key else item


def split_key(key: str) -> Loc:
    """Return the location of a key path of plain words.

    >>> split_key("structures[1].name")
    ('structures', 1, 'name')
    """
    return tuple(int(part) if part.isdecimal() else part for part in key.replace("]", "").replace("[", ".").split("."))


def _children(place: Place, item: int | str, value: Any, schema: Schema) -> tuple[Schema, ...]:
    found: list[Schema] = []
    for node in place.nodes:
        if isinstance(item, int):
            prefix: Sequence[Schema] = node.get("prefixItems", ())
            child = prefix[item] if item < len(prefix) else node.get("items")
        else:
            any_name = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
            child = node.get("properties", {}).get(item, any_name)
        if isinstance(child, dict):
            found += _expand(child, value, schema)
    return tuple(found)


def _expand(node: Schema, value: Any, schema: Schema) -> Iterator[Schema]:
    """Yield a node, and what its references and alternatives say; of tagged alternatives only the one that is meant."""
    yield node
    if "$ref" in node:
        yield from _expand(schema["$defs"][node["$ref"].rsplit("/", 1)[1]], value, schema)
    tag = node.get("discriminator", {})
    mapping, word = tag.get("mapping", {}), value.get(tag.get("propertyName")) if isinstance(value, dict) else None
    chosen = mapping.get(word) if isinstance(word, str) else None
    for part in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        if chosen is None or part.get("$ref") == chosen:
            yield from _expand(part, value, schema)


def _const(node: Schema) -> tuple[Any, ...]:
    return (node["const"],) if "const" in node else ()
