"""How much a search may train: a number of trainings, or minutes."""

import re
from dataclasses import dataclass

from jaxnas.errors import InputError

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """`trainings`, or else `seconds` of ranking and training together; one of the two."""

    trainings: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> "Budget":
        """`60` trainings, or a time: `90s`, `30min`, `1.5h`.

        Raises:
            InputError: neither, or nothing at all.
        """
        got = re.fullmatch(r"(\d+|\d*\.\d+|\d+\.)\s*(s|min|h)?", str(text).strip())
        if got is None:
            raise InputError(
                f"budget is {text!r}, expected a number of trainings as 60, or a time as 30min "
                "(s, min or h)."
            )
        number, unit = got.groups()
        if float(number) <= 0:
            raise InputError(f"budget is {text!r}: nothing could be trained; expected more than 0.")
        if unit:
            return cls(seconds=float(number) * _SECONDS[unit])
        if "." in number:
            raise InputError(
                f"budget is {text!r}, expected a whole number of trainings, or a unit."
            )
        return cls(trainings=int(number))
