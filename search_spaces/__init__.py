"""The search spaces, by name. A new one is a file here, a line in `SPACES` and its tests."""

import importlib

from jaxnas.errors import unknown
from jaxnas.spaces import SearchSpace

SPACES: dict[str, str] = {
    "nasbench201": "jaxnas.search_spaces.nasbench201:NASBench201",
}


def get_space(name: str) -> SearchSpace:
    """The space called `name`; `InputError` with the nearest names if there is none."""
    if name not in SPACES:
        raise unknown("search space", name, SPACES)
    module, attribute = SPACES[name].split(":")
    return getattr(importlib.import_module(module), attribute)()
