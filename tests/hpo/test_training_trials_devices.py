"""Networks as members, dealt out over simulated devices: as on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from test_training_trials import ALL, BASE, DATA, EPOCHS, ROWS, SEEDS, VALUES

from jaxnas.hpo.training_trials import TrainingTrials

OVER_DEVICES = """
import json
import sys

sys.path[:0] = sys.argv[1:]

import numpy as np
from test_training_trials import ALL, BASE, DATA, EPOCHS, ROWS, SEEDS, VALUES

from jaxnas.backend import enable_compilation_cache
from jaxnas.hpo.training_trials import TrainingTrials
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size

enable_compilation_cache()
network = NASBench201().network(Size(channels=4, cells=(1,), resolution=8), classes=3)
heard = []
trials = TrainingTrials(
    network, ROWS, DATA, BASE, EPOCHS, 4, metric="auc", on_epoch=lambda l: heard.append(l.tolist())
)
state = trials.train(trials.init(SEEDS), VALUES, ALL, 1)
state = trials.gather(state, np.array([1, -1, 2]), SEEDS)
state = trials.train(state, VALUES, ALL, 1)
devices = sorted(s.device.id for s in state.population.seeds.addressable_shards)
result = {
    "capacity": trials.capacity,
    "devices": devices,
    "epochs": state.epochs.tolist(),
    "losses": heard,
    "fitness": trials.evaluate(state).tolist(),
}
print(json.dumps(result))
"""


def test_over_two_devices_as_on_one(tiny):
    """Three members have four places there; copied and begun anew between two segments."""
    here = Path(__file__).parent
    flags = "--xla_force_host_platform_device_count=2"
    program = [sys.executable, "-W", "error", "-c", OVER_DEVICES, str(here), str(here.parent)]
    found = subprocess.run(
        program,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout.splitlines()[-1])
    heard = []
    trials = TrainingTrials(tiny, ROWS, DATA, BASE, EPOCHS, 4, metric="auc", on_epoch=heard.append)
    state = trials.train(trials.init(SEEDS), VALUES, ALL, 1)
    state = trials.gather(state, np.array([1, -1, 2]), SEEDS)
    state = trials.train(state, VALUES, ALL, 1)
    assert (result["capacity"], trials.capacity) == (4, 3)
    assert result["devices"] == [0, 1]
    assert result["epochs"] == state.epochs.tolist() == [2, 1, 2]
    np.testing.assert_allclose(result["losses"], heard, rtol=1e-3)
    np.testing.assert_allclose(result["fitness"], trials.evaluate(state), atol=0.02)
