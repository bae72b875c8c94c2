"""A search as a scikit-learn estimator: `ImageClassifier().fit(x, y).predict(x)`."""

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from jaxnas.classifier import Classifier, load
from jaxnas.config import flatten
from jaxnas.data.checks import check_images
from jaxnas.data.dataset import Dataset, Split, channel_statistics
from jaxnas.data.splits import stratified
from jaxnas.errors import InputError
from jaxnas.search import search
from jaxnas.spaces import SearchSpace

BUDGET: dict[str, Any] = {
    "top": 4,
    "train.budget": 4,
    "train.baselines": 0,
    "train.epochs": 2,
    "finish.epochs": 20,
}
"""What a fit spends unless its options say otherwise: 4 short trainings and a long one."""
PIPELINE = ("rank", "train", "finish", "export")
BATCH = 64
VAL_FRACTION = 0.2


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Searches an architecture for images, trains it and predicts with it.

    `fit(x, y)` takes images `[n, H, W, C]` or `[n, H, W]` (uint8, or floating point) or a table
    `[n, F]`, whose rows are taken as images of one pixel; labels may be numbers or text. A fifth of each
    class is held back to choose by. The search is `jaxnas.search.search`, whose settings are parameters
    here.

    Args:
        space: a search space or its name; None: nasbench201 for images, mlp for tables.
        seed: of weights, batches and the held back images.
        directory: where the run is kept, which must not exist; None: nowhere.
        quiet: print nothing.
        **options: keys of a search's configuration: short (`top=4`), by section (`train={"epochs": 2}`)
            or with two underscores for the point (`train__epochs=2`), as in a grid search. They go
            before `BUDGET`.

    Attributes:
        classes_: the labels, sorted, `[K]`.
        n_features_in_: values of an image, H W C; of a row, F.
        image_shape_: `(H, W, C)`.
        arch_: the architecture found, in its space's notation.
        classifier_: the `jaxnas.classifier.Classifier` behind it.
        result_: the contents of the run's result.json.
    """

    def __init__(
        self,
        space: str | SearchSpace | None = None,
        *,
        seed: int = 0,
        directory: str | None = None,
        quiet: bool = True,
        **options: Any,
    ) -> None:
        self.space = space
        self.seed = seed
        self.directory = directory
        self.quiet = quiet
        self._options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, options of the search among them."""
        return super().get_params(deep) | self._options

    def set_params(self, **params: Any) -> Self:
        """Set parameters, or options of the search, by name; an unknown one is refused by `fit`."""
        named = self._get_param_names()
        for name, value in params.items():
            if name in named:
                setattr(self, name, value)
            else:
                self._options = self._options | {name: value}
        return self

    def fit(self, x: Any, y: Any) -> Self:
        """Search, train and keep the best network for images `x` and labels `y`.

        Raises:
            InputError: a `ValueError`, for data or options that cannot be used.
        """
        x, labels = self._checked(x, y)
        data = _dataset(x, labels, self.classes_, seed=self.seed)
        table = data.resolution == (1, 1)
        space = self.space if self.space is not None else "mlp" if table else "nasbench201"
        with tempfile.TemporaryDirectory(prefix="jaxnas-") as temporary:
            out = Path(self.directory or Path(temporary) / "run")
            settings = self._settings(len(data.train))
            result = search(space, data, out=out, quiet=self.quiet, **settings)
            exported = result.exported
            if exported is None:
                raise InputError(
                    f"pipeline is {','.join(settings['pipeline'])}; expected one that ends with export."
                )
            self._files = {p.name: p.read_bytes() for p in exported.iterdir()}
            self._space = space
            self._classifier = load(exported, space=space)
        self.result_ = dict(result.values)
        self.arch_ = result.arch
        return self

    def predict_proba(self, x: Any) -> np.ndarray:
        """Probabilities of the classes, `float64[n, K]`, columns as in `classes_`."""
        check_is_fitted(self)
        found = self.classifier_(self._images(x, reset=False)).astype(np.float64)
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, x: Any) -> np.ndarray:
        """The most probable label of each image, `[n]`."""
        best = self.predict_proba(x).argmax(axis=1)
        return self.classes_[best]

    @property
    def classifier_(self) -> Classifier:
        """What `jaxnas.load` makes of the model, its classes numbered as in `classes_`."""
        if self._classifier is None:
            with tempfile.TemporaryDirectory(prefix="jaxnas-") as folder:
                for name, content in self._files.items():
                    (Path(folder) / name).write_bytes(content)
                self._classifier = load(folder, space=self._space)
        return self._classifier

    def __getstate__(self) -> dict[str, Any]:
        """Without compiled programs: the model is in its files."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        return state | dict.fromkeys(state.keys() & {"_classifier"})

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_files")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _settings(self, images: int) -> dict[str, Any]:
        given = flatten({k.replace("__", "."): v for k, v in self._options.items()})
        # The largest power of two: few sizes, as each is compiled.
        batch = 1 << (min(BATCH, images).bit_length() - 1)
        own: dict[str, Any] = BUDGET | {"batch_size": batch, "export.formats": ("safetensors",)}
        own["pipeline"] = PIPELINE[2:] if given.get("arch") else PIPELINE
        return flatten(own) | given | {"seed": self.seed}

    def _checked(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Stored images and class numbers."""
        if y is None:
            raise InputError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        images = self._images(x, reset=True)
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if len(labels) != len(images):
            raise InputError(f"There are {len(labels)} labels for {len(images)} images.")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"All {len(labels)} labels are of one class, {self.classes_[0]!r}; expected two or more."
            )
        return images, numbers.astype(np.int32)

    def _images(self, x: Any, *, reset: bool) -> np.ndarray:
        """Stored images `[n, H, W, C]`; a matrix as rows of features."""
        if np.asarray(x).ndim in (3, 4):
            return self._image_arrays(x, reset=reset)
        if not reset and self.image_shape_[:2] != (1, 1):
            raise InputError(
                f"X has shape {np.shape(x)}, but {type(self).__name__} was fitted on images of shape "
                f"{self.image_shape_}."
            )
        rows = np.asarray(validate_data(self, x, reset=reset, dtype=np.float32))
        if reset:
            self.image_shape_ = (1, 1, rows.shape[1])
        return rows[:, None, None, :]

    def _image_arrays(self, x: Any, *, reset: bool) -> np.ndarray:
        images = check_images(x, "X")
        if reset:
            self.image_shape_ = images.shape[1:]
            self.n_features_in_ = int(np.prod(self.image_shape_))
        elif self.image_shape_[:2] == (1, 1):
            raise InputError(
                f"X has images of shape {images.shape[1:]}, but {type(self).__name__} was fitted on rows "
                f"of {self.n_features_in_} features."
            )
        return images


def _dataset(x: np.ndarray, y: np.ndarray, classes: np.ndarray, *, seed: int) -> Dataset:
    """Images to train on and to choose by, and none to test on.

    Of a class with one image that image is trained on, and none is there to choose by.
    """
    names = tuple(map(str, classes))
    single = np.bincount(y, minlength=len(names))[y] == 1
    rest = np.flatnonzero(~single)
    if not len(rest):
        raise InputError(
            f"Each of the {len(y)} images is of a class of its own; expected two of a class at least."
        )
    train, val = stratified(y[rest], [VAL_FRACTION], seed=seed, class_names=names)
    train = np.concatenate([rest[train], np.flatnonzero(single)])
    chosen = Split(x[rest[val]], y[rest[val]])
    mean, std = channel_statistics(x[train])
    fit = Split(x[train], y[train])
    return Dataset("arrays", fit, chosen, chosen, names, mean, std, tested=False)
