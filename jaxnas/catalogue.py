"""Registries as text: what `python -m jaxnas.strategies` and its like print."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


def listing(entries: Mapping[str, Sequence[str]]) -> str:
    """Names, indented, and beside each its texts, one below the other; empty ones are left out."""
    widest = max(map(len, entries))
    lines = []
    for name, texts in entries.items():
        for i, text in enumerate(filter(None, texts)):
            lines.append(f"  {('' if i else name).ljust(widest)}  {text}")
    return "\n".join(lines)


def summary(text: str | None) -> str:
    """The first line of a docstring, without its full stop."""
    return (text or "").strip().partition("\n")[0].rstrip(".")


def parameters(method: Any, *, changed: bool = False) -> str:
    """The fields of a dataclass (its defaults) or of an instance, as `name=value, ...`.

    With `changed`, of an instance only those that differ from their default.
    """
    if not dataclasses.is_dataclass(method):
        return ""
    found = []
    for field in dataclasses.fields(method):
        value = getattr(method, field.name, field.default)
        if value is not dataclasses.MISSING and not (changed and value == field.default):
            found.append(f"{field.name}={_plain(value)}")
    return ", ".join(found)


def _plain(value: Any) -> str:
    return "+".join(map(_plain, value)) if isinstance(value, tuple) else str(value)
