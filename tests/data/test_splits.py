import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxnas.data.splits import part_sizes, stratified

NAMES = ("ant", "bee", "cat", "dog")
fractions = st.lists(st.floats(0.05, 0.4), min_size=1, max_size=2)
class_sizes = st.lists(st.integers(0, 40).filter(lambda n: n == 0 or n > 2), min_size=4, max_size=4)


def labels_of(sizes: list[int], seed: int) -> np.ndarray:
    y = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(y)


@given(class_sizes, fractions, st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_complete_and_stratified(sizes, shares, seed):
    assume(sum(sizes) > 0)
    y = labels_of(sizes, 0)
    parts = stratified(y, shares, seed=seed, class_names=NAMES)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    for label, size in enumerate(sizes):
        counts = [int((y[part] == label).sum()) for part in parts]
        assert min(counts) >= (1 if size else 0)
        for count, share in zip(counts[1:], shares, strict=True):
            assert abs(count - size * share) <= 1


@given(class_sizes, fractions, st.integers(0, 2**32 - 1))
def test_equal_seeds_give_equal_splits(sizes, shares, seed):
    assume(sum(sizes) > 0)
    y = labels_of(sizes, 1)
    once = stratified(y, shares, seed=seed, class_names=NAMES)
    again = stratified(y.astype(np.int16), tuple(shares), seed=seed, class_names=NAMES)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_seeds_give_different_splits():
    y = np.repeat(np.arange(4), 20)
    a = stratified(y, [0.2, 0.2], seed=0, class_names=NAMES)
    b = stratified(y, [0.2, 0.2], seed=1, class_names=NAMES)
    assert set(a[1]) != set(b[1])
    assert set(a[2]) != set(b[2])


def test_the_split_of_a_seed_never_changes():
    """Recorded: a finished run's split must be found again by later versions."""
    y = np.array([0, 1] * 5)
    parts = stratified(y, [0.2, 0.2], seed=7, class_names=NAMES)
    assert [part.tolist() for part in parts] == [[2, 9, 7, 3, 6, 4], [8, 5], [0, 1]]


def test_a_prefix_of_sorted_data_mixes_the_classes():
    y = np.repeat(np.arange(4), 50)
    train = stratified(y, [0.2], seed=0, class_names=NAMES)[0]
    assert set(y[train[:40]]) == {0, 1, 2, 3}


@given(st.integers(3, 200), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_every_part_gets_an_example(n, a, b):
    assume(a + b < 0.999)
    sizes = part_sizes(n, [a, b])
    assert sizes.min() >= 1
    assert sizes.sum() < n


def test_a_class_too_small_to_split_is_named(refused):
    y = np.array([0] * 9 + [1] * 2 + [2] * 9 + [3] * 1)
    with refused("'bee' has 2", "'dog' has 1", "at least 3"):
        stratified(y, [0.2, 0.2], seed=0, class_names=NAMES)


def test_two_examples_are_enough_for_two_parts(refused):
    y = np.array([0, 0, 1, 1])
    train, val = stratified(y, [0.2], seed=0, class_names=NAMES)
    assert sorted(y[train]) == sorted(y[val]) == [0, 1]
    with refused("'cat' has 1"):
        stratified(np.array([0, 0, 2]), [0.2], seed=0, class_names=NAMES)


def test_many_small_classes_are_counted_not_listed(refused):
    names = [f"class{k}" for k in range(20)]
    with refused("'class2' has 1 and 17 more classes"):
        stratified(np.arange(20), [0.5], seed=0, class_names=names)
