"""One architecture's forward and backward passes, each computed once however many proxies read it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.errors import InputError
from jaxnas.network import Scorable, Variables
from jaxnas.nn.context import BatchNormMode, GradientTap, GradientTaps, Tap, Taps
from jaxnas.nn.scaled import Scaled

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
    """A forward pass that somebody asks for: on what, how, who listens, and on which weights.

    `weights`, if given, makes of the network's parameters and the batch the parameters to use.
    """

    inputs: Callable[[Batch], jax.Array]
    batch_norm: BatchNormMode
    tap: Tap
    weights: Callable[[Any, Batch], Any] | None = None

    @property
    def key(self) -> Any:
        """What is equal for those that are made together."""
        return self.inputs, self.batch_norm, self.weights


type Linearised = tuple[jax.Array, Callable[..., Any], Any]


def images_of(batch: Batch) -> jax.Array:
    """The images as they are."""
    return batch.images


PLAIN = (images_of, "batch", None)
"""The forward pass that gradients go back through."""


def noise_of(batch: Batch) -> jax.Array:
    """Gaussian noise `float32[B, H, W, C]` in place of the images, the same for the same `key`."""
    return jax.random.normal(batch.random_key, batch.images.shape)


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
    (`gradients`), together with these. With `curvature` gradients are computed so that they can be
    differentiated again.
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
        curvature: bool = False,
    ) -> None:
        self.network, self.variables, self.arch, self.batch = network, variables, arch, batch
        self._groups: dict[Any, list[Tap]] = defaultdict(list)
        for forward in forwards:
            if forward.tap not in self._groups[forward.key]:
                self._groups[forward.key].append(forward.tap)
        self._gradient_taps = tuple(dict.fromkeys(gradient_taps))
        self._gradients, self._curvature = gradients, curvature
        self._carries: dict[Any, tuple[Any, ...]] = {}

    @property
    def labels(self) -> jax.Array:
        """The labels `int32[B]`, for proxies that say that they need them."""
        if self.batch.labels is None:
            raise InputError("A proxy reads labels, and none were given.")
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

    @property
    def image_gradients(self) -> jax.Array:
        """d (sum of all logits) / d image, `float32[B, H, W, C]`."""
        return self._of_sum[1].astype(jnp.float32)

    @property
    def output_gradients(self) -> Tensors:
        """d (sum of all logits) / d weight; 0 where there is no weight, or none that matters."""
        return tensors(self._of_sum[0])

    @cached_property
    def loss_curvature(self) -> jax.Array:
        """`W' H g`, `float32[]`: all weights, times the loss's Hessian, times its gradient."""
        gradients, pull, _ = self._curved
        return pull(gradients)[0]

    @cached_property
    def flow(self) -> Scaled:
        """Sum over weights of |w dR/dw|, R the sum of the logits of one image of ones.

        All parameters are replaced by their absolute values, and batch norm is left out.
        """
        params = jax.tree.map(jnp.abs, self.variables.params)
        variables = self.variables._replace(params=params)
        ones = jnp.ones_like(self.batch.images[:1])
        found = self.network.flow(variables, self.arch, ones)
        return self._flow_by_gradients(params, ones) if found is None else found

    def _flow_by_gradients(self, params: Any, ones: jax.Array) -> Scaled:
        def total(params: Any) -> tuple[jax.Array, jax.Array]:
            variables = self.variables._replace(params=params)
            logits, log = self.network.apply_scaled(variables, self.arch, ones, batch_norm="none")
            return logits.astype(jnp.float32).sum(), log

        gradients, log = jax.grad(total, has_aux=True)(params)
        pairs = zip(self.masked(params), tensors(gradients), strict=True)
        return Scaled(jnp.sum(jnp.stack([jnp.abs(w * g).sum() for w, g in pairs])), log)

    def masked(self, params: Any) -> Tensors:
        """Something for each parameter, such as its gradient, where the architecture has it."""
        there = self.network.active(self.arch)
        # Rank promotion is explicit, as a mask may have an axis of 1 for each of the parameter's.
        return tensors(jax.tree.map(lambda p, m: p * m.astype(p.dtype), params, there))

    def carry(self, forward: Forward) -> Any:
        """The carry of one of `forwards`."""
        taps = self._groups[forward.key]
        if forward.key not in self._carries:
            self._carries[forward.key] = self._passed(forward)
        return self._carries[forward.key][taps.index(forward.tap)]

    def gradient_tapped(self, tap: GradientTap) -> jax.Array:
        """What one of `gradient_taps` has summed up over the loss's backward pass, `float32[]`."""
        return self._of_loss[2][self._gradient_taps.index(tap)]

    def sample_gradients(self, cotangents: jax.Array) -> Tensors:
        """The gradients of `sum(cotangents[i] * logits)` for each i, `float32[n, k, entries]`.

        `cotangents: [n, B, classes]`. All of them go back through the one forward pass, its batch
        normalisation included, one after another.
        """
        logits, pull, _ = self._linearised
        return jax.lax.map(lambda c: tensors(pull(c.astype(logits.dtype))[0]), cotangents)

    def _passed(self, forward: Forward) -> Any:
        if forward.key == PLAIN and self._gradients:
            return self._linearised[2]
        taps = Taps(tuple(self._groups[forward.key]))
        variables = self.variables
        if forward.weights is not None:
            variables = variables._replace(params=forward.weights(variables.params, self.batch))
        images = forward.inputs(self.batch).astype(self.batch.images.dtype)
        outputs = self.network.apply(
            variables, self.arch, images, batch_norm=forward.batch_norm, tap=taps
        )
        return outputs.carry

    @cached_property
    def _linearised(self) -> Linearised:
        return self._curved[2][1] if self._curvature else self._linearise(self.variables.params)

    def _linearise(self, params: Any) -> Linearised:
        """The logits, their pullback to (parameters, images, gradient taps), and the taps' carries."""
        taps = Taps(tuple(self._groups[PLAIN]))
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

        return jax.vjp(run, params, self.batch.images, zeros, has_aux=True)

    @cached_property
    def _of_sum(self) -> Any:
        logits, pull, _ = self._linearised
        return pull(jnp.ones_like(logits))

    @cached_property
    def _of_loss(self) -> Any:
        return self._curved[2][0] if self._curvature else self._pulled(self._linearised)

    def _pulled(self, linearised: Linearised) -> Any:
        logits, pull, _ = linearised
        return pull(jax.grad(cross_entropy)(logits, self.labels).astype(logits.dtype))

    @cached_property
    def _curved(self) -> Any:
        """The loss's gradients, their pullback to a factor of all weights, and what they come from."""

        def run(factor: jax.Array) -> Any:
            scale = lambda p: p * factor.astype(p.dtype) if p.ndim > 1 else p  # noqa: E731
            linearised = self._linearise(jax.tree.map(scale, self.variables.params))
            of_loss = self._pulled(linearised)
            return tensors(of_loss[0]), (of_loss, linearised)

        return jax.vjp(run, jnp.ones(()), has_aux=True)
