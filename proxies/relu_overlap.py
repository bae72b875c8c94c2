"""How differently ReLUs treat the images of a batch: NASWOT and SWAP-Score.

Both read which inputs of ReLUs are above 0, and say nothing of networks without ReLUs.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.network import Scorable, Variables
from jaxnas.nn.context import SumTap
from jaxnas.proxy import ForwardProxy

PRE_ACTIVATION = frozenset({"pre_activation"})


@dataclass(frozen=True)
class BinaryCodeKernel(SumTap):
    """K_H of NASWOT, summed over ReLUs: the number of units on which two images agree.

    With `c` the 0/1 codes `[B, n]` of a ReLU's inputs, K = c c' + (1 - c)(1 - c)', computed as
    2 c c' - r_i - r_j + n with `r` the row sums, which are the diagonal of c c': one product in all.
    Codes are exact in bfloat16 and their products are summed in float32, exact up to 2^24 units.
    """

    kinds: frozenset[str] = PRE_ACTIVATION

    def init(self, batch: int) -> jax.Array:
        """Zeros `float32[B, B]`."""
        return jnp.zeros((batch, batch), jnp.float32)

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> jax.Array:
        """The kernel of one ReLU with inputs `[B, ..., C]`; channels that are not active add nothing."""
        # A NaN is no "inactive": it stays one, through to the score.
        codes = jnp.where(jnp.isnan(value), value, value > 0).astype(jnp.bfloat16)
        units = value[0].size
        if active is not None:
            # Their inputs are exactly 0, so that their codes are too: only n has to leave them out.
            units = jnp.sum(active) * (units // value.shape[-1])
        codes = codes.reshape(value.shape[0], -1)
        both = lax.dot_general(
            codes, codes, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
        )
        ones = jnp.diagonal(both)
        return 2 * both - ones[:, None] - ones[None, :] + units


def log_determinant(kernel: jax.Array) -> jax.Array:
    """ln |det K_H|; -inf for a singular kernel, as when two images share all codes."""
    return jnp.linalg.slogdet(kernel)[1]


class Patterns(NamedTuple):
    """Units' patterns over the images, a bit an image, and what bits cannot say.

    `words: uint32[ceil(B / 32), units]`; a unit that is not there is `ALL` in each word, and `all_on`
    says whether one that is there has that pattern. `used` counts the columns written so far, and
    `failed` is NaN once an input was, else 0.
    """

    words: jax.Array
    used: jax.Array
    all_on: jax.Array
    failed: jax.Array


ALL = np.uint32(0xFFFFFFFF)
SIZES = 4


@dataclass(frozen=True)
class SamplePatterns:
    """The pattern of every unit over the images of the batch, `units` of them at most."""

    units: int
    kinds: frozenset[str] = PRE_ACTIVATION

    def init(self, batch: int) -> Patterns:
        """No unit is there."""
        words = jnp.full((-(-batch // 32), self.units), ALL, jnp.uint32)
        return Patterns(words, jnp.int32(0), jnp.bool_(False), jnp.float32(0))

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> Patterns:
        """The patterns of one ReLU with inputs `[B, ..., C]`, of which a carry begins with none."""
        on = (value > 0).reshape(len(value), -1)
        padded = jnp.pad(on, ((0, -len(value) % 32), (0, 0))).astype(jnp.uint32)
        bits = padded.reshape(-1, 32, on.shape[1])
        place = jnp.arange(32, dtype=jnp.uint32)[None, :, None]
        # Each bit is there once, so that a sum is an or.
        words = jnp.sum(bits << place, axis=1, dtype=jnp.uint32)
        there = jnp.ones(value.shape[1:], bool)
        if active is not None:
            there &= active.reshape((1,) * (value.ndim - 2) + active.shape) > 0
        there = there.reshape(-1)
        all_on = jnp.any(there & jnp.all(words == ALL, axis=0))
        failed = jnp.where(jnp.any(jnp.isnan(value)), jnp.float32(jnp.nan), 0)
        return Patterns(jnp.where(there[None], words, ALL), jnp.int32(on.shape[1]), all_on, failed)

    def fold(self, carry: Patterns, contribution: Patterns) -> Patterns:
        """The patterns so far, and those of one more ReLU behind them."""
        words = lax.dynamic_update_slice(carry.words, contribution.words, (0, carry.used))
        return Patterns(
            words,
            carry.used + contribution.used,
            carry.all_on | contribution.all_on,
            carry.failed + contribution.failed,
        )


def distinct_patterns(patterns: Patterns) -> jax.Array:
    """How many different patterns there are, exactly; `float32[]`."""
    # There is room for all branches, of which only some are taken: no more is sorted than is used.
    room = patterns.words.shape[1]
    sizes = [-(-room * part // SIZES) for part in range(1, SIZES + 1)]
    smallest = jnp.searchsorted(jnp.asarray(sizes), patterns.used)
    count = lax.switch(smallest, [partial(_distinct, size) for size in sizes], patterns.words)
    count += patterns.all_on
    # More units than there is room for: the images are larger than the network's.
    fits = patterns.used <= room
    return jnp.where(fits, count.astype(jnp.float32), jnp.nan) + patterns.failed


def _distinct(size: int, words: jax.Array) -> jax.Array:
    """How many different columns, `ALL` apart, the first `size` ones are."""
    ordered = jnp.stack(lax.sort(tuple(words[:, :size]), num_keys=len(words)))
    return jnp.sum(first_of_its_kind(ordered) & jnp.any(ordered != ALL, axis=0))


def first_of_its_kind(sorted_words: jax.Array) -> jax.Array:
    """`bool[n]` for sorted columns `[words, n]`."""
    new = jnp.any(sorted_words[:, 1:] != sorted_words[:, :-1], axis=0)
    return jnp.concatenate([jnp.ones(1, bool), new])


def sample_patterns(network: Scorable) -> SamplePatterns:
    """The tap that has room for all of a network's units."""
    return SamplePatterns(network.units("pre_activation"))


@dataclass(frozen=True)
class SizePenalty:
    """SWAP's regularisation: the score times exp(-(P - mu)^2 / sigma), P the parameters in thousands.

    Its authors set mu and sigma by hand, to the size that is wished for. Unless given, mu is the
    network's largest architecture and sigma = mu^2, known before any architecture is scored: the
    factor is then 1 for the largest and falls to no less than 1 / e.
    """

    mu: float | None = None
    sigma: float | None = None

    def __call__(
        self, score: jax.Array, network: Scorable, variables: Variables, arch: jax.Array
    ) -> jax.Array:
        """`float32[]`; parameters are those that `arch` has, so rows are to be pruned."""
        mu = network.largest / 1e3 if self.mu is None else self.mu
        sigma = mu**2 if self.sigma is None else self.sigma
        return score * jnp.exp(
            -jnp.square(_parameters(network, variables, arch) / 1e3 - mu) / sigma
        )


def _parameters(network: Scorable, variables: Variables, arch: jax.Array) -> jax.Array:
    masks = jax.tree.leaves(network.active(arch))
    params = jax.tree.leaves(variables.params)
    return jnp.sum(
        jnp.stack([m.sum() * (p.size / m.size) for m, p in zip(masks, params, strict=True)])
    )


def swap_regularised(name: str, *, mu: float, sigma: float) -> ForwardProxy:
    """SWAP-Score regularised to the size that is wished for, `mu` and `sigma` in thousands."""
    return _swap(name, SizePenalty(mu, sigma))


def _swap(name: str, adjust: SizePenalty | None) -> ForwardProxy:
    formula = "number of distinct patterns of ReLU units over the images"
    return ForwardProxy(
        name=name,
        paper="Peng et al., SWAP-NAS: Sample-Wise Activation Patterns, arXiv:2403.04161",
        formula=formula + (", times exp(-(params - mu)^2 / sigma)" if adjust else ""),
        tap=sample_patterns,
        finish=distinct_patterns,
        adjust=adjust,
    )


naswot = ForwardProxy(
    name="naswot",
    paper="Mellor et al., Neural Architecture Search without Training, arXiv:2006.04647",
    formula="ln |det K_H|, K_H[i, j] = units on which images i and j agree",
    tap=BinaryCodeKernel(),
    finish=log_determinant,
)

swap = _swap("swap", None)

swap_reg = _swap("swap_reg", SizePenalty())
