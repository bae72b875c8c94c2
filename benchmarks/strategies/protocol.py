"""What is simulated: budget, runs, fidelities and seconds; checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.columns import Column
from jaxnas.errors import InputError


@dataclass(frozen=True)
class Protocol:
    """How searches are simulated.

    Args:
        budget: full trainings of a run; a shorter one counts by its share of the epochs.
        runs: of each strategy.
        seed: of all runs.
        batch: trainings asked for at once.
        fidelities: columns of shorter trainings, by their epochs.
        epochs: of the target's training; None: what the table says.
        seconds: a column with the seconds of a full training, or those of every one; None: a column of
            the table if it has just one, else unknown.
    """

    budget: int = 200
    runs: int = 500
    seed: int = 0
    batch: int = 1
    fidelities: Mapping[int, str] = field(default_factory=dict)
    epochs: int | None = None
    seconds: str | float | None = None

    def __post_init__(self) -> None:
        for name, value in (("budget", self.budget), ("runs", self.runs), ("batch", self.batch)):
            if value < 1:
                raise InputError(f"--{name} is {value}, expected at least 1.")
        if isinstance(self.seconds, float | int) and not 0 < self.seconds < np.inf:
            raise InputError(
                f"--seconds-per-query is {self.seconds:g}, expected a positive number."
            )

    def lengths(self, table: Table, target: Column) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Epochs of the fidelities, ascending, and their columns; the last are the target's.

        Raises:
            InputError: the target's epochs are not known though there are others, a column is absent
                or of other epochs, or a fidelity is no shorter training.
        """
        full = self.epochs or target.epochs
        if not self.fidelities:
            return (full or 1,), (target.name,)
        if full is None:
            raise InputError(
                f"{table.path.name} does not say how many epochs {target.name} was trained for; "
                "say so by --epochs N, as shorter trainings count by their share of them."
            )
        for epochs, name in self.fidelities.items():
            column = table.column(name)
            if column.epochs not in (None, epochs):
                raise InputError(f"{name} is of {column.epochs} epochs, not {epochs}.")
            if not 1 <= epochs < full:
                raise InputError(
                    f"--fidelity {epochs}={name}: expected 1 to {full - 1} epochs, fewer than the "
                    f"{full} of {target.name}."
                )
        ordered = sorted(self.fidelities.items())
        return (*(e for e, _ in ordered), full), (*(n for _, n in ordered), target.name)


def fidelity_flags(given: list[str]) -> dict[int, str]:
    """What `--fidelity EPOCHS=COLUMN` say; `InputError` where one is malformed or comes twice."""
    found: dict[int, str] = {}
    for text in given:
        epochs, equals, name = text.partition("=")
        if not equals or not name or not epochs.isdigit():
            raise InputError(
                f"--fidelity is {text!r}, expected EPOCHS=COLUMN as in 12=c10v_valid_ep12."
            )
        if int(epochs) in found:
            raise InputError(f"--fidelity {epochs} is given twice.")
        found[int(epochs)] = name
    return found


def full_seconds(
    table: Table, protocol: Protocol, places: np.ndarray
) -> tuple[np.ndarray | None, str]:
    """Seconds of each member's full training `float64[N]`, None where unknown, and whence they are."""
    given = protocol.seconds
    if given is not None and not isinstance(given, str):
        return np.full(len(places), given), f"every full training is taken to last {given:g} s"
    # A latency is not what training takes.
    timed = [c for c in table.columns.values() if c.unit == "s" and c.metric != "latency"]
    columns = [c.name for c in timed]
    if given is None and len(columns) != 1:
        which = f"several columns of seconds ({', '.join(columns)})" if columns else "no seconds"
        return None, f"{table.path.name} has {which}; --seconds or --seconds-per-query says them"
    name = table.column(given or columns[0]).name
    values = table.values(name)[places].astype(float)
    if not (values > 0).any():
        raise InputError(f"Column {name} of {table.path.name} has no positive number of seconds.")
    # Who is not known trains as long as the median.
    values = np.where(values > 0, values, np.median(values[values > 0]))
    return values, f"seconds of a full training are the column {name}"
