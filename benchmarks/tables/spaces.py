"""The search space of a table, by name."""

from jaxnas.errors import InputError
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.spaces import SearchSpace

OTHERS = {
    "darts": "jaxnas.search_spaces.darts:DARTS",
    "nasnet": "jaxnas.search_spaces.darts:NASNet",
    "nasbench_graph": "jaxnas.benchmarks.tables.graph_space:NASBenchGraph",
}
"""Spaces of tables that may not be among those of the search."""
MOST_CHOICES = 256
"""A table keeps one byte a decision."""


def searched_space(name: str) -> SearchSpace:
    """The space called `name`, of the search's or of tables alone; `InputError` where there is none."""
    return get_space(OTHERS[name] if name in OTHERS and name not in SPACES else name)


def table_space(name: str) -> SearchSpace:
    """The space called `name`; `InputError` where there is none, or its rows do not fit."""
    space = searched_space(name)
    if space.choices.max(initial=0) > MOST_CHOICES:
        raise InputError(
            f"{name} has a decision of {space.choices.max():,} choices, more than the {MOST_CHOICES} "
            "that a table can hold."
        )
    return space
