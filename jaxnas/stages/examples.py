"""Example images for the report: what the chosen policy makes of some training images."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment import PolicyAugment, apply_policy
from jaxnas.report import Augmented
from jaxnas.stages.job import Job

IMAGES = 6
DRAWS = 5


def augmented(job: Job) -> Augmented | None:
    """`DRAWS` draws of each of the first training images; None where no policy was chosen."""
    chosen = [p.name for p in job.policies if p.chosen]
    if job.policy is None or not chosen:
        return None
    augmenter = PolicyAugment.of(job.data)
    levels = jnp.asarray(augmenter.levels(job.data.train.x[:IMAGES]))
    keys = jax.random.split(jax.random.key(job.config.seed), DRAWS)
    fill = jnp.asarray(augmenter.fill)
    draw = jax.jit(apply_policy)
    made = [np.asarray(draw(key, levels, job.policy.policy, fill=fill)) for key in keys]
    whole = np.clip(np.rint(np.stack(made, axis=1)), 0, 255).astype(np.uint8)
    return Augmented(np.asarray(levels, np.uint8), whole, chosen[0])
