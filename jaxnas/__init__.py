"""jaxnas: fast neural architecture search in JAX."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the sub-packages search_spaces, proxies and benchmarks lie beside this folder.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxnas.classifier import load as load
    from jaxnas.errors import InputError as InputError
    from jaxnas.estimator import ImageClassifier as ImageClassifier
    from jaxnas.module_score import score as score
    from jaxnas.proxies import as_proxy as as_proxy
    from jaxnas.ranking import rank as rank
    from jaxnas.search_spaces import get_space as get_space

# Imported on first use: jax, flax and pandas take seconds, and `--help` needs none of them.
_EXPORTS = {
    "rank": "jaxnas.ranking",
    "load": "jaxnas.classifier",
    "ImageClassifier": "jaxnas.estimator",
    "score": "jaxnas.module_score",
    "InputError": "jaxnas.errors",
    "as_proxy": "jaxnas.proxies",
    "get_space": "jaxnas.search_spaces",
}

__all__ = [
    "ImageClassifier",
    "InputError",
    "__version__",
    "as_proxy",
    "get_space",
    "load",
    "rank",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'jaxnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
