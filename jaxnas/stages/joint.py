"""Stage 2 by one run of everything: architecture, hyper-parameters, policy and weights by gradient."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment import PolicyAugment, to_json
from jaxnas.config import TrainConfig
from jaxnas.errors import InputError
from jaxnas.joint import JointEpoch, JointState, begin, search
from jaxnas.network import Network
from jaxnas.report import TrainedCandidate
from jaxnas.sections import JOINT
from jaxnas.stages.candidates import win
from jaxnas.stages.job import Finished, Job
from jaxnas.stages.limits import known_costs, limits
from jaxnas.stages.plan import objective
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import judge

CURVES = {
    "training loss": "train_loss",
    "validation loss": "val_loss",
    "entropy of a choice": "entropy",
    "share of skips": "share_of_skips",
    "learning rate at its peak": "learning_rate",
    "weight decay": "weight_decay",
    "label smoothing": "label_smoothing",
}
"""What the report draws of it, by what an epoch reports."""


def train_jointly(job: Job) -> None:
    """Fills the winner and `job.finished`: nothing is trained again, stage finish evaluates it.

    Each epoch is journalled with what was arrived at, its state saved before.
    """
    config, network = job.config.train, _network(job)
    data = job.training_data(network.resolution)
    hyper = Hyper.constant(1, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    done = job.run.of_stage("train", "epoch")
    start = partial(
        begin,
        job.space,
        network,
        seed=job.config.seed,
        hyper=hyper,
        augmenter=PolicyAugment.of(job.data),
    )
    state = None
    if done:
        job.run.drop_states("train", keep=len(done))
        state = job.run.restore_state("train", len(done), start())
    with job.screen.bar("train", config.epochs) as bar:
        bar.advance(len(done), "compiling" if len(done) < config.epochs else "")

        def on_epoch(state: JointState, record: JointEpoch) -> None:
            job.run.save_state("train", record.epoch, state)
            said = {name: getattr(record, name) for name in (*CURVES.values(), "val_accuracy")}
            entry = {"stage": "train", "unit": "epoch", "epoch": record.epoch, **said}
            arch = job.space.to_string(record.arch)
            job.run.record(**entry, arch=arch, seconds=job.watch.lap())
            job.run.drop_states("train", keep=record.epoch)
            bar.advance(1, f"validation accuracy {record.val_accuracy:.4f}")

        found = search(
            job.space,
            network,
            data,
            epochs=config.epochs,
            batch_size=min(config.batch_size, len(data.x_val)),
            seed=job.config.seed,
            hyper=hyper,
            augmenter=PolicyAugment.of(job.data),
            objective=objective(job),
            state=state,
            on_epoch=on_epoch,
        )
    variables = jax.tree.map(lambda a: jnp.asarray(a)[None], found.variables)
    metric = job.config.objective.metric
    _, _, judged = judge(network, variables, found.row[None], data, metric=metric)
    _conclude(job, found.arch, float(judged[0]))
    if found.policy is not None:
        job.run.write_text("policy.json", to_json(found.policy) + "\n")
    job.finished = Finished(network, variables, job.size(config))


def _network(job: Job) -> Network:
    if limits(job):
        raise InputError(
            f"{JOINT} finds one architecture by gradient, whatever it costs: it cannot keep limits; "
            "expected --trainer population or spos."
        )
    if job.space.programs > 1:
        raise InputError(
            f"{JOINT} searches one network, but {job.space.name} has {job.space.programs} shape "
            "classes; expected --trainer population or spos."
        )
    return job.network(job.config.train)


def _conclude(job: Job, arch: np.ndarray, metric: float) -> None:
    config: TrainConfig = job.config.train
    entries = job.run.of_stage("train", "epoch")
    job.curves = {name: tuple(float(e[key]) for e in entries) for name, key in CURVES.items()}
    archs = job.space.pruned(arch[None])
    counts = job.count(config, archs)
    accuracy = [float(e["val_accuracy"]) for e in entries]
    job.trained.append(
        TrainedCandidate(
            arch=job.space.to_string(archs[0]),
            role="winner",
            params=int(counts.params[0]),
            macs=int(counts.macs[0]),
            seconds=job.run.seconds()["train"]["run"],
            epochs=tuple(range(1, len(entries) + 1)),
            train_loss=tuple(float(e["train_loss"]) for e in entries),
            val_accuracy=tuple(a if math.isfinite(a) else math.nan for a in accuracy),
            costs=known_costs(job, archs)[0],
        )
    )
    win(job, archs[0], accuracy[-1], metric)
