"""Strictness, the compilation cache and the small networks that the tests share."""

import os
from pathlib import Path

# Before JAX is imported, and inherited by the programs that tests start.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from jaxnas.backend import enable_compilation_cache
from jaxnas.network import Network, Variables
from jaxnas.proxy import Batch
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size

# Tests of several devices start programs of their own.
jax.config.update("jax_num_cpu_devices", 1)
settings.register_profile("jaxnas", deadline=None, derandomize=True)
settings.load_profile("jaxnas")


def pytest_configure(config: pytest.Config) -> None:
    # Two test runs may share the cache and one find what the other is still writing: JAX says so
    # and compiles.
    ignored = "ignore:Error (reading|writing) persistent compilation cache entry"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache() -> None:
    """Programs are compiled once for many runs; `helpers.compilations` counts cached ones too."""
    enable_compilation_cache()


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs():
    """Forgotten after each file: Linux maps no more than 65,530 pieces of memory for one process, each
    program takes dozens, and the suite's programs together would crash it."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, where this machine has it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: it holds the real data for this test")
    return folder


@pytest.fixture(scope="session")
def accuracies(shared: Path) -> pd.DataFrame:
    """NAS-Bench-201's 15,625 cells in official order."""
    return pd.read_csv(shared / "nasbench201_accuracy.csv.gz")


@pytest.fixture(scope="session")
def published(shared: Path) -> pd.DataFrame:
    """Published sizes of the 9,445 cells without unreachable operations."""
    return pd.read_csv(shared / "nasbench201_published_proxies_cifar10.csv.gz")


@pytest.fixture(scope="session")
def space() -> NASBench201:
    return NASBench201()


@pytest.fixture(scope="session")
def tiny(space: NASBench201) -> Network:
    """One cell of 4 channels on 8x8 images."""
    return space.network(Size(channels=4, cells=(1,), resolution=8), classes=3)


@pytest.fixture(scope="session")
def variables(tiny: Network) -> Variables:
    return tiny.init(jax.random.key(0))


@pytest.fixture(scope="session")
def batch() -> Batch:
    """8 images of 8x8 pixels in 3 classes."""
    images = np.random.default_rng(0).standard_normal((8, 8, 8, 3))
    return Batch(jnp.asarray(images, jnp.float32), jnp.arange(8, dtype=jnp.int32) % 3)
