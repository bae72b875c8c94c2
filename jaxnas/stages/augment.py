"""Stage 4: ways to augment training images are searched and compared, by one population."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnas.augment import Policy, PolicyAugment, from_json, get_policy, stack, to_json
from jaxnas.augment.search import SEARCHES, Found, Keeper, Setting
from jaxnas.config import AugmentConfig
from jaxnas.report import ComparedPolicy
from jaxnas.stages.job import Job
from jaxnas.stages.plan import finish_plan, named_policy
from jaxnas.stages.training import train_resumably
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout


def augment(job: Job) -> None:
    """Fills `job.policy` with the best policy by validation metric, and `job.policies` with all compared.

    Searched policies are found first, each journalled; then all are compared by as many copies of the
    winner, trained together from the same weights on the same order of images.
    """
    config: AugmentConfig = job.config.stage("augment")
    found: dict[str, Found | None] = {name: _named(name) for name in config.policies}
    found |= {name: _searched(job, name) for name in config.search or ()}
    names = list(found)
    plain = get_policy("none")

    def policies(epoch: int, hyper: Hyper) -> Hyper:
        now = [way.at(epoch, config.epochs) if way else plain for way in found.values()]
        return hyper._replace(policy=stack(now))

    assert job.winner is not None
    archs = np.repeat(job.winner[None], len(names), axis=0)
    plan = finish_plan(job, len(names), epochs=config.epochs, policy=plain, then=policies)
    trained = train_resumably(
        job,
        "augment",
        config,
        archs,
        plan._replace(patience=0),
        capacity=Layout.default().places(len(names)),
    )
    last = trained.curves[-1]
    merit = np.where(np.isfinite(last.val_metric), last.val_metric, -1.0)
    best = int(np.lexsort((np.nan_to_num(last.val_loss, nan=np.inf), -merit))[0])
    job.policy = found[names[best]]
    job.policies = [
        ComparedPolicy(name, tuple(float(c.val_metric[i]) for c in trained.curves), i == best)
        for i, name in enumerate(names)
    ]
    if job.policy is not None:
        job.run.write_text("policy.json", to_json(job.policy.policy) + "\n")
    job.notes.append(
        f"Of {len(names)} ways to augment training images {names[best]!r} did best in "
        f"{config.epochs} epochs ({merit[best]:.4f})."
    )


def _named(name: str) -> Found | None:
    policy = named_policy(name)
    return None if policy is None else Found(policy)


def _searched(job: Job, name: str) -> Found:
    """What a search finds; from the journal, where it is done."""
    done = [e for e in job.run.of_stage("augment", "found") if e["policy"] == name]
    if done:
        schedule = [from_json(json.dumps(p)) for p in done[-1]["schedule"]]
        return Found(
            from_json(json.dumps(done[-1]["found"])), stack(schedule) if schedule else None
        )
    config: AugmentConfig = job.config.stage("augment")
    assert job.winner is not None
    plan = finish_plan(job, config.members, policy=get_policy("none"))
    hyper = plan.hyper if plan.hyper_at is None else plan.hyper_at(0, plan.hyper)
    network = job.network(config, int(job.space.shape_classes(job.winner[None])[0]))
    keeper = _Keeper(job, name)
    with job.screen.bar(f"augment {name}", config.members * config.epochs) as bar:
        bar.advance(0, "compiling")
        setting = Setting(
            network=network,
            row=job.space.rows(job.winner[None])[0],
            data=job.training_data(network.resolution),
            hyper=hyper,
            recipe=replace(plan.recipe, augmenter=PolicyAugment.of(job.data)),
            members=config.members,
            epochs=config.epochs,
            batch_size=config.batch_size,
            metric=plan.metric,
            seed=job.config.seed,
            advance=bar.advance,
            keeper=keeper,
            beside=get_policy(config.beside),
        )
        found = SEARCHES[name](setting)
    schedule = [] if found.schedule is None else _by_epoch(found.schedule)
    job.run.record(
        stage="augment",
        unit="found",
        policy=name,
        found=json.loads(to_json(found.policy)),
        schedule=[json.loads(to_json(p)) for p in schedule],
        seconds=job.watch.lap(),
    )
    keeper.drop()
    return found


@dataclass
class _Keeper(Keeper):
    """Keeps a search in the journal and the checkpoints of a run."""

    job: Job
    name: str

    def units(self) -> list[dict[str, Any]]:
        return [e for e in self.job.run.of_stage("augment", "search") if e["policy"] == self.name]

    def keep(self, state: Any = None, **figures: Any) -> None:
        run, index = self.job.run, len(self.units()) + 1
        if state is not None:
            run.save_state(self._states, index, state)
        entry = {"stage": "augment", "unit": "search", "policy": self.name, **figures}
        run.record(**entry, seconds=self.job.watch.lap())
        run.drop_states(self._states, keep=index)

    def state(self, like: Any) -> Any:
        index = len(self.units())
        self.job.run.drop_states(self._states, keep=index)
        return self.job.run.restore_state(self._states, index, like)

    def drop(self) -> None:
        """The search is done: no state is needed any more."""
        self.job.run.drop_states(self._states, keep=0)

    @property
    def _states(self) -> str:
        return f"augment-{self.name}"


def _by_epoch(schedule: Policy) -> list[Policy]:
    return [schedule.rows(e) for e in range(len(schedule.weights))]
