"""Parameters and multiply-adds as scores; that they count right is tested with the spaces."""

import jax
import numpy as np
import pytest
from helpers import compilations

from jaxnas.proxies.size import macs, params
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, NONE, SKIP
from jaxnas.spaces import Size

EXECUTORS = [score_per_architecture, score_shared_prefix]


@pytest.mark.parametrize("execute", EXECUTORS)
def test_they_compute_nothing(space, tiny, variables, batch, execute):
    archs = space.all()[:100]
    with compilations() as compiled:
        scores = execute(tiny, variables, archs, batch, [macs, params])
    assert compiled == []
    assert list(scores) == ["macs", "params"]
    np.testing.assert_array_equal(scores["params"], tiny.count(archs).params)
    np.testing.assert_array_equal(scores["macs"], tiny.count(archs).macs)


@pytest.mark.parametrize("execute", EXECUTORS)
def test_neighbouring_large_counts_stay_apart(space, batch, execute):
    # Beyond 2^24 float32 has no room for odd numbers.
    network = space.network(Size(channels=11, cells=(1,), resolution=128), classes=3)
    archs = np.array([[NONE, NONE, NONE, CONV3, NONE, NONE]], np.int32)
    scores = execute(network, network.init(jax.random.key(0)), archs, batch, [macs])["macs"]
    expected = 128 * 128 * (27 * 11 + 9 * 11**2) + 11 * 3
    assert expected > 2**24
    assert expected % 2 == 1
    assert scores.tolist() == [expected]


def test_only_operations_that_reach_the_output_count(tiny):
    archs = np.array(
        [
            [NONE, NONE, NONE, SKIP, NONE, NONE],
            [CONV3, NONE, NONE, SKIP, NONE, NONE],  # node 1 leads nowhere
            [NONE, NONE, CONV1, SKIP, NONE, CONV3],  # node 1 gets nothing
            [NONE, NONE, NONE, CONV1, NONE, NONE],
            [NONE, NONE, NONE, CONV3, NONE, NONE],
        ],
        np.int32,
    )
    found = params.count(tiny, archs)
    assert found[0] == found[1] == found[2]
    # A 4x4 and a 3x3x4x4 kernel, with batch norm's scale and shift.
    assert (found[3:] - found[0]).tolist() == [16 + 8, 144 + 8]
    found = macs.count(tiny, archs)
    assert (found[3:] - found[0]).tolist() == [16 * 64, 144 * 64]


def test_more_is_better():
    assert params.sign == macs.sign == 1
