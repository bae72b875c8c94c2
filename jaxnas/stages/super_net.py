"""Stage 2 with one set of weights: a super-net is trained, and its paths are candidates."""

import jax
import numpy as np

from jaxnas.config import TrainConfig
from jaxnas.console import Bar
from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.report import TrainedCandidate
from jaxnas.runs import numbers
from jaxnas.stages.job import Job
from jaxnas.stages.limits import keeping, known_costs, limits
from jaxnas.supernet.differentiable.search import SearchEpoch, begin, get_strategy, search
from jaxnas.supernet.inherited import Inherited, calibration_batches, evaluate_inherited
from jaxnas.supernet.shared import SuperNet
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import SuperNetMetrics, get_trainer, init_supernet, train_supernet
from jaxnas.training.hyper import Hyper

CALIBRATION = 512
"""Training images that each path's batch norm statistics are estimated on."""
COLLAPSED = 0.5
"""A share of skip connections that is worth a word of warning."""


def train_shared(job: Job, archs: np.ndarray, roles: list[str]) -> None:
    """Train a super-net, then evaluate `archs`, and others that the trainer proposes, by its weights.

    Of the proposals and the `archs` whose role is candidate the best are the job's candidates, and the
    best of all is its winner.
    """
    config, trainer = job.config.train, get_trainer(job.config.train.trainer)
    groups = _networks(job)
    for kinds in groups.values():
        trainer.check(Source(job.space, kinds))
    key = jax.random.fold_in(jax.random.key(job.config.seed), config.epochs)
    parts: list[tuple[np.ndarray, list[str], Inherited]] = []
    for network, kinds in groups.items():
        source, name = Source(job.space, kinds), _name(groups, kinds)
        state = _trained_super_net(job, name, network, kinds)
        sample = -(-config.sample // len(groups))
        proposed = trainer.propose(source, state.policy, jax.random.fold_in(key, kinds[0]), sample)
        proposed = proposed[keeping(job, proposed)]
        mine = np.isin(job.space.shape_classes(archs), kinds)
        rows = job.space.pruned(np.concatenate([archs[mine], proposed]))
        own = [r for r, m in zip(roles, mine, strict=True) if m] + ["candidate"] * len(proposed)
        parts.append((rows, own, _inherited(job, name, network, state.variables, rows)))
    archs, roles = np.concatenate([p[0] for p in parts]), [r for p in parts for r in p[1]]
    found = Inherited(*(np.concatenate(v) for v in zip(*(p[2] for p in parts), strict=True)))
    order = np.lexsort((found.loss, -found.accuracy))
    best = _distinct([int(i) for i in order if roles[i] == "candidate"], archs)[: config.top]
    shown = best + [i for i, role in enumerate(roles) if role != "candidate"]
    _conclude(job, archs[shown], [roles[i] for i in shown], found.accuracy[shown])
    job.notes.append(
        f"Accuracies of stage train are by weights inherited from one super-net ({config.trainer}, "
        f"{config.epochs} epochs), of {len(archs):,} architectures evaluated: they compare "
        "architectures and say little of what one reaches when it is trained by itself."
    )


def search_by_gradient(job: Job) -> None:
    """Let architecture parameters and shared weights learn together; what is found is the winner."""
    config, groups = job.config.train, _networks(job)
    if limits(job):
        raise InputError(
            f"{config.trainer} finds one architecture by gradient, whatever it costs: it cannot keep "
            "limits; expected --trainer population or spos."
        )
    if len(groups) > 1:
        raise InputError(
            f"{config.trainer} searches one network, but the shape classes of {job.space.name} need "
            f"{len(groups)}; expected --trainer population or spos, or a size at which they are one."
        )
    (network,) = groups
    strategy = get_strategy(config.trainer)
    data = job.training_data(network.resolution)
    batch_size = min(config.batch_size, len(data.x_val))
    if batch_size < config.batch_size:
        job.notes.append(
            f"{config.trainer} took batches of {batch_size} images: there are no more for validation, "
            "which its architecture parameters learn from."
        )
    done = job.run.of_stage("train", "epoch")
    epochs: list[tuple[float, ...]] = [
        (e["train_loss"], e["val_loss"], e["entropy"], e["share_of_skips"]) for e in done
    ]
    state = None
    if done:
        job.run.drop_states("train", keep=len(done))
        fresh = begin(strategy, job.space, network, seed=job.config.seed)
        state = job.run.restore_state("train", len(done), fresh)
    last = state
    with job.screen.bar("train", config.epochs) as bar:
        bar.advance(len(done), "compiling" if len(done) < config.epochs else "")

        def on_epoch(state, record: SearchEpoch) -> None:
            nonlocal last
            last = state  # the next epoch uses it up, and gives another
            said = {
                "train_loss": record.train_loss,
                "val_loss": record.val_loss,
                "entropy": record.entropy,
                "share_of_skips": record.share_of_skips,
            }
            arch = job.space.to_string(record.arch)
            _keep_epoch(job, "train", record.epoch, state, {**said, "arch": arch})
            epochs.append(tuple(said.values()))
            bar.advance(1, f"skip connections {record.share_of_skips:.0%}")

        arch, _ = search(
            strategy,
            job.space,
            network,
            data,
            _hyper(config),
            epochs=config.epochs,
            batch_size=batch_size,
            seed=job.config.seed,
            state=state,
            on_epoch=on_epoch,
        )
    names = ("training loss", "validation loss", "entropy of a choice", "share of skips")
    job.curves = {n: tuple(e[i] for e in epochs) for i, n in enumerate(names)}
    skips = epochs[-1][3]
    if skips > COLLAPSED:
        job.notes.append(
            f"{config.trainer} ended with {skips:.0%} skip connections: a collapse that shared weights "
            "are known for (arXiv:1909.09656); fewer epochs or another trainer may find better."
        )
    assert last is not None
    archs = job.space.pruned(arch[None])
    found = _inherited(job, "train", network, last.variables, archs)
    _conclude(job, archs, ["candidate"], found.accuracy)


def _networks(job: Job) -> dict[Network, tuple[int, ...]]:
    """The networks that the space has at this size, and the shape classes that share each."""
    groups: dict[Network, tuple[int, ...]] = {}
    for kind in range(job.space.programs):
        network = job.network(job.config.train, kind)
        groups[network] = (*groups.get(network, ()), kind)
    return groups


def _name(groups: dict[Network, tuple[int, ...]], kinds: tuple[int, ...]) -> str:
    """What a super-net's states and journal entries go by."""
    return "train" if len(groups) == 1 else f"train-{kinds[0]}"


def _hyper(config: TrainConfig) -> Hyper:
    return Hyper.constant(1, learning_rate=config.learning_rate, weight_decay=config.weight_decay)


def _trained_super_net(job: Job, name: str, network: Network, kinds: tuple[int, ...]) -> SuperNet:
    config = job.config.train
    done = [e for e in job.run.of_stage("train", "epoch") if e["super_net"] == name]
    losses = [e["train_loss"] for e in done]
    state = init_supernet(
        config.trainer, job.space, network, seed=job.config.seed, shape_classes=kinds
    )
    if done:
        job.run.drop_states(name, keep=len(done))
        state = job.run.restore_state(name, len(done), state)
    with job.screen.bar(name, config.epochs) as bar:
        bar.advance(len(done), "compiling" if len(done) < config.epochs else "")

        def on_epoch(epoch: int, state: SuperNet, metrics: SuperNetMetrics) -> None:
            said = {"train_loss": metrics.train_loss, **metrics.figures}
            _keep_epoch(job, name, epoch, state, said)
            losses.append(metrics.train_loss)
            bar.advance(1, f"training loss {metrics.train_loss:.4f}")

        state = train_supernet(
            config.trainer,
            job.space,
            network,
            job.training_data(network.resolution),
            _hyper(config),
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=job.config.seed,
            shape_classes=kinds,
            state=state,
            start_epoch=len(done),
            on_epoch=on_epoch,
        )
    suffix = "" if name == "train" else f", {name}"
    job.curves |= {f"training loss{suffix}": tuple(losses)}
    return state


def _keep_epoch(job: Job, name: str, epoch: int, state: object, said: dict) -> None:
    """The state is saved, then the epoch is journalled, then the state before is removed."""
    job.run.save_state(name, epoch, state)
    entry = {"stage": "train", "unit": "epoch", "super_net": name, "epoch": epoch, **said}
    job.run.record(**entry, seconds=job.watch.lap())
    job.run.drop_states(name, keep=epoch)


def _inherited(
    job: Job, name: str, network: Network, variables: Variables, archs: np.ndarray
) -> Inherited:
    """Loss and accuracy of `archs` by inherited weights; chunks that were finished are not done again."""
    data = job.training_data(network.resolution)
    images = min(CALIBRATION, len(data.x))
    batches = calibration_batches(
        data.x, images=images, batch_size=min(images, 256), seed=job.config.seed
    )
    parts = [e for e in job.run.of_stage("train", "inherited") if e["super_net"] == name]
    finished = None
    if parts:
        joined = {k: np.concatenate([numbers(p[k]) for p in parts]) for k in Inherited._fields}
        finished = Inherited(**joined)
    rows = job.space.rows(archs)
    with job.screen.bar("inherited", len(np.unique(rows, axis=0))) as bar:
        bar.advance(0 if finished is None else len(finished.loss), "compiling")

        def on_chunk(done: int, of: int, part: Inherited) -> None:
            _record_part(job, name, bar, part)

        return evaluate_inherited(
            network,
            variables,
            rows,
            data.x_val,
            data.y_val,
            calibration=batches,
            finished=finished,
            on_chunk=on_chunk,
        )


def _record_part(job: Job, name: str, bar: Bar, part: Inherited) -> None:
    entry = {"stage": "train", "unit": "inherited", "super_net": name, **part._asdict()}
    job.run.record(**entry, seconds=job.watch.lap())
    bar.advance(len(part.loss), "architectures by inherited weights")


def _distinct(order: list[int], archs: np.ndarray) -> list[int]:
    """The first of each distinct row, in order."""
    seen: set[bytes] = set()
    return [i for i in order if not (archs[i].tobytes() in seen or seen.add(archs[i].tobytes()))]


def _conclude(job: Job, archs: np.ndarray, roles: list[str], accuracy: np.ndarray) -> None:
    """The first of `archs` is the winner; each has one accuracy, at the end of the super-net."""
    config = job.config.train
    counts, costs = job.count(config, archs), known_costs(job, archs)
    spent = job.run.seconds()["train"]["run"] / len(archs)
    job.trained += [
        TrainedCandidate(
            arch=job.space.to_string(arch),
            role=roles[i],
            params=int(counts.params[i]),
            macs=int(counts.macs[i]),
            seconds=spent,
            epochs=(config.epochs,),
            train_loss=(float("nan"),),
            val_accuracy=(float(accuracy[i]),),
            costs=costs[i],
        )
        for i, arch in enumerate(archs)
    ]
    job.winner, job.accuracy = archs[0], {"val_accuracy": float(accuracy[0])}
