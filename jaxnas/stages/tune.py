"""Stage 3: the winner's hyper-parameters are searched, the trials being members of one population."""

import uuid
from dataclasses import replace
from typing import Any

import numpy as np

from jaxnas.config import TuneConfig
from jaxnas.errors import InputError
from jaxnas.hpo import Done, Space, Tuner, get_tuner, log_uniform, run, uniform
from jaxnas.hpo.study import StudyTuner
from jaxnas.hpo.training_trials import Progress, TrainingTrials, with_values
from jaxnas.report import TunedMember
from jaxnas.runs import numbers
from jaxnas.stages.candidates import merit
from jaxnas.stages.job import Job
from jaxnas.stages.plan import configured, finish_plan, untuned
from jaxnas.stages.training import train_resumably
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout

RATES = {"sgd": (0.01, 0.5), "adamw": (3e-4, 1e-2)}
"""Learning rates that are searched, by optimizer."""


def tune(job: Job) -> None:
    """Fills `job.tuned`, the values by unit of the best member's line or what is configured, and
    `job.trials`.

    Each segment of the tuner is journalled with the fitness it led to, its state saved before; a run
    that is resumed tells the tuner again what the journal has, and goes on.
    """
    config = job.config.tune
    tuner, space, trials = tuner_of(job), space_of(job), _trials(job)
    budget = config.budget or config.members * config.epochs
    entries = job.run.of_stage("tune", "segment")
    # The journal alone, as a study that several runs share may have another run of the same seed.
    told = [numbers(e["fitness"]) for e in entries]
    asked = [np.array([numbers(row) for row in e["hyper"]]) for e in entries]
    with job.screen.bar("tune", budget) as bar:
        spent = sum(e["cost"] for e in entries)
        bar.advance(spent, "compiling")

        def on_segment(done: Done) -> None:
            job.run.save_state("tune", done.index + 1, trials.saved(done.state))
            job.run.record(
                stage="tune",
                unit="segment",
                hyper=done.segment.hyper,
                fitness=done.fitness,
                cost=done.segment.cost,
                seconds=job.watch.lap(),
            )
            job.run.drop_states("tune", keep=done.index + 1)
            best = np.nanmax(np.append(done.fitness, 0.0))
            bar.advance(done.segment.cost, f"best validation {best:.4f}")

        result = run(
            tuner,
            trials,
            space,
            n=config.members,
            units=config.epochs,
            budget=budget,
            seed=job.config.seed,
            first=_first(job, space),
            told=told,
            asked=asked,
            population=_restored(job, trials, len(entries)),
            on_segment=on_segment,
        )
    schedule = result.schedule
    job.run.write_text("schedule.json", schedule.to_json() + "\n")
    job.tuned = schedule.values()
    job.trials = _members(schedule)
    said = ", ".join(f"{k} {_said(v)}" for k, v in job.tuned.items())
    job.notes.append(
        f"Tuner {config.tuner} trained {config.members} members for {result.spent} epochs in all; "
        f"the best reached {result.fitness:.4f} with {said}."
    )
    _confirm(job, job.tuned)


def _confirm(job: Job, tuned: dict[str, np.ndarray]) -> None:
    """Keeps what was found only if it is better than what stage finish takes without, in a longer
    training of both.

    Both begin with the same weights and see the same images in the same order.
    """
    config: TuneConfig = job.config.stage("tune")
    epochs = config.confirm or 0
    if not epochs:
        return
    assert job.winner is not None
    usual = untuned(job, 1)._asdict()
    plain = {name: np.asarray(usual[name], np.float32) for name in tuned}

    def at(epoch: int, hyper: Hyper) -> Hyper:
        both = {k: np.append(getattr(hyper, k)[:1], v).astype(np.float32) for k, v in plain.items()}
        return hyper._replace(**both)

    trained = train_resumably(
        job,
        "tune",
        replace(config, epochs=epochs),
        np.repeat(job.winner[None], 2, axis=0),
        finish_plan(job, 2, epochs=epochs, then=at)._replace(patience=0),
        capacity=Layout.default().places(2),
        batch="confirm",
    )
    found, own = (merit(trained.curves, i) for i in range(2))
    kept = "it is taken" if found > own else "the latter is taken"
    job.tuned = tuned if found > own else plain
    job.notes.append(
        f"Trained for {epochs} epochs, what was tuned reached {found[0]:.4f} and what is configured "
        f"{own[0]:.4f}: {kept}."
    )


def tuner_of(job: Job) -> Tuner:
    """The configured tuner, its study in the run directory if it keeps one and no place is named.

    Raises:
        InputError: a place for the study of a tuner that keeps none.
    """
    tuner = get_tuner(job.config.tune.tuner)
    asked = job.config.tune.storage
    if not isinstance(tuner, StudyTuner):
        if asked is not None:
            raise InputError(f"tune.storage is {asked!r}, but tuner {tuner.name} keeps no study.")
        return tuner
    place = asked or tuner.storage
    if not place:
        return replace(tuner, storage=str(job.run.directory / "tune.sqlite3") if job.run else "")
    return replace(tuner, storage=place, run=tuner.run or _run_id(job))


def _run_id(job: Job) -> str:
    """What this run's trials go by in a study that others share, the same when it is resumed."""
    if not job.run:
        return ""
    if not job.run.of_stage("tune", "study"):
        job.run.record(stage="tune", unit="study", run=uuid.uuid4().hex)
    return job.run.of_stage("tune", "study")[0]["run"]


def check_study(job: Job) -> None:
    """Refuse, before any stage has run, a study that cannot be opened or belongs to another space."""
    tuner, space = tuner_of(job), space_of(job)
    if isinstance(tuner, StudyTuner) and tuner.storage:
        tuner.check(space)


def space_of(job: Job) -> Space:
    """The configured hyper-parameters, or those that matter most.

    Raises:
        InputError: a name that is no hyper-parameter of training.
    """
    config = job.config
    if config.tune.space is not None:
        space = Space.read(config.tune.space)
        base = configured(config.finish, 1)
        with_values({name: np.zeros(1) for name in space.names}, base)  # refuses other names
        return space
    return usual_space(config.finish.optimizer)


def usual_space(optimizer: str) -> Space:
    """Learning rate, weight decay, label smoothing and momentum, in the ranges that are usual."""
    return Space.of(
        {
            "learning_rate": log_uniform(*RATES[optimizer]),
            "weight_decay": log_uniform(1e-5, 5e-3),
            "label_smoothing": uniform(0.0, 0.2),
            "momentum": uniform(0.8, 0.98),
        }
    )


def _first(job: Job, space: Space) -> np.ndarray | None:
    """What stage finish would take, where the space has it: no search should end below it."""
    own = untuned(job, 1)
    # The shortest decimal that is this float32: 0.01 is in a range that begins there.
    values = {name: float(str(np.float32(getattr(own, name)[0]))) for name in space.names}
    try:
        row = space.encode([values])
    except InputError as error:
        job.notes.append(f"What is configured is not among the trials of stage tune: {error}")
        return None
    return row if space.allowed(row).all() else None


def _trials(job: Job) -> TrainingTrials:
    config = job.config.tune
    assert job.winner is not None
    archs = np.repeat(job.winner[None], config.members, axis=0)
    plan = finish_plan(job, config.members)
    network = job.network(config, int(job.space.shape_classes(job.winner[None])[0]))
    return TrainingTrials(
        network,
        job.space.rows(archs),
        job.population_data(network.resolution),
        plan.hyper,
        config.epochs,
        config.batch_size,
        recipe=plan.recipe,
        teacher=plan.teacher,
        metric=plan.metric,
        averages="ema" in space_of(job).names,
    )


def _restored(job: Job, trials: TrainingTrials, index: int) -> Progress | None:
    if not index:
        return None
    job.run.drop_states("tune", keep=index)
    return trials.restored(lambda like: job.run.restore_state("tune", index, like))


def _members(schedule: Any) -> list[TunedMember]:
    """Each member's line of values and fitness for the report, segment by segment."""
    found = []
    names = schedule.space.names
    at = np.zeros(len(schedule.events[0].copy), int)
    for event in schedule.events:
        values = schedule.space.values(event.hyper)
        for i in np.flatnonzero(event.which):
            begun = 0 if event.copy[i] < 0 else at[event.copy[i]]
            copied = int(event.copy[i])
            found.append(
                TunedMember(
                    member=int(i),
                    start=int(begun),
                    units=int(event.units),
                    copied=copied if copied not in (i, -1) else -1,
                    values={k: float(values[k][i]) for k in names},
                    fitness=float(event.fitness[i]),
                )
            )
        ends = np.where(event.copy < 0, 0, at[event.copy]) + event.units * event.which
        at = ends.astype(int)
    return found


def _said(values: np.ndarray) -> str:
    first, last = float(values[0]), float(values[-1])
    return f"{first:.3g}" if np.all(values == values[0]) else f"{first:.3g} to {last:.3g}"
