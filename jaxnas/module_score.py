"""Training-free scores of any Flax NNX module, without a search space."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.data.checks import check_images, check_labels
from jaxnas.data.dataset import channel_statistics
from jaxnas.errors import InputError
from jaxnas.network import Counts, Outputs, Variables
from jaxnas.nn.context import BatchNormMode, GradientTaps, NoTap, Tap
from jaxnas.nn.depth import longest_chain
from jaxnas.nn.linear_maps import LinearMaps
from jaxnas.nn.listen import listen, multiply_adds, relu_units
from jaxnas.nn.nudge import Nudges, image_by_image
from jaxnas.nn.scaled import Scaled
from jaxnas.proxies import DEFAULT, get_proxies
from jaxnas.proxy import Batch, CountProxy, ForwardProxy, GradientProxy, Proxy, evaluate

NO_CHOICES = np.zeros(0, np.int32)
"""The architecture of a network without choice points."""


def score(
    module: nnx.Module,
    images: Any,
    labels: Any = None,
    *,
    proxies: str | Iterable[str | Proxy | Callable[..., Any]] = DEFAULT,
    seed: int = 0,
) -> dict[str, float]:
    """Training-free scores of a module as it stands, from one minibatch.

    The module is called as `module(images)` and gives logits `[B, classes]`. A copy of it is
    scored, with the batch's own statistics in batch norm and without dropout; the module itself is
    left as it is. A second module of the same structure and shapes compiles nothing.

    `naswot` reads every ReLU that is computed (what counts as one: `jaxnas.nn.listen`). `params` is
    the number of elements of all `nnx.Param`s; `macs` the multiply-adds of convolutions and matrix
    products for one image, with a `cond` counted as its largest branch.

    Args:
        module: any NNX module, in training or evaluation mode.
        images: the minibatch, uint8 or floating `[B, H, W, C]` or `[B, H, W]`. Each channel is
            standardised by its own mean and deviation over the minibatch, so images that are
            standardised already stay close to what they are.
        labels: integers `[B]` from 0, for proxies that need them.
        proxies: names of `jaxnas.proxies`, a list or one string with commas; one's own as in
            `jaxnas.rank`.
        seed: where proxies' noise and the module's random streams start, should it draw numbers in
            evaluation too.

    Returns:
        The score by each proxy's name, in the order asked for. NaN is a numerical failure.

    Raises:
        InputError: an unknown proxy, unusable images or labels, a module that does not take the
            images or gives something else than logits, or that lacks what a proxy reads.
    """
    chosen = get_proxies(proxies.split(",") if isinstance(proxies, str) else proxies)
    _check_readable(chosen, labels)
    stored = check_images(images, "images")
    network, variables = as_network(module, stored.shape[1:], seed=seed)
    prepared = jnp.asarray(_standardised(stored))
    # Traced first of all, so that a module that does not run is refused here.
    trace = partial(jax.eval_shape, partial(_logits, network), variables)
    classes = _or_a_sentence(trace, prepared).shape[1]
    if labels is not None:
        labels = jnp.asarray(check_labels(labels, "labels", images=len(stored), classes=classes))
    _check_heard(network, chosen)
    found = _sizes(network, chosen)
    computed = tuple(p for p in chosen if p.name not in found)
    if computed:
        batch = Batch(prepared, labels, jax.random.key(seed))
        values = np.asarray(_scores(network, computed, variables, batch))
        found |= {p.name: float(v) for p, v in zip(computed, values, strict=True)}
    return {p.name: found[p.name] for p in chosen}


@dataclass(frozen=True, eq=False)
class ModuleNetwork:
    """A module as proxies see networks: one architecture, `NO_CHOICES`.

    Stands where `jaxnas.network.Network` stands for a super-network. It holds the module's
    structure and shapes, not its weights; the same structure and image shape make equal ones.
    """

    graph: Any
    shapes: Variables
    image_shape: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleNetwork) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        try:
            hash(self.graph)
        except TypeError:
            # The module keeps what can change, such as a list of numbers, so a program compiled for
            # it could be wrong for the next: equal to itself only.
            return (object(),)
        return (self.graph, self.image_shape)

    def count(self, archs: np.ndarray) -> Counts:
        """Elements of `nnx.Param`s, and multiply-adds for one image; the same for every row."""
        params = sum(leaf.size for leaf in jax.tree.leaves(self.shapes.params))
        image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        # Through a jitted function, whose trace is remembered.
        trace = partial(multiply_adds, partial(_logits, self), self.shapes)
        macs = _or_a_sentence(trace, image)
        return Counts(np.full(len(archs), params), np.full(len(archs), macs))

    @property
    def largest(self) -> int:
        """Elements of `nnx.Param`s: there is one architecture."""
        return int(self.count(NO_CHOICES[None]).params[0])

    def depth(self, archs: np.ndarray) -> np.ndarray:
        """The longest chain of convolutions and matrix products; the same for every row."""
        image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        trace = partial(longest_chain, partial(_logits, self), self.shapes)
        return np.full(len(archs), _or_a_sentence(trace, image))

    def apply(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        gradient_taps: GradientTaps | None = None,
        cuts: Sequence[jax.Array] | None = None,
        nudges: Nudges | None = None,
    ) -> Outputs:
        """Run the module on `images: [B, H, W, C]`; `arch` is not read.

        Statistics are all variables that are not `nnx.Param`s. The module makes no reports that
        gradient taps or cuts could apply to. Without batch norm (`none`) it has the running
        averages, which are 0 and 1 in a fresh module.
        """
        tap = tap if tap is not None else NoTap()

        def call(images: jax.Array, params: Any = variables.params) -> Any:
            module = nnx.merge(self.graph, params, variables.statistics, copy=True)
            _set_modes(module, running=batch_norm in ("running", "none"))
            return module(images), nnx.state(module, nnx.Not(nnx.Param))

        if nudges is not None:
            logits = image_by_image(
                lambda params, image: call(image, params)[0], variables.params, images, nudges
            )
            return Outputs(logits, tap.init(len(images)), variables.statistics)
        if tap.kinds:
            (logits, statistics), carry = listen(call, tap)(images)
        else:
            (logits, statistics), carry = call(images), tap.init(len(images))
        _check_logits(logits, len(images))
        return Outputs(
            logits, carry, statistics if batch_norm == "update" else variables.statistics
        )

    def apply_scaled(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
    ) -> Scaled:
        """The logits as they are: a module's values cannot be scaled, so that large ones overflow."""
        logits = self.apply(variables, arch, images, batch_norm=batch_norm).logits
        return Scaled(logits, jnp.zeros(()))

    def flow(self, variables: Variables, arch: jax.Array | np.ndarray, image: jax.Array) -> None:
        """None: how a module's parts let values through is not known."""

    def active(self, arch: jax.Array | np.ndarray) -> Any:
        """All weights are there."""
        return jax.tree.map(lambda p: jnp.ones((1,) * p.ndim), self.shapes.params)

    def units(self, kind: str) -> int:
        """How many inputs the module's ReLUs have, for one image."""
        return _relu_units(self) if kind == "pre_activation" else 0

    @property
    def linear_maps(self) -> LinearMaps:
        """The kernels of Flax's linear, convolutional and attention layers."""
        return self._linear_maps

    @cached_property
    def _linear_maps(self) -> LinearMaps:
        return LinearMaps.of(nnx.merge(self.graph, *self.shapes))


def as_network(
    module: nnx.Module, image_shape: tuple[int, ...], *, seed: int = 0
) -> tuple[ModuleNetwork, Variables]:
    """A module as a network without choice points, and its variables.

    `image_shape` is `(H, W, C)`. The module is not changed, and random streams start from `seed`.
    """
    if not isinstance(module, nnx.Module):
        got = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise InputError(
            f"The module to score is {got}; expected an instance of a flax.nnx.Module."
        )
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(module))):
        raise InputError(
            f"The {type(module).__name__} has variables without values; initialise it."
        )
    copy = nnx.clone(module)
    # Training and evaluation mode are part of the structure: set here, so that they compile to one.
    _set_modes(copy, running=False)
    _reseed(copy, seed)
    graph, params, rest = nnx.split(copy, nnx.Param, ...)
    variables = Variables(params, rest)
    return ModuleNetwork(graph, jax.eval_shape(lambda v: v, variables), image_shape), variables


@lru_cache(maxsize=64)
def _relu_units(network: ModuleNetwork) -> int:
    """Found by tracing the module once."""
    image = jax.ShapeDtypeStruct((2, *network.image_shape), jnp.float32)

    def call(images: jax.Array) -> jax.Array:
        zeros = jax.tree.map(lambda v: _zeros(v.shape, v.dtype), network.shapes)
        return network.apply(zeros, NO_CHOICES, images).logits

    return _or_a_sentence(partial(relu_units, call), image)


def _zeros(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), shape)
    return jnp.zeros(shape, dtype)


def _set_modes(module: nnx.Module, *, running: bool) -> None:
    modes = {"use_running_average": running, "deterministic": True}
    module.set_attributes(**modes, raise_if_not_found=False)


def _reseed(module: nnx.Module, seed: int) -> None:
    streams = [m for _, m in nnx.iter_graph(module) if isinstance(m, nnx.RngStream)]
    tags = sorted({stream.key.tag for stream in streams})
    keys: dict[str, Any] = {
        tag: jax.random.fold_in(jax.random.key(seed), i) for i, tag in enumerate(tags)
    }
    nnx.reseed(module, policy="match_shape", **keys)


def _standardised(images: np.ndarray) -> np.ndarray:
    mean, std = channel_statistics(images)
    scale = np.float32(1 / 255 if images.dtype == np.uint8 else 1)
    return (images * scale - mean) / std


def _check_readable(proxies: tuple[Proxy, ...], labels: Any) -> None:
    for p in proxies:
        if p.needs_labels and labels is None:
            raise InputError(f"The proxy {p.name} needs labels and none were given.")


def _check_logits(logits: Any, batch: int) -> None:
    if not isinstance(logits, jax.Array):
        got = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or logits.shape[0] != batch or logits.shape[1] == 0:
        got = f"an array of shape {logits.shape}"
    elif not jnp.issubdtype(logits.dtype, jnp.floating):
        got = f"an array of type {logits.dtype}"
    else:
        return
    raise InputError(f"module(images) gave {got}; expected logits of shape ({batch}, classes).")


@partial(jax.jit, static_argnames=("network",))
def _logits(network: ModuleNetwork, variables: Variables, images: jax.Array) -> jax.Array:
    return network.apply(variables, NO_CHOICES, images).logits


def _or_a_sentence[T](trace: Callable[[Any], T], images: Any) -> T:
    """`trace(images)`, with what a module raises while it is traced turned into one sentence."""
    try:
        return trace(images)
    except InputError:
        raise
    except (TypeError, ValueError, AssertionError) as error:  # what modules and JAX raise at shapes
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"The module failed on module(images) with images of shape {images.shape}: {why}."
        ) from error


def _sizes(network: Any, proxies: tuple[Proxy, ...]) -> dict[str, float]:
    counted = [p for p in proxies if isinstance(p, CountProxy)]
    return {p.name: float(p.count(network, NO_CHOICES[None])[0]) for p in counted}


@partial(jax.jit, static_argnames=("network", "proxies"))
def _scores(
    network: Any, proxies: tuple[Proxy, ...], variables: Variables, batch: Batch
) -> jax.Array:
    found = evaluate(proxies, network, variables, jnp.asarray(NO_CHOICES), batch)
    return jnp.stack([found[p.name] for p in proxies])


def _check_heard(network: ModuleNetwork, proxies: Iterable[Proxy]) -> None:
    """A proxy that reads what the module does not let be heard says nothing of it."""
    listening = [p for p in proxies if isinstance(p, ForwardProxy)]
    for p in listening:
        others = p.tap_for(network).kinds - {"pre_activation"}
        if others:
            raise InputError(
                f"The proxy {p.name} reads {' and '.join(sorted(others))} reports, which only "
                "networks of search spaces make."
            )
        made = p.image_shape(network.image_shape)
        if made != network.image_shape:
            trace = partial(jax.eval_shape, partial(_logits, network), network.shapes)
            _or_a_sentence(trace, jax.ShapeDtypeStruct((2, *made), jnp.float32))
    for p in proxies:
        reads_attention = isinstance(p, GradientProxy) and p.reads_attention
        if reads_attention and not network.linear_maps.attention:
            raise InputError(
                f"{p.name} reads the weights of self-attention, and this module has no "
                "nnx.MultiHeadAttention."
            )
        if isinstance(p, GradientProxy) and p.reports:
            raise InputError(
                f"The proxy {p.name} reads {' and '.join(sorted(p.reports))} reports, which only "
                "networks of search spaces make."
            )
    if listening and not network.units("pre_activation"):
        names = " and ".join(p.name for p in listening)
        verb = "reads" if len(listening) == 1 else "read"
        raise InputError(
            f"{names} {verb} the inputs of ReLUs, max(x, 0), and this module has none."
        )
