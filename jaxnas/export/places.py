"""Where a search space comes from, so that it is found again when a model is loaded."""

from pathlib import Path

from jaxnas.errors import InputError, unknown
from jaxnas.module_space import ModuleSpace
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.search_spaces.described import DescribedSpace, described_space
from jaxnas.spaces import SearchSpace

DESCRIPTION = "space.yaml"


def place_of(space: SearchSpace, place: str | None) -> tuple[str, bytes | None]:
    """What model.json calls a space, and a description's contents if it is a file's.

    `place` is what `get_space` takes; None: the registered name, or the class's module and name.
    """
    place = space.name if place is None else place
    if place in SPACES:
        return place, None
    if place.endswith((".yaml", ".yml")):
        try:
            return DESCRIPTION, Path(place).read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read the space {place}: {error.strerror}.") from error
    if isinstance(space, DescribedSpace):
        raise InputError(
            f"The space {space.name} is of a description; to export its networks, say which file."
        )
    if ":" in place:
        return place, None
    made_by = space._build if isinstance(space, ModuleSpace) else type(space)
    return f"{made_by.__module__}:{getattr(made_by, '__qualname__', space.name)}", None


def found_space(place: str, directory: Path, given: str | SearchSpace | None) -> SearchSpace:
    """The space of a model in `directory`; `given` goes before what model.json says.

    Nothing but registered spaces and descriptions is taken from a directory's word: `module:attribute`
    is code, and is imported only if it is given.
    """
    if isinstance(given, SearchSpace):
        return given
    if given is not None:
        return get_space(given)
    if place == DESCRIPTION:
        return described_space(directory / DESCRIPTION, _registered)
    return _registered(place)


def _registered(name: str) -> SearchSpace:
    if name in SPACES:
        return get_space(name)
    if ":" not in name:
        raise unknown("search space", name, SPACES)
    raise InputError(
        f"The model's space is code of its own, {name}, which is not run on a directory's word; "
        f"name it if you trust it: jaxnas.load(DIR, space={name!r}), or --space {name}."
    )
