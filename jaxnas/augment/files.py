"""Policies as JSON, exact to the last bit."""

import json
from pathlib import Path

import numpy as np

from jaxnas.augment.operations import OPERATIONS
from jaxnas.augment.policy import Policy, checked
from jaxnas.errors import InputError, unknown

FORMAT = "jaxnas augmentation policy, version 1"


def to_json(policy: Policy) -> str:
    """One policy as JSON, operations by their names.

    Raises:
        InputError: the policy makes no sense (`checked`).
    """
    fields = {name: field.tolist() for name, field in checked(policy)._asdict().items()}
    return json.dumps({"format": FORMAT, "operations": OPERATIONS, **fields}, allow_nan=False)


def from_json(text: str, where: str = "The policy") -> Policy:
    """The policy that `to_json` wrote: the same float32 numbers, in the present order of operations.

    Args:
        text: JSON.
        where: what to call it in messages.

    Raises:
        InputError: it is something else, has an unknown operation or makes no sense.
    """
    try:
        read = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}.") from None
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise InputError(f"{where} is not of the format {FORMAT!r}.")
    names, fields = read.get("operations"), {k: v for k, v in read.items() if k in Policy._fields}
    missing = [name for name in Policy._fields if name not in fields]
    if missing or not isinstance(names, list):
        raise InputError(f"{where} lacks {', '.join(missing) or 'operations'}.")
    for name in names:
        if name not in OPERATIONS:
            raise unknown(f"image operation in {where}", str(name), OPERATIONS)
    try:
        arrays = {name: np.asarray(value, np.float32) for name, value in fields.items()}
    except (TypeError, ValueError):
        raise InputError(f"{where} has something other than numbers in its tables.") from None
    for name in ("choice", "probability", "magnitude", "spread", "reach"):
        if arrays[name].shape[-1:] != (len(names),):
            raise InputError(
                f"{where} has {name} of shape {arrays[name].shape}, but {len(names)} operations."
            )
        placed = np.zeros((*arrays[name].shape[:-1], len(OPERATIONS)), np.float32)
        placed[..., [OPERATIONS.index(n) for n in names]] = arrays[name]
        arrays[name] = placed
    return checked(Policy(**arrays))


def save(policy: Policy, path: str | Path) -> None:
    """Write `to_json` to a file."""
    Path(path).write_text(to_json(policy) + "\n")


def load(path: str | Path) -> Policy:
    """Read what `save` wrote.

    Raises:
        InputError: there is no such file, or see `from_json`.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} is not a policy's file that can be read.") from None
    return from_json(text, str(path))
