"""What stages tune, augment and finish would leave, made up from formulas."""

import numpy as np
from sklearn.datasets import load_digits

from jaxnas.report import Augmented, ComparedPolicy, Judged, TunedMember

MEMBERS, SEGMENTS, UNITS = 8, 6, 2


def demo_trials(seed: int = 0) -> tuple[TunedMember, ...]:
    """Population based training: after each segment the two worst copy the two best; one diverges."""
    rng = np.random.default_rng(seed)
    rates = 10.0 ** rng.uniform(-3, 0, MEMBERS)
    smoothing = rng.uniform(0, 0.2, MEMBERS)
    merit, copied = np.full(MEMBERS, 0.1), np.full(MEMBERS, -1)
    found = []
    for segment in range(SEGMENTS):
        gain = np.exp(-((np.log10(rates) + 1.2) ** 2)) * (1 - smoothing)
        merit = merit + (0.97 - merit) * (0.15 + 0.3 * gain) + rng.normal(0, 0.01, MEMBERS)
        if segment == 1:
            merit[3] = np.nan
        found += [
            TunedMember(
                member=i,
                start=segment * UNITS,
                units=UNITS,
                copied=int(copied[i]),
                values={"learning_rate": float(rates[i]), "label_smoothing": float(smoothing[i])},
                fitness=float(merit[i]),
            )
            for i in range(MEMBERS)
        ]
        order = np.argsort(np.nan_to_num(merit, nan=-1.0))
        copied = np.full(MEMBERS, -1)
        copied[order[:2]] = order[-2:]
        for i in order[:2]:
            merit[i] = merit[copied[i]]
            rates[i] = rates[copied[i]] * rng.choice([0.8, 1.2])
            smoothing[i] = smoothing[copied[i]] * rng.choice([0.8, 1.2])
    return tuple(found)


def demo_schedule(trials: tuple[TunedMember, ...]) -> dict[str, list[float]]:
    """The values of the best line by epoch, found by walking back from the best end."""
    at = max(range(len(trials)), key=lambda k: np.nan_to_num(trials[k].fitness))
    line = []
    while True:
        t = trials[at]
        line = [t.values] * t.units + line
        if t.start == 0:
            return {name: [values[name] for values in line] for name in t.values}
        source = t.member if t.copied < 0 else t.copied
        at = (t.start // UNITS - 1) * MEMBERS + source


def demo_policies(epochs: int = 12) -> tuple[ComparedPolicy, ...]:
    names = ("none", "flip_crop", "randaugment:n=2:m=9", "trivialaugment", "autoaugment_cifar10")
    rng = np.random.default_rng(3)
    steps = np.arange(1, epochs + 1)
    curves = [
        0.9 + 0.012 * k - 0.8 * np.exp(-steps / 2.5) + rng.normal(0, 0.006, epochs)
        for k in (0, 1, 4, 3, 2)
    ]
    return tuple(
        ComparedPolicy(name, tuple(curve.tolist()), k == 2)
        for k, (name, curve) in enumerate(zip(names, curves, strict=True))
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real images `uint8[n, 8, 8, 1]` of handwritten digits, and their labels."""
    x, y = load_digits(return_X_y=True)
    return (x * 255 / 16).round().astype(np.uint8).reshape(-1, 8, 8, 1), y


def demo_augmented() -> Augmented:
    """Shifted, inverted and darkened digits."""
    images = digits()[0][:6]
    made = [
        np.roll(images, 1, 1),
        np.roll(images, -2, 2),
        255 - images,
        images // 2,
        images[:, ::-1],
    ]
    return Augmented(images, np.stack(made, 1), "randaugment:n=2:m=9")


def demo_judged(n: int = 360, classes: int = 10, seed: int = 5) -> Judged:
    """Answers of a made-up network that is right about nine times of ten, in real digits' images."""
    x, y = digits()
    rng = np.random.default_rng(seed)
    y = y[:n] if classes == 10 else rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), y] += 3.2
    logits[np.arange(n), (y + 5) % classes] += 1.0
    exp = np.exp(1.5 * logits)
    names = tuple(str(k) if classes == 10 else f"class {k}" for k in range(classes))
    images = x[np.arange(n) % len(x)]
    return Judged(exp / exp.sum(1, keepdims=True), y, names, images)
