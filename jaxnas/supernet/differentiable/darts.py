"""DARTS (Liu et al., arXiv:1806.09055): a softmax over operations, trained on validation images."""

from dataclasses import dataclass

import jax

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.mixed import MixedContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import Alphas, Now, Strategy, masked_softmax


@dataclass(frozen=True)
class DARTS(Strategy):
    """y = sum_k softmax(alpha)_k o_k(x) on each edge.

    First order takes the gradient of L_val(w, alpha). Second order (`second_order`) takes that of
    L_val(w', alpha), w' being the weights after their next step on L_train(w, alpha), exactly: the
    authors approximate the same by finite differences.
    """

    second_order: bool = False

    @property
    def unrolled(self) -> bool:
        """As `second_order` says."""
        return self.second_order

    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """Every branch by its softmax."""
        return MixedContext(masked_softmax(alphas.operations, kept), batch_norm=batch_norm)
