"""Registries as text: what the commands that list them print, and what is asked of them."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnas.errors import InputError, unknown


def chosen[M](kind: str, text: str, methods: Mapping[str, type[M]]) -> M:
    """The method of a name, its parameters after colons: `regularized_evolution:population=100`.

    Parameters are the fields of its dataclass; a value is read as what the field's default is.

    Raises:
        InputError: no such method (`kind` is what it is) or parameter, with the nearest, or a value that
            it cannot have.
    """
    # A colon within a value, as in storage=sqlite:///study.db, is followed by no parameter.
    name, *settings = re.split(r":(?=[a-zA-Z_0-9]+=|[a-zA-Z_0-9]*$)", text)
    if name not in methods:
        raise unknown(kind, name, methods)
    method = methods[name]
    made: Any = method
    fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
    known = {field.name: field.default for field in fields}
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
        given[key] = _read(f"{name}:{key}", value, known[key])
    return method(**given)


def _read(where: str, text: str, default: Any) -> Any:
    """`text` as what the default is."""
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise InputError(f"{where} is {text!r}, expected true or false.")
        return text == "true"
    if not text and isinstance(default, str):
        raise InputError(f"{where} is {text!r}, expected some text.")
    try:
        return type(default)(text)
    except ValueError:
        what = "a whole number" if isinstance(default, int) else "a number"
        raise InputError(f"{where} is {text!r}, expected {what}.") from None


def listing(entries: Mapping[str, Sequence[str]]) -> str:
    """Names, indented, and beside each its texts, one below the other; empty ones are left out."""
    widest = max(map(len, entries))
    lines = []
    for name, texts in entries.items():
        for i, text in enumerate(filter(None, texts)):
            lines.append(f"  {('' if i else name).ljust(widest)}  {text}")
    return "\n".join(lines)


def listing_of(methods: Mapping[str, Any]) -> str:
    """A registry of classes, each alone in its module: what it is, its paper, its parameters."""
    return listing(
        {
            name: (summary(sys.modules[kind.__module__].__doc__), kind.paper, parameters(kind))
            for name, kind in methods.items()
        }
    )


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
