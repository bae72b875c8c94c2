"""Stage 6: the finished network is written for use elsewhere, each file checked against it."""

from pathlib import Path

import jax

from jaxnas.export import export as write
from jaxnas.stages.job import Job


def export(job: Job) -> None:
    """Writes the export directory; one that an interrupted run had written whole is kept."""
    config = job.config.export
    directory = Path(config.dir) if config.dir else job.run.directory / "export"
    if not job.run.of_stage("export", "done"):
        assert job.winner is not None
        assert job.finished is not None
        network, variables = job.finished
        with job.screen.bar("export", len(config.formats)) as bar:
            bar.advance(0, ", ".join(config.formats))
            write(
                directory,
                network,
                jax.tree.map(lambda a: a[0], variables),
                job.winner,
                space=job.space,
                size=job.size(job.config.finish),
                data=job.data,
                place=job.config.space if job.named else None,
                accuracies=job.accuracy,
                formats=config.formats,
            )
            bar.advance(len(config.formats), "")
        job.run.record(stage="export", unit="done", seconds=job.watch.lap())
    job.notes.append(
        f"The network is in {directory}: jaxnas.load({str(directory)!r}) or "
        f"python -m jaxnas.predict {directory} IMAGE..."
    )
