"""SynFlow (Tanaka et al., arXiv:2006.05467), in logarithms, so that no depth overflows."""

import jax
import jax.numpy as jnp

from jaxnas.proxy import GradientProxy, Passes


def _synflow(passes: Passes) -> jax.Array:
    """ln (sum over weights of |w dR/dw|), R the sum of the logits of one image of ones.

    All parameters are replaced by their absolute values and batch norm is left out, its scale and shift
    too. -inf where no path leads to the output.

    Values beyond floating point are kept as an array and the logarithm of a factor (`jaxnas.nn.scaled`),
    so that a hundred cells are as exact as one. A module of one's own (`jaxnas.score`) runs unscaled:
    where its values overflow the score is NaN; its batch norm has its running averages, 0 and 1 in a
    fresh module. Networks without batch norm, such as transformers, keep what they have: layer norm is
    not left out and softmax sees absolute weights, so that the score is that of these networks, unlike
    the product along paths that it is in networks of convolutions and ReLUs.
    """
    total, log = passes.flow
    return jnp.where(total == jnp.inf, jnp.nan, jnp.log(total) + log)


synflow = GradientProxy(
    name="synflow",
    paper="Tanaka et al., Pruning Neural Networks without Any Data, arXiv:2006.05467",
    formula="ln sum over weights of |w dR/dw|, R the sum of the logits",
    protocol="one image of ones, absolute weights, no batch norm",
    needs=("gradient of |weights|",),
    score=_synflow,
)
