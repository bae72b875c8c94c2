"""Training a population as a stage does it: journalled, checkpointed, resumable, with a bar."""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxnas.config import AugmentConfig, FinishConfig, TrainConfig, TuneConfig
from jaxnas.console import Bar
from jaxnas.network import Network
from jaxnas.runs import numbers
from jaxnas.stages.job import Job
from jaxnas.stages.plan import Plan
from jaxnas.training.fidelity import Rung, halving_rungs, stale, stopped_after, survivors
from jaxnas.training.layout import Layout
from jaxnas.training.population import (
    EpochMetrics,
    Population,
    init_population,
    train_population,
)

type TrainingSection = TrainConfig | TuneConfig | AugmentConfig | FinishConfig
"""A section that says how long networks are trained."""

type Curves = list[EpochMetrics]
"""The metrics of each epoch, in order."""


@dataclass(frozen=True)
class Trained:
    """What the training of a population left: metrics by epoch, and the program of each candidate.

    `programs[shape_class]` is the network, which candidates it trained, and their state. `stopped` says
    after how many epochs successive halving stopped a candidate, `int64[N]`; 0: it did not.
    """

    curves: Curves
    stopped: np.ndarray
    programs: dict[int, tuple[Network, np.ndarray, Population]]


def train_resumably(
    job: Job,
    stage: str,
    config: TrainingSection,
    archs: np.ndarray,
    plan: Plan,
    *,
    capacity: int,
    batch: str = "",
) -> Trained:
    """Train `archs: int32[N, D]` as planned, those of one shape class in one program.

    It goes on where the journal says an interrupted run had come to. A stage that trains one `batch`
    after another names each; of a batch that is done the states are not kept and `programs` are empty.
    """
    kinds, networks = _programs(job, config, archs)
    present = np.unique(kinds)
    rows = job.space.rows(archs)
    parts: list[tuple[np.ndarray, Curves]] = []
    programs = {}
    stopped = np.zeros(len(archs), np.int64)
    name = f"{stage} {batch}" if batch else stage
    with job.screen.bar(name, config.epochs * len(present)) as bar:
        for kind in present:
            members = np.flatnonzero(kinds == kind)
            network = networks[int(kind)]
            alone = len(present) == 1 or batch  # batches to come shall find their programs compiled
            places = Layout.default().places(capacity if alone else len(members))
            own = plan._replace(
                hyper=plan.hyper.rows(members).overridden(job.space.hyper(archs[members]))
            )
            program = _Program(job, stage, config, network, rows[members], own, int(kind), batch)
            curves = program.curves
            if not (batch and program.done):
                population = program.train(places, bar)
                programs[int(kind)] = (network, members, population)
            else:
                bar.advance(len(curves), "from the journal")
            if batch:
                job.run.drop_states(program.states, keep=0)
            parts.append((members, curves))
            rungs = _rungs(config, len(members))
            stopped[members] = stopped_after(rungs, _measure(config), curves)
    curves = _joined(parts, len(archs))
    _note_diverged(job, stage, curves, stopped)
    return Trained(curves, stopped, programs)


def _programs(
    job: Job, config: TrainingSection, archs: np.ndarray
) -> tuple[np.ndarray, dict[int, Network]]:
    """The shape class of each architecture and the network of each class.

    Classes whose networks are alike at this size, such as resolutions rounded to the same, are one.
    """
    kinds = job.space.shape_classes(archs)
    first: dict[Network, int] = {}
    for kind in np.unique(kinds).tolist():
        kinds = np.where(kinds == kind, first.setdefault(job.network(config, kind), kind), kinds)
    return kinds, {kind: network for network, kind in first.items()}


@dataclass
class _Program:
    """The candidates of a batch that one compiled program trains, `rows: int32[n, P]`."""

    job: Job
    stage: str
    config: TrainingSection
    network: Network
    rows: np.ndarray
    plan: Plan
    kind: int
    batch: str

    def __post_init__(self) -> None:
        entries = self.job.run.of_stage(self.stage, "epoch")
        which = {"shape_class": self.kind, "batch": self.batch}
        none = {"shape_class": 0, "batch": ""}
        mine = [e for e in entries if all(e.get(k, none[k]) == v for k, v in which.items())]
        self.curves = [_metrics(entry) for entry in mine]
        self.marks = {k: v for k, v in which.items() if k == "batch" and v}
        if self.job.space.programs > 1:
            self.marks["shape_class"] = self.kind
        names = [self.stage, self.batch, str(self.kind) if self.job.space.programs > 1 else ""]
        self.states = "-".join(name for name in names if name)

    @property
    def done(self) -> bool:
        """Whether the journal has every epoch that is to be."""
        return len(self.curves) >= self.config.epochs or stale(self.curves, self.plan.patience)

    def train(self, capacity: int, bar: Bar) -> Population:
        """After an epoch its state is saved, then the epoch is journalled, then the state before is
        removed: whenever the process dies, the last journalled epoch has its state."""
        job, config, network, curves = self.job, self.config, self.network, self.curves
        n = len(self.rows)
        bar.advance(len(curves), "" if self.done else "compiling")
        seeds = np.full(capacity, job.config.seed, np.uint32)
        plan = self.plan
        averages, kind = plan.averages(config.epochs), plan.recipe.optimizer
        population = init_population(network, seeds, self.rows, optimizer=kind, averages=averages)
        if curves:
            job.run.drop_states(self.states, keep=len(curves))
            kept = job.run.restore_state(self.states, len(curves), _rows(population, n))
            population = jax.tree.map(lambda a, b: a.at[:n].set(b), population, kept)
        if self.done:
            return population

        def on_epoch(epoch: int, population: Population, metrics: EpochMetrics) -> None:
            job.run.save_state(self.states, epoch, _rows(population, n))
            entry = {"stage": self.stage, "unit": "epoch", "epoch": epoch, **metrics._asdict()}
            job.run.record(**entry, **self.marks, seconds=job.watch.lap())
            job.run.drop_states(self.states, keep=epoch)
            curves.append(metrics)
            best = np.nanmax(np.append(metrics.val_metric, 0.0))
            bar.advance(1, f"best validation {plan.metric.replace('_', ' ')} {best:.4f}")

        rungs, measure = _rungs(config, n), _measure(config)

        def trained_on() -> np.ndarray:
            alive = survivors(rungs, measure, curves)
            return alive & (not stale(curves, plan.patience))

        return train_population(
            network,
            self.rows,
            plan.hyper,
            job.population_data(network.resolution),
            epochs=config.epochs,
            batch_size=config.batch_size,
            population=population,
            start_epoch=len(curves),
            alive=trained_on() if curves else None,
            recipe=plan.recipe,
            teacher=plan.teacher,
            metric=plan.metric,
            hyper_at=plan.hyper_at,
            survivors=lambda epoch, metrics: trained_on(),
            on_epoch=on_epoch,
        )


def _rungs(config: TrainingSection, n: int) -> tuple[Rung, ...]:
    """Those of one program's candidates: each shape class is halved by itself."""
    eta = config.halving if isinstance(config, TrainConfig) else 0
    return halving_rungs(n, config.epochs, eta=eta) if eta else ()


def _measure(config: TrainingSection) -> str:
    return config.measure if isinstance(config, TrainConfig) else "last_seen"


def _joined(parts: list[tuple[np.ndarray, Curves]], n: int) -> Curves:
    """The metrics of all candidates, epoch by epoch, in the candidates' order."""
    joined = []
    for epoch in range(len(parts[0][1])):
        metrics = EpochMetrics(*(np.empty(n) for _ in EpochMetrics._fields))
        for members, curves in parts:
            for whole, part in zip(metrics, curves[epoch], strict=True):
                whole[members] = part
        joined.append(metrics)
    return joined


@partial(jax.jit, static_argnames="n")
def _rows(population: Population, n: int) -> Population:
    """The first `n` members: one program, as leaf by leaf it took as long as an epoch of a small net."""
    return jax.tree.map(lambda a: a[:n], population)


def _note_diverged(job: Job, stage: str, curves: Curves, stopped: np.ndarray) -> None:
    lost = int((~np.isfinite(curves[-1].train_loss) & (stopped == 0)).sum())
    if lost:
        job.notes.append(
            f"{lost} of {len(curves[-1].train_loss)} trainings diverged in stage {stage} (their loss "
            "stopped being a number) and were frozen; a lower learning rate may help."
        )


def _metrics(entry: dict) -> EpochMetrics:
    return EpochMetrics(*(numbers(entry[name]) for name in EpochMetrics._fields))
