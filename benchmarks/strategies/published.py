"""Published results of searches on tables, to stand beside ours."""

from typing import NamedTuple

from jaxnas.benchmarks.tables.columns import Column

NASBENCH201 = (
    "NAS-Bench-201, arXiv:2001.00326: 500 runs of 12,000 s, about 90 trainings of 12 epochs, chosen by "
    "the 12-epoch validation accuracy of one seed"
)


class Published(NamedTuple):
    """The mean and standard deviation over runs of the report column, and how they were measured."""

    mean: float
    std: float
    source: str


PUBLISHED: dict[tuple[str, str, str], Published] = {
    ("nasbench201", "cifar10", "random"): Published(93.70, 0.36, NASBENCH201),
    ("nasbench201", "cifar10", "regularized_evolution"): Published(93.92, 0.30, NASBENCH201),
    ("nasbench201", "cifar10", "reinforce"): Published(93.85, 0.37, NASBENCH201),
}
"""By space, data set of the test accuracy, and strategy."""


def published(space: str, report: Column, strategy: str) -> Published | None:
    """The published result of a strategy, None where none is known."""
    if report.split != "test" or report.epochs not in (None, 200):
        return None
    return PUBLISHED.get((space, report.dataset or "", strategy.partition(":")[0]))
