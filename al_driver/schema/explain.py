"""pydantic's errors in plain words: which key, what was found, what is needed and in which unit.

Of a union only the branch that the user meant is reported; a key that is missing because another is misspelt is
told once.
"""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from al_driver.errors import Problem
from al_driver.schema.base import CrossError, Params
from al_driver.schema.places import Loc, Schema, find_place, join_key
from al_driver.schema.suggest import nearest
from al_driver.schema.wording import NUMBER, WANTED, Finding, describe, forms, wanted


def explain(error: ValidationError, data: Any, kind: type[Params], file: Path | None = None) -> Iterator[Problem]:
    """Yield one problem for each thing that is wrong in the user's data."""
    schema = _json_schema(kind)
    findings = [
        Finding(e["type"], e["loc"], find_place(e["loc"], data, schema), e.get("ctx", {}), e["input"], e["msg"])
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


def _is_echo(finding: Finding) -> bool:
    """Say whether a list is called too short only because its items are wrong: those are told themselves."""
    value, least = finding.place.value, finding.context.get("min_length", 0)
    return finding.kind == "too_short" and (not isinstance(value, list) or len(value) >= least)


def _choose(findings: Iterable[Finding], depth: int) -> list[Finding]:
    """Keep, of each union, the branch whose type is that of the value; where none is, one error for all of them."""
    buckets: dict[Loc, list[Finding]] = {}
    chosen: list[Finding] = []
    for finding in findings:
        branches = finding.place.branches
        if len(branches) > depth:
            buckets.setdefault(finding.loc[: branches[depth]], []).append(finding)
        else:
            chosen.append(finding)
    for start, bucket in buckets.items():
        options: dict[int | str, list[Finding]] = {}
        for finding in bucket:
            options.setdefault(finding.loc[len(start)], []).append(finding)
        fitting = [option for option in options.values() if not any(_misses(f, len(start) + 1) for f in option)]
        if len(options) == 1 or fitting:
            chosen += _choose(sorted(fitting, key=len)[0] if fitting else bucket, depth + 1)
        else:
            chosen.append(_merge([option[0] for option in options.values()]))
    return chosen


def _misses(finding: Finding, length: int) -> bool:
    """Say whether a branch does not even have the right type at its top."""
    wrong = finding.kind in WANTED or finding.kind in NUMBER or finding.kind in {"literal_error", "none_required"}
    return wrong and len(finding.loc) <= length


def _merge(findings: list[Finding]) -> Finding:
    wants = forms(findings[0].place) or " or ".join(dict.fromkeys(wanted(finding) for finding in findings))
    first = findings[0]
    return Finding("merged", first.loc, first.place, {"wants": wants}, first.found)


def _tell(finding: Finding, data: Any, schema: Schema) -> Iterator[tuple[str, str]]:
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
    key = join_key(finding.place.key, finding.tag) if finding.tag else finding.place.key
    yield key, describe(finding)


def _outer(finding: Finding, data: Any, schema: Schema) -> tuple[str, str]:
    """Speak of a key that does not exist."""
    owner = find_place(finding.loc[:-1], data, schema)
    name = str(finding.loc[-1])
    legal = [key for key in owner.legal_keys if key != "$schema"]
    return join_key(owner.key, name), f"there is no such key{nearest(name, legal)}"


def _meant(finding: Finding, data: Any, schema: Schema) -> list[str]:
    """Return the key path that a misspelt key stands for."""
    owner = find_place(finding.loc[:-1], data, schema)
    hint = nearest(str(finding.loc[-1]), owner.legal_keys)
    return [join_key(owner.key, key) for key in owner.legal_keys if hint == f"; did you mean {key!r}?"]


def _printable(text: str) -> str:
    """Escape what a terminal cannot show."""
    return text.encode("utf-8", "backslashreplace").decode()
