"""Training data that does not fit the device: read on the host by Grain, sent in windows, used up.

What is trained is what `jaxnas.training.epoch.train_epoch` trains with all images on the device: each
candidate's order of images is drawn from the same key.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.data.images import physical_memory
from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.training.epoch import Options, Population, Window, epoch_order, train_window
from jaxnas.training.evaluation import EVALUATION_BATCH, evaluate_pieces
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout, to_host

WINDOW_BYTES = 1 << 26
"""About how large the prepared images of a window are; a window is at least a batch."""
READERS = 2
"""Threads that read and prepare, a window each; NumPy leaves them Python's lock for most of it."""
AHEAD = 2
"""Windows that are kept ready."""
DEVICE_SHARE = 0.25
"""The share of a device's memory that images may take before they are streamed to it."""


class Source(Protocol):
    """Random access: an array, `np.load(FILE, mmap_mode="r")`, or an object like them."""

    def __len__(self) -> int:
        """The number of images."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Some images, `[k, H, W, C]`, for increasing `indices: int64[k]`."""
        ...


def as_it_is(x: np.ndarray) -> np.ndarray:
    """Images that are stored as networks read them, in float32."""
    return np.asarray(x, np.float32)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Images on the host, and their labels.

    Attributes:
        x: n images as they are stored, such as uint8 `[n, H, W, C]`.
        y: int32 `[n]`.
        prepare: from stored images `[k, H, W, C]` to network inputs, float32 `[k, R, R, C]`, such as
            `Dataset.prepare`; called from several threads.

    Raises:
        InputError: no images, another number of labels, labels that are no integers, or Grain is not
            installed.
    """

    x: Source
    y: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray] = as_it_is

    def __post_init__(self):
        check_installed()
        if len(self.x) == 0 or len(self.x) != len(self.y):
            raise InputError(
                f"Streamed data has {len(self.x)} images and {len(self.y)} labels; expected as many, "
                "at least 1."
            )
        if not np.issubdtype(np.asarray(self.y).dtype, np.integer):
            raise InputError(
                f"Labels of streamed data are {np.asarray(self.y).dtype}, expected integers."
            )

    def __len__(self) -> int:
        """The number of images, n."""
        return len(self.x)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """That of a prepared image, (R, R, C).

        Raises:
            InputError: images are prepared to another number of axes.
        """
        shape = self.prepare(self.x[np.zeros(1, np.int64)]).shape
        if len(shape) != 4:
            raise InputError(
                f"One streamed image is prepared to shape {shape}; expected [1, R, R, C]."
            )
        return shape[1:]

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prepared images `[..., R, R, C]` and labels `[...]`; 0 and -1 where the index is -1."""
        there = indices >= 0
        # Each image once, and a file from its beginning to its end.
        distinct, places = np.unique(indices[there], return_inverse=True)
        x = np.zeros((*indices.shape, *self.shape), np.float32)
        y = np.full(indices.shape, -1, np.int32)
        if len(distinct):
            x[there] = self.prepare(self.x[distinct])[places]
            y[there] = self.y[indices[there]]
        return x, y

    def window(self, batch_size: int, images: int, rows: int = 1) -> int:
        """The length of a window, a multiple of the batch size; not much more than `images`."""
        own = prepared_bytes(rows * batch_size, self.shape)
        return min(max(1, WINDOW_BYTES // own), -(-images // batch_size)) * batch_size


@dataclass(frozen=True, eq=False)
class StreamedData:
    """Two splits for `train_population`, streamed; in place of `TrainingData`."""

    train: Streamed
    val: Streamed


def stream_epoch(
    network: Network,
    options: Options,
    layout: Layout,
    population: Population,
    archs: np.ndarray,
    hyper: Hyper,
    images: Streamed,
    which: np.ndarray,
    progress: tuple[np.ndarray, np.ndarray],
    teacher: Any = None,
) -> tuple[Population, np.ndarray]:
    """`jaxnas.training.epoch.train_epoch` on images that are streamed.

    Candidates of one seed read the same windows; where seeds differ each has windows of its own, which
    are as many times shorter. Only images that a candidate named by `which` reads are loaded.
    """
    seeds, n = to_host(population.seeds), len(images)
    batch = np.round(np.asarray(hyper.batch_share) * options.batch_size).astype(int)
    state = (population, layout.dealt(jnp.asarray(np.zeros(len(seeds), np.float32))))
    used = int((n // batch * batch)[which].max(initial=0))
    own = list(zip(seeds.tolist(), progress[0].tolist(), strict=True))
    named = {own[row] for row in np.flatnonzero(which)}
    orders = {o: np.asarray(_order(np.uint32(o[0]), np.int32(o[1]), n))[:used] for o in named}
    apart = len(set(own)) > 1
    length = images.window(options.batch_size, n, rows=len(seeds) if apart else 1)

    def indices(number: int) -> np.ndarray:
        found = np.full((len(seeds), length), -1) if apart else np.full((1, length), -1)
        for row in np.flatnonzero(which) if apart else (0,):
            order = orders[own[row]] if apart else next(iter(orders.values()))
            part = order[number * length :][:length]
            found[row, : len(part)] = part
        return found if apart else found[0]

    for number, (x, y) in enumerate(_ahead(images, indices, -(-used // length))):
        x, y = layout.dealt((x, y)) if apart else (x, y)
        window = Window(jnp.asarray(x), jnp.asarray(y), np.int32(number * length), np.int32(n))
        jax.block_until_ready(state)  # so that no more than one window waits on the device
        state = train_window(
            network, options, layout, state, archs, hyper, window, which, progress, teacher
        )
    population, totals = state
    steps = (n // batch).astype(np.float32)
    return population, np.where(which, to_host(totals) / steps, np.nan)


def evaluate_streamed(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    images: Streamed,
    *,
    which: np.ndarray | None = None,
    layout: Layout | None = None,
    metric: str = "accuracy",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`jaxnas.training.evaluation.evaluate_population` on images that are streamed."""
    n = len(images)
    length = images.window(EVALUATION_BATCH, n)

    def indices(number: int) -> np.ndarray:
        places = number * length + np.arange(length)
        return np.where(places < n, places, -1)

    def pieces() -> Iterator[tuple[jax.Array, jax.Array]]:
        for x, y in _ahead(images, indices, -(-n // length)):
            x = x.reshape(-1, EVALUATION_BATCH, *images.shape)
            yield jnp.asarray(x), jnp.asarray(y.reshape(-1, EVALUATION_BATCH))

    return evaluate_pieces(
        network, variables, archs, pieces(), n, which=which, layout=layout, metric=metric
    )


def check_installed() -> Any:
    """Grain, the package that reads ahead.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("grain")
    except ImportError as error:
        raise InputError(
            f"Streaming images needs the package grain, which cannot be imported ({error}); install "
            "it with `pip install 'jaxnas[stream]'`, or keep images on the device: --data.stream never."
        ) from None


def prepared_bytes(images: int, shape: tuple[int, ...]) -> int:
    """Bytes of so many prepared images."""
    return images * int(np.prod(shape)) * np.dtype(np.float32).itemsize


def device_memory() -> float:
    """Bytes of memory of the smallest device of this process, the machine's on CPUs."""
    stats = [d.memory_stats() or {} for d in jax.local_devices()]
    return min(s.get("bytes_limit", physical_memory()) for s in stats)


def fits(size: int) -> bool:
    """Whether so many bytes of images are to lie on the device: at most a quarter of it."""
    return size <= DEVICE_SHARE * device_memory()


@partial(jax.jit, static_argnames="n")
def _order(seed: Any, epoch: Any, n: int) -> jax.Array:
    return epoch_order(seed, epoch, n)


def _ahead(
    images: Streamed, indices: Callable[[int], np.ndarray], windows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The windows in order, read and prepared while those before are used."""
    grain = check_installed()
    numbers = grain.MapDataset.range(windows).map(lambda number: images.read(indices(number)))
    reading = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=AHEAD)
    return iter(numbers.to_iter_dataset(reading))
