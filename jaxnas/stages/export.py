"""Stage 6: the finished network is written for use elsewhere, each file checked against it."""

import shutil
from pathlib import Path

import jax

from jaxnas.export import export as write
from jaxnas.runs import check_free
from jaxnas.stages.job import Job


def place(job: Job) -> Path:
    """The export directory."""
    asked = job.config.export.dir
    return Path(asked) if asked else job.run.directory / "export"


def export(job: Job) -> None:
    """Writes the export directory, whole or not at all; one that an interrupted run wrote is made again.

    Raises:
        InputError: the directory is in use, or a file of it answers otherwise than the network.
    """
    directory = place(job)
    if not job.run.of_stage("export", "done"):
        assert job.winner is not None
        assert job.finished is not None
        network, variables, size = job.finished
        formats = job.config.export.formats
        if not job.run.of_stage("export", "begun"):
            check_free(directory, "--export.dir")
            job.run.record(stage="export", unit="begun")
        elif (directory / "model.json").is_file():
            shutil.rmtree(directory)  # nobody else's: it was free when this run began to write
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
            )
            bar.advance(len(formats), "")
        job.run.record(stage="export", unit="done", seconds=job.watch.lap())
    job.notes.append(
        f"The network is in {directory}: jaxnas.load({str(directory)!r}), or "
        f"python -m jaxnas.predict {directory} IMAGE..."
    )
