"""Stage 6: the finished network is written for use elsewhere, each file checked against it."""

from pathlib import Path

import jax

from jaxnas.export import export as write
from jaxnas.export.write import MODEL, drop_unfinished, sha256
from jaxnas.runs import check_free
from jaxnas.stages.job import Job


def place(job: Job) -> Path:
    """The export directory."""
    asked = job.config.export.dir
    return Path(asked) if asked else job.run.directory / "export"


def export(job: Job) -> None:
    """Writes the export directory, whole or not at all; one that an interrupted run wrote is kept.

    Raises:
        InputError: the directory is in use, or a file of it answers otherwise than the network.
    """
    directory = place(job)
    if not job.run.of_stage("export", "done"):
        if not _is_own(job, directory):
            _write(job, directory)
        job.run.record(stage="export", unit="done", seconds=job.watch.lap())
    job.notes.append(
        f"The network is in {directory}: jaxnas.load({str(directory)!r}), or "
        f"python -m jaxnas.predict {directory} IMAGE..."
    )


def _write(job: Job, directory: Path) -> None:
    assert job.winner is not None
    assert job.finished is not None
    network, variables, size = job.finished
    formats = job.config.export.formats
    check_free(directory, "--export.dir")
    if directory.parent == job.run.directory:
        drop_unfinished(directory)  # nobody else writes there
    with job.screen.bar("export", len(formats)) as bar:
        bar.advance(0, ", ".join(formats))
        write(
            directory,
            network,
            jax.tree.map(lambda a: a[0], variables),
            job.winner,
            space=job.space,
            size=size,
            data=job.data,
            place=job.config.space if job.named else None,
            accuracies=job.accuracy,
            formats=formats,
            written=lambda digest: job.run.record(stage="export", unit="written", sha256=digest),
        )
        bar.advance(len(formats), "")


def _is_own(job: Job, directory: Path) -> bool:
    """Whether the directory holds what this run, interrupted before it could say so, wrote there."""
    model = directory / MODEL
    entries = job.run.of_stage("export", "written")
    return bool(entries) and model.is_file() and sha256(model) == entries[-1]["sha256"]
