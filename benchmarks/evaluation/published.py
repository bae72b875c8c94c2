"""Published Spearman correlations with the accuracy after full training, to stand beside ours.

Each was measured on other draws of architectures, weights and images and on the benchmark's own network,
so that the last digit does not compare.
"""

from typing import NamedTuple

from jaxnas.benchmarks.tables.columns import Column

SUITE_ZERO = "NAS-Bench-Suite-Zero, arXiv:2210.03230: 1,000 architectures, 10 seeds"
ZICO = "ZiCo, arXiv:2301.11300"
AZ_NAS = "AZ-NAS, arXiv:2403.19232"
EPOCHS = {"nasbench201": 200}
"""The epochs of full training: a column of fewer has no published figure."""


class Published(NamedTuple):
    """A correlation and where it is from."""

    spearman: float
    source: str


_NASBENCH201 = {
    "naswot": (0.77, 0.80),
    "jacov": (0.75, 0.71),
    "synflow": (0.73, 0.76),
    "params": (0.72, 0.73),
    "l2_norm": (0.68, 0.72),
    "epe_nas": (0.70, 0.60),
    "macs": (0.69, 0.71),
    "snip": (0.58, 0.63),
    "grad_norm": (0.58, 0.63),
    "fisher": (0.50, 0.54),
    "grasp": (0.51, 0.54),
    "zen": (0.35, 0.35),
    "plain": (-0.26, -0.21),
}
"""By proxy: CIFAR-10, CIFAR-100."""
_DATASETS = ("cifar10", "cifar100")

PUBLISHED: dict[tuple[str, str, str], Published] = {
    **{
        ("nasbench201", dataset, proxy): Published(values[i], SUITE_ZERO)
        for proxy, values in _NASBENCH201.items()
        for i, dataset in enumerate(_DATASETS)
    },
    ("nasbench201", "cifar10", "zico"): Published(0.80, ZICO),
    ("nasbench201", "cifar100", "zico"): Published(0.81, ZICO),
    ("nasbench201", "cifar10", "az_nas"): Published(0.91, AZ_NAS),
    ("nasbench201", "cifar100", "az_nas"): Published(0.90, AZ_NAS),
}
"""By space, data set of the accuracy, and proxy or preset."""


def published(space: str, column: Column, name: str) -> Published | None:
    """The published correlation of a proxy with this column, None where none is known."""
    accuracy = column.split in ("valid", "test") and column.metric in ("acc", "accuracy")
    if not accuracy or column.epochs not in (None, EPOCHS.get(space)):
        return None
    return PUBLISHED.get((space, column.dataset or "", name))
