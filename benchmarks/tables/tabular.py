"""Search spaces that are known by their tables alone."""

from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace, Size

NO_SIZE = Size(channels=1, cells=(1,), resolution=1)


class TabularSpace(SearchSpace):
    """A space whose networks jaxnas cannot build: it can be searched in a table, and nowhere else.

    Nothing is scored, counted or trained. The label-free ranking is the table's column of parameters,
    where there is one. Where several rows compute the same function, `pruned` gives the one that tables
    hold, so that a change of one decision leads to it.
    """

    official_size = proxy_size = train_size = NO_SIZE
    default_proxies = ()

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """Always `InputError`."""
        raise InputError(
            f"{self.name} is known by its tables alone: jaxnas has no networks of it to score, count or "
            "train, and searches it by `python -m jaxnas.benchmarks strategies` only."
        )
