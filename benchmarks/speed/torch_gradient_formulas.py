"""Training-free proxies in plain PyTorch that need gradients, for `torch_proxies_peer.py`.

One function each, of a `Case`: a NAS-Bench-201 network built anew, in train mode, and a batch. The
saliencies (`grad_norm` to `synflow`) and `jacov` follow the protocol of zero-cost-nas (Abdelfattah et
al., arXiv:2101.08134): weights of convolutions and the classifier count, no biases and no batch norm;
one batch; mean cross-entropy; every entry summed. L is that loss, g its gradient, w the weights.

PyTorch, NumPy and the standard library, and the sibling `torch_peer`; Python 3.11 or later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

if __package__:
    from . import torch_peer as base
else:  # run by path, in an environment without jaxnas
    import torch_peer as base  # pyright: ignore[reportMissingImports]

Module = Any  # torch.nn.Module
Tensor = Any  # torch.Tensor


@dataclass(frozen=True)
class Case:
    """`images` [B, C, H, W], `labels` [B] or None; `arrays`: all arrays of the images' file."""

    network: Module
    images: Tensor
    labels: Tensor | None
    arrays: dict[str, np.ndarray]
    given_weights: bool


def layers(network: Module) -> list[Module]:
    """The convolutions and the classifier, in order."""
    nn = base.load_torch().nn
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def total(values: Iterable[Tensor]) -> Tensor:
    """The sum of scalars."""
    return base.load_torch().stack(list(values)).sum()


def loss_of(case: Case, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy."""
    functional = base.load_torch().nn.functional
    return functional.cross_entropy(base.run_network(case.network, images), labels)


def backward(case: Case) -> None:
    """One forward and one backward pass of L; gradients are left in the parameters."""
    loss_of(case, case.images, case.labels).backward()


def listen(network: Module, kinds: Any, hear: Callable[[Module, Tensor, Tensor], None]) -> list:
    """Call `hear(module, input, output)` at every module of these kinds."""
    found = [m for m in network.modules() if isinstance(m, kinds)]
    return [m.register_forward_hook(lambda m, i, o: hear(m, i[0], o)) for m in found]


def grad_norm(case: Case) -> float:
    """sum_l ||g_l||_2."""
    backward(case)
    return total(m.weight.grad.norm() for m in layers(case.network)).item()


def plain(case: Case) -> float:
    """sum_l sum w g."""
    backward(case)
    return total((m.weight * m.weight.grad).sum() for m in layers(case.network)).item()


def l2_norm(case: Case) -> float:
    """sum_l ||w_l||_2."""
    return total(m.weight.norm() for m in layers(case.network)).item()


def snip(case: Case) -> float:
    """sum_l sum |dL/dm|, m = 1 a mask multiplied with w (Lee et al., arXiv:1810.02340)."""
    torch = base.load_torch()
    functional = torch.nn.functional
    found = layers(case.network)
    for m in found:
        m.mask = torch.nn.Parameter(torch.ones_like(m.weight))
        m.weight.requires_grad = False
        if isinstance(m, torch.nn.Linear):
            m.forward = lambda x, m=m: functional.linear(x, m.weight * m.mask, m.bias)
        else:
            m.forward = lambda x, m=m: functional.conv2d(
                x, m.weight * m.mask, m.bias, m.stride, m.padding
            )
    backward(case)
    return total(m.mask.grad.abs().sum() for m in found).item()


def fisher(case: Case) -> float:
    """sum_l sum_c n_l mean_b (sum_hw z dL/dz)^2 / 2 over layers' outputs z (Theis, arXiv:1801.05787).

    n_l is the number of weights of one output channel, over which zero-cost-nas spreads its value.
    """
    found: list[Tensor] = []

    def gradient(weights: int, z: Tensor, g: Tensor) -> None:
        zg = z * g
        zg = zg.sum((2, 3)) if zg.ndim > 2 else zg
        found.append(weights * zg.pow(2).mean(0).mul(0.5).abs().sum())

    def hear(module: Module, _: Tensor, z: Tensor) -> None:
        z.register_hook(partial(gradient, module.weight[0].numel(), z.detach()))

    nn = base.load_torch().nn
    listen(case.network, (nn.Conv2d, nn.Linear), hear)
    backward(case)
    return total(found).item()


def grasp(case: Case) -> float:
    """-sum_l sum w Hg (Wang et al., arXiv:2002.07376): g of one pass, and the gradient of g'g(w)."""
    torch = base.load_torch()
    weights = [m.weight for m in layers(case.network)]
    first = torch.autograd.grad(loss_of(case, case.images, case.labels), weights)
    loss = loss_of(case, case.images, case.labels)
    second = torch.autograd.grad(loss, weights, create_graph=True)
    total((a.data * b).sum() for a, b in zip(first, second, strict=True)).backward()
    return total((-w.data * w.grad).sum() for w in weights if w.grad is not None).item()


def synflow(case: Case) -> float:
    """ln sum_l sum |w dR/dw|, R the sum of the logits of an image of ones through |w|, without batch
    norm, in double precision (Tanaka et al., arXiv:2006.05467)."""
    torch = base.load_torch()
    network = case.network.double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.forward = lambda x: x
    with torch.no_grad():
        for value in network.state_dict().values():
            value.abs_()
    ones = torch.ones_like(case.images[:1], dtype=torch.float64)
    base.run_network(network, ones).sum().backward()
    flow = total((m.weight * m.weight.grad).abs().sum() for m in layers(network)).item()
    return math.log(flow) if flow else -math.inf


def input_gradient(case: Case) -> np.ndarray:
    """d(sum of all logits)/d images, float32[B, C H W]; gradients of the weights come with it."""
    torch = base.load_torch()
    x = case.images.clone().requires_grad_()
    logits = base.run_network(case.network, x)
    logits.backward(torch.ones_like(logits))
    return x.grad.flatten(1).numpy()


def jacov(case: Case) -> float:
    """-sum ln(v + k) + 1/(v + k), v eigenvalues of the images' correlations, k = 1e-5
    (Mellor et al., arXiv:2006.04647 v1)."""
    v = np.linalg.eigvalsh(np.corrcoef(input_gradient(case))) + 1e-5
    return float(-np.sum(np.log(v) + 1 / v))


def epe_nas(case: Case) -> float:
    """sum over classes of |sum_ij ln(|r_ij| + k)|, r correlations within the class, k = 1e-5
    (Lopes et al., arXiv:2102.08099; up to 100 classes)."""
    jacobian, labels = input_gradient(case), np.asarray(case.labels)
    classes = [jacobian[labels == c] for c in np.unique(labels)]
    return float(sum(abs(np.log(np.abs(np.corrcoef(j)) + 1e-5).sum()) for j in classes))


def ntk(case: Case) -> float:
    """Condition number of the Gram matrix of d(sum of an image's logits)/dw (arXiv:2102.11535)."""
    torch = base.load_torch()
    weights = [m.weight for m in layers(case.network)]
    logits = base.run_network(case.network, case.images)
    rows = []
    for n in range(len(logits)):
        parts = torch.autograd.grad(logits[n].sum(), weights, retain_graph=True)
        rows.append(torch.cat([p.flatten() for p in parts]))
    grads = torch.stack(rows).double()
    values = torch.linalg.eigvalsh(grads @ grads.t())
    return (values[-1] / values[0]).item()


def vkdnw(case: Case) -> float:
    """Layers + entropy of the Fisher matrix's spectrum (Tybl & Neumann, arXiv:2502.04975).

    The Fisher matrix is that of the first weight of each layer, batch norm at its initial running
    statistics; probabilities are mixed with .05 of uniform ones; nine deciles stand for the spectrum.
    """
    torch = base.load_torch()
    case.network.eval()
    weights = [m.weight for m in layers(case.network)]
    logits = base.run_network(case.network, case.images)
    batch, classes = logits.shape
    jacobian = torch.zeros(batch, classes, len(weights), dtype=torch.float64)
    for n in range(batch):
        for k in range(classes):
            parts = torch.autograd.grad(logits[n, k], weights, retain_graph=True)
            jacobian[n, k] = torch.stack([p.flatten()[0] for p in parts])
    p = 0.95 * torch.softmax(logits.detach().double(), 1) + 0.05 / classes
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    fisher = (jacobian.mT @ covariance @ jacobian).mean(0)
    deciles = torch.quantile(torch.linalg.svdvals(fisher), torch.arange(1, 10).double() / 10)
    share = deciles / (deciles.sum() + 1e-10)
    return len(weights) - (share * torch.log(share + 1e-10)).sum().item()


def zico(case: Case) -> float:
    """sum_l ln sum mean|g| / std(g), over the two halves of the batch (Li et al., arXiv:2301.11300)."""
    torch = base.load_torch()
    labels: Any = case.labels
    half = len(case.images) // 2
    grads = []
    for part in (slice(half), slice(half, None)):
        case.network.zero_grad()
        loss_of(case, case.images[part], labels[part]).backward()
        grads.append([m.weight.grad.double() for m in layers(case.network)])
    total = 0.0
    for pair in zip(*grads, strict=True):
        g = torch.stack(pair)
        std = g.std(0, correction=0)
        ratio = (g.abs().mean(0)[std != 0] / std[std != 0]).sum().item()
        total += math.log(ratio) if ratio else 0.0
    return total


def gradsign(case: Case) -> float:
    """sum over weights of |sum_n sign g_n|, g_n of image n alone (Zhang & Jia, arXiv:2110.08616)."""
    torch = base.load_torch()
    signs: Any = 0
    labels: Any = case.labels
    for n in range(len(case.images)):
        case.network.zero_grad()
        loss_of(case, case.images[n : n + 1], labels[n : n + 1]).backward()
        grads = [m.weight.grad.flatten() for m in layers(case.network)]
        signs = signs + torch.sign(torch.cat(grads))
    return signs.abs().sum().item()


_LABELS = (grad_norm, plain, snip, fisher, grasp, epe_nas, zico, gradsign)
_OTHERS = (l2_norm, synflow, jacov, ntk, vkdnw)
FORMULAS: dict[str, Callable[[Case], float]] = {f.__name__: f for f in (*_LABELS, *_OTHERS)}
NEEDS_LABELS = frozenset(f.__name__ for f in _LABELS)
