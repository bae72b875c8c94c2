"""Training-free proxies in plain PyTorch that read what a network computes, for
`torch_proxies_peer.py`: codes of ReLUs, feature maps, spectra of blocks' outputs.

One function each, of a `Case`: a NAS-Bench-201 network built anew, in train mode, and a batch.

PyTorch, NumPy and the standard library, and siblings; Python 3.11 or later.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

if __package__:
    from . import torch_peer as base
    from .torch_gradient_formulas import Case, Module, Tensor, layers, listen, total
else:  # run by path, in an environment without jaxnas
    import torch_peer as base  # pyright: ignore[reportMissingImports]
    from torch_gradient_formulas import (  # pyright: ignore[reportMissingImports]
        Case,
        Module,
        Tensor,
        layers,
        listen,
        total,
    )


def relu_codes(case: Case, images: Tensor, channels: slice = slice(None)) -> Tensor:
    """For every unit of every ReLU, in these channels, is its input positive: bool[B, units]."""
    torch = base.load_torch()
    codes: list[Tensor] = []
    kind = torch.nn.ReLU
    listen(case.network, kind, lambda m, x, y: codes.append((x[:, channels] > 0).flatten(1)))
    with torch.no_grad():
        base.run_network(case.network, images)
    return torch.cat(codes, 1)


def naswot(case: Case) -> float:
    """ln |det sum over ReLUs of c c' + (1 - c)(1 - c)'| (Mellor et al., arXiv:2006.04647 v3)."""
    on = relu_codes(case, case.images).float()
    off = 1 - on
    return float(np.linalg.slogdet((on @ on.t() + off @ off.t()).double().numpy())[1])


def swap(case: Case) -> float:
    """Distinct patterns of the units over the images (Peng et al., arXiv:2403.04161: 16 images)."""
    torch = base.load_torch()
    return float(len(torch.unique(relu_codes(case, case.images).t(), dim=0)))


def linear_regions(case: Case) -> float:
    """Distinct codes of ReLUs' first channels among small inputs (Chen et al., arXiv:2102.11535).

    `patches` [n, h, w, C] are the inputs; odd sides are halved upwards. TE-NAS's network is one
    channel wide.
    """
    torch = base.load_torch()
    for block in case.network["reductions"]:
        block["pool"].ceil_mode = True
    codes = relu_codes(case, image_like(case, "patches"), slice(1))
    return float(len(torch.unique(codes, dim=0)))


def meco(case: Case) -> float:
    """sum over convolutions of the least eigenvalue of the channels' correlations in the first image
    (Jiang et al., NeurIPS 2023)."""
    torch = base.load_torch()
    found: list[float] = []

    def hear(module: Module, _: Tensor, y: Tensor) -> None:
        correlations = torch.corrcoef(y[0].flatten(1).double()).nan_to_num(0, 0, 0)
        found.append(torch.linalg.eigvalsh(correlations)[0].item())

    listen(case.network, torch.nn.Conv2d, hear)
    with torch.no_grad():
        base.run_network(case.network, case.images)
    return sum(found)


def effective_rank(matrix: Tensor) -> float:
    """exp of the entropy of the singular values' shares; 0 for a zero matrix."""
    torch = base.load_torch()
    values = torch.linalg.svdvals(matrix.double())
    share = values / values.sum()
    return torch.exp(-torch.xlogy(share, share).sum()).nan_to_num(0).item()


def near(case: Case) -> float:
    """Effective ranks of ReLUs' inputs and outputs, summed (Husistein et al., arXiv:2408.08776).

    Rows are positions, columns channels; of the rows the first C, as the authors' sampling has it.
    """
    torch = base.load_torch()
    found: list[float] = []

    def hear(module: Module, x: Tensor, y: Tensor) -> None:
        for value in (x, y):
            found.append(effective_rank(value.permute(0, 2, 3, 1).flatten(0, 2)[: x.shape[1]]))

    listen(case.network, torch.nn.ReLU, hear)
    with torch.no_grad():
        base.run_network(case.network, case.images)
    return sum(found)


def image_like(case: Case, name: str) -> Tensor:
    if name not in case.arrays:
        raise base.BadInputError(f"The images' file has no {name!r}, which this proxy needs.")
    return base.load_torch().from_numpy(case.arrays[name].transpose(0, 3, 1, 2).copy())


def zen(case: Case) -> float:
    """ln mean_n |F(x) - F(x + e/100)|_1 + sum over batch norms of ln sqrt(mean running variance)
    (Lin et al., arXiv:2102.01063): F the map before pooling, running variances after both passes.

    x is `noise` and e `perturbation` [B, H, W, C]. The weights are N(0, 1) unless they were given.
    """
    torch = base.load_torch()
    for m in () if case.given_weights else layers(case.network):
        torch.nn.init.normal_(m.weight)
    maps: list[Tensor] = []
    case.network["head"].register_forward_hook(lambda m, i, o: maps.append(o))
    x, e = (image_like(case, name) for name in ("noise", "perturbation"))
    with torch.no_grad():
        for images in (x, x + 0.01 * e):
            base.run_network(case.network, images)
    norms = [m for m in case.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    scale = total(m.running_var.mean().sqrt().log() for m in norms)
    return ((maps[0] - maps[1]).abs().sum((1, 2, 3)).mean().log() + scale).item()


def block_features(case: Case) -> list[Tensor]:
    """Of the images `noise`, the stem's output and that of each cell and reduction, in order."""
    network = case.network
    found = [network["stem"](image_like(case, "noise"))]
    for s, stage in enumerate(network["stages"]):
        if s:
            found.append(base.run_reduction(network["reductions"][s - 1], found[-1]))
        for cell in stage:
            found.append(base.run_cell(cell, found[-1]))
    return found


def entropies(case: Case) -> list[float]:
    """Of the spectrum of each block's channel covariance, its shares as probabilities.

    In double precision and without negative eigenvalues: rounding else makes some a NaN.
    """
    torch = base.load_torch()
    found = []
    with torch.no_grad():
        for feature in block_features(case):
            rows = feature.double().permute(0, 2, 3, 1).flatten(0, 2)
            rows = rows - rows.mean(0)
            values = torch.linalg.eigvalsh(rows.t() @ rows / len(rows)).clamp(min=0)
            share = values / values.sum()
            found.append(-(share * torch.log(share + 1e-8)).sum().item())
    return found


def az_expressivity(case: Case) -> float:
    """The sum of the blocks' entropies (Lee & Ham, arXiv:2403.19232)."""
    score = sum(entropies(case))
    return -math.inf if math.isnan(score) else score


def az_progressivity(case: Case) -> float:
    """The least rise of the entropy from one block to the next (arXiv:2403.19232)."""
    score = np.diff(entropies(case)).min().item()
    return -math.inf if math.isnan(score) else score


def az_trainability(case: Case) -> float:
    """Mean over blocks of 2 - s - 1/(s + 1e-6), s the greatest singular value of the correlation of
    random signs at a block's output with the gradient they give at its input (arXiv:2403.19232).

    `signs_1`, `signs_2`, ... [B, H, W, C] are the signs, one for each block.
    """
    torch = base.load_torch()
    features = block_features(case)
    scores = []
    for i in range(len(features) - 1, 0, -1):
        source, target = features[i - 1], features[i]
        signs = image_like(case, f"signs_{i}")
        gradient = torch.autograd.grad(target, source, signs)[0]
        if gradient.shape == signs.shape and bool((gradient == signs).all()):
            return -math.inf
        if gradient.shape[2] != signs.shape[2]:
            stride = gradient.shape[2] // signs.shape[2]
            gradient = torch.nn.functional.pixel_unshuffle(gradient, stride)
        a, b = (t.permute(0, 2, 3, 1).flatten(0, 2) for t in (gradient, signs))
        s = torch.linalg.svdvals(a.t() @ b / len(b)).max().item()
        scores.append(2 - s - 1 / (s + 1e-6))
    return float(np.mean(scores))


_ALL = (
    *(naswot, swap, linear_regions, meco, near, zen),
    *(az_expressivity, az_progressivity, az_trainability),
)
FORMULAS: dict[str, Callable[[Case], float]] = {f.__name__: f for f in _ALL}
