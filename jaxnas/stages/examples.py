"""Example images for the report: what the policy of the last training makes of some images."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment import PolicyAugment, apply_policy
from jaxnas.report import Augmented
from jaxnas.stages.job import Job
from jaxnas.stages.plan import finish_policy

IMAGES = 6
DRAWS = 5


def augmented(job: Job) -> Augmented | None:
    """`DRAWS` draws of each of the first training images; None where there is no policy."""
    name, found = policy_name(job), finish_policy(job)
    if name is None or found is None:
        return None
    augmenter = PolicyAugment.of(job.data)
    levels = jnp.asarray(augmenter.levels(job.data.train.x[:IMAGES]))
    keys = jax.random.split(jax.random.key(job.config.seed), DRAWS)
    fill = jnp.asarray(augmenter.fill)
    draw = jax.jit(apply_policy)
    made = [np.asarray(draw(key, levels, found.policy, fill=fill)) for key in keys]
    whole = np.clip(np.rint(np.stack(made, axis=1)), 0, 255).astype(np.uint8)
    return Augmented(np.asarray(levels, np.uint8), whole, name)


def policy_name(job: Job) -> str | None:
    """What stage augment chose, or what is configured for stage finish; None: neither."""
    chosen = [p.name for p in job.policies if p.chosen]
    asked = job.config.finish.augment if "finish" in job.config.active_stages else None
    return chosen[0] if chosen else asked
