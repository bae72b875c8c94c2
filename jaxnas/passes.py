"""One architecture's forward and backward passes, each computed once however many proxies read it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.network import Scorable, Variables
from jaxnas.nn.context import BatchNormMode, GradientTap, GradientTaps, Tap, Taps

type Tensors = tuple[jax.Array, ...]
"""Something for each weight: `float32[k, n]` for each shape, k tensors of n entries."""


class Batch(NamedTuple):
    """One minibatch: images `[B, H, W, C]`, standardised, and labels `int32[B]` or None.

    `key`, a typed random key, is where proxies that draw noise begin.
    """

    images: jax.Array
    labels: jax.Array | None
    key: jax.Array | None = None

    @property
    def random_key(self) -> jax.Array:
        """`key`, or that of seed 0."""
        return jax.random.key(0) if self.key is None else self.key


class Forward(NamedTuple):
    """A forward pass that somebody asks for: on what, how, and who listens."""

    inputs: Callable[[Batch], jax.Array]
    batch_norm: BatchNormMode
    tap: Tap


def images_of(batch: Batch) -> jax.Array:
    """The images as they are."""
    return batch.images


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy `float32[]` of logits `[B, classes]`."""
    return optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), labels
    ).mean()


def tensors(params: Any) -> Tensors:
    """The weights among parameters (those of two axes and more), stacked by shape.

    Kernels and matrices count, biases and batch norm's vectors do not. Stacks keep programs small
    where a super-network has a thousand kernels of five shapes.
    """
    groups: dict[tuple[int, ...], list[jax.Array]] = defaultdict(list)
    for leaf in jax.tree.leaves(params):
        if leaf.ndim > 1:
            groups[leaf.shape].append(leaf.reshape(-1))
    return tuple(jnp.stack(group).astype(jnp.float32) for group in groups.values())


class Passes:
    """What the passes through one architecture give; nothing is computed before it is asked for.

    Lives while one program is traced. `forwards` are all forward passes that will be asked for, so
    that those of equal inputs are made together and, where gradients of the same pass are wanted too
    (`gradients`), together with these.
    """

    def __init__(
        self,
        network: Scorable,
        variables: Variables,
        arch: jax.Array,
        batch: Batch,
        *,
        forwards: Sequence[Forward] = (),
        gradient_taps: Sequence[GradientTap] = (),
        gradients: bool = True,
    ) -> None:
        self.network, self.variables, self.arch, self.batch = network, variables, arch, batch
        self._groups: dict[tuple[Any, BatchNormMode], list[Tap]] = defaultdict(list)
        for inputs, batch_norm, tap in forwards:
            if tap not in self._groups[inputs, batch_norm]:
                self._groups[inputs, batch_norm].append(tap)
        self._gradient_taps = tuple(dict.fromkeys(gradient_taps))
        self._gradients = gradients
        self._carries: dict[tuple[Any, BatchNormMode], tuple[Any, ...]] = {}

    @property
    def labels(self) -> jax.Array:
        """The labels `int32[B]`, for proxies that say that they need them."""
        assert self.batch.labels is not None
        return self.batch.labels

    @property
    def logits(self) -> jax.Array:
        """`float32[B, classes]` of the images."""
        return self._linearised[0].astype(jnp.float32)

    @cached_property
    def weights(self) -> Tensors:
        """The weights that the architecture has; 0 in branches not taken and masked channels."""
        return self.masked(self.variables.params)

    @cached_property
    def loss_gradients(self) -> Tensors:
        """d loss / d weight, for the mean cross-entropy of the batch; 0 where there is no weight."""
        return tensors(self._of_loss[0])

    @cached_property
    def image_gradients(self) -> jax.Array:
        """d (sum of all logits) / d image, `float32[B, H, W, C]`."""
        logits, pull, _ = self._linearised
        return pull(jnp.ones_like(logits))[1].astype(jnp.float32)

    def masked(self, params: Any) -> Tensors:
        """Something for each parameter, such as its gradient, where the architecture has it."""
        there = self.network.active(self.arch)
        # Rank promotion is explicit, as a mask may have an axis of 1 for each of the parameter's.
        return tensors(jax.tree.map(lambda p, m: p * m.astype(p.dtype), params, there))

    def carry(self, forward: Forward) -> Any:
        """The carry of one of `forwards`."""
        key = (forward.inputs, forward.batch_norm)
        taps = self._groups[key]
        if key not in self._carries:
            self._carries[key] = self._passed(*key)
        return self._carries[key][taps.index(forward.tap)]

    def gradient_tapped(self, tap: GradientTap) -> jax.Array:
        """What one of `gradient_taps` has summed up over the loss's backward pass, `float32[]`."""
        return self._of_loss[2][self._gradient_taps.index(tap)]

    def sample_gradients(self, cotangents: jax.Array) -> Any:
        """The gradients of `sum(cotangents[i] * logits)` for each i, leaves `[n, ...]`.

        `cotangents: [n, B, classes]`. All of them go back through the one forward pass, its batch
        normalisation included, one after another.
        """
        logits, pull, _ = self._linearised
        return jax.lax.map(lambda c: pull(c.astype(logits.dtype))[0], cotangents)

    def _passed(self, inputs: Callable[[Batch], jax.Array], batch_norm: BatchNormMode) -> Any:
        if inputs is images_of and batch_norm == "batch" and self._gradients:
            return self._linearised[2]
        taps = Taps(tuple(self._groups[inputs, batch_norm]))
        images = inputs(self.batch).astype(self.batch.images.dtype)
        outputs = self.network.apply(
            self.variables, self.arch, images, batch_norm=batch_norm, tap=taps
        )
        return outputs.carry

    @cached_property
    def _linearised(self) -> tuple[jax.Array, Callable[..., Any], Any]:
        """The logits, their pullback to (parameters, images, gradient taps), and the taps' carries."""
        taps = Taps(tuple(self._groups[images_of, "batch"]))
        zeros = tuple(jnp.zeros(()) for _ in self._gradient_taps)

        def run(params: Any, images: jax.Array, zeros: tuple[jax.Array, ...]) -> Any:
            outputs = self.network.apply(
                self.variables._replace(params=params),
                self.arch,
                images,
                tap=taps,
                gradient_taps=GradientTaps(self._gradient_taps, zeros),
            )
            return outputs.logits, outputs.carry

        return jax.vjp(run, self.variables.params, self.batch.images, zeros, has_aux=True)

    @cached_property
    def _of_loss(self) -> Any:
        logits, pull, _ = self._linearised
        return pull(jax.grad(cross_entropy)(logits, self.labels).astype(logits.dtype))
