"""Small spaces and populations of plain NumPy that the tests of tuners share."""

import numpy as np

from jaxnas.hpo import Space, choice, integer, log_uniform, only_if, uniform

PLAIN = Space.of({"x": uniform(0.0, 1.0), "y": uniform(0.0, 1.0)})
MIXED = Space.of(
    {
        "rate": log_uniform(1e-3, 1.0),
        "kind": choice("sgd", "adam", "rms"),
        "momentum": uniform(0.0, 0.99),
        "layers": integer(1, 6),
        "size": choice(8, 16, 32),
        "nesterov": choice(False, True),
    },
    [only_if("momentum", "kind", "sgd", "rms"), only_if("nesterov", "kind", "sgd")],
    forbidden=[{"kind": "rms", "layers": 6}],
    inactive={"momentum": 0.0},
)


class Climbers:
    """Members that gain `1 - |x - .7| - |y - .2|` a unit where they are trained; written slowly.

    A member's state is its height and the units behind it; its seed is its first height, divided.
    """

    def __init__(self, failing=()):
        self.failing = set(failing)
        self.trained = []

    def init(self, seeds):
        return [(float(seed) / 2**36, 0) for seed in seeds]

    def train(self, state, values, which, units):
        found = list(state)
        for i in np.flatnonzero(which):
            height, behind = state[i]
            x = next(iter(values.values()))[i] if "x" not in values else values["x"][i]
            y = values["y"][i] if "y" in values else 0.2
            found[i] = (height + units * (1 - abs(x - 0.7) - abs(y - 0.2)), behind + units)
        self.trained.append((np.flatnonzero(which).tolist(), units))
        return found

    def evaluate(self, state):
        return np.array([np.nan if i in self.failing else h for i, (h, _) in enumerate(state)])

    def gather(self, state, rows, seeds):
        fresh = self.init(seeds)
        return [fresh[i] if row < 0 else state[row] for i, row in enumerate(rows)]
