"""The network that the winner learns from, beside the labels: one that was exported."""

import numpy as np

from jaxnas.classifier import load
from jaxnas.errors import InputError
from jaxnas.stages.job import Job, Teacher


def teacher_of(job: Job) -> Teacher | None:
    """The configured teacher; None: there is none.

    Raises:
        InputError: it cannot be read, or was trained on other classes or images than these.
    """
    place = job.config.finish.teacher
    if place is None:
        return None
    found, data = load(place), job.data
    if found.class_names != data.class_names:
        raise InputError(
            f"The teacher in {place} knows {len(found.class_names)} classes ({_few(found.class_names)}), "
            f"but {data.name} has {data.classes} ({_few(data.class_names)})."
        )
    images, side = found.images, job.size(job.config.finish).resolution
    alike = images.channels == data.channels and images.resolution == side
    alike &= all(
        np.allclose(mine, theirs, rtol=1e-3)
        for mine, theirs in ((data.mean, images.mean), (data.std, images.std))
    )
    if not alike:
        raise InputError(
            f"The teacher in {place} reads images of {images.resolution}x{images.resolution}x"
            f"{images.channels}, standardised by its own data; expected {side}x{side}x{data.channels} "
            f"and the statistics of {data.name}."
        )
    return Teacher(found.network, found.variables, found.row)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
