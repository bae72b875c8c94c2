"""The sections of a search's configuration: each field is a flag, a YAML key and a line of the help."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Made at run time by jsonargparse, which static tools cannot follow.
    type NonNegativeFloat = float
    type NonNegativeInt = int
    type PositiveFloat = float
    type PositiveInt = int
else:
    from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class DataConfig:
    """Data: which images or table, and how they are split.

    Args:
        source: digits (scikit-learn's, embedded) | NAME of a tfds image data set | FILE.npz with x_train,
            y_train and optionally x_test, y_test | FOLDER of class folders | a table, FILE.csv, .csv.gz,
            .tsv or .parquet; short: --data
        dir: where tfds keeps its data; short: --data-dir
        target: column of a table that holds the class; null: the one called label, target, class or y,
            else the last
        split_seed: seed of the train/validation/test split
        val_fraction: share of the images for validation
        test_fraction: share for the test, where the data brings no test set
        max_bad: image files of a folder that may be left out, named, since they cannot be decoded; short:
            --max-bad
        stream: where candidates' images lie: never (on the device) | always (on the host, streamed by
            the extra jaxnas[stream]) | auto (streamed if they take over a quarter of its memory)
    """

    source: str = "digits"
    dir: str | None = None
    target: str | None = None
    split_seed: NonNegativeInt = 0
    val_fraction: PositiveFloat = 0.2
    test_fraction: PositiveFloat = 0.2
    max_bad: NonNegativeInt = 0
    stream: str = "auto"


@dataclass(frozen=True)
class RankConfig:
    """Rank: score every architecture without training.

    Args:
        proxies: training-free scores, separated by commas; null: the space's own, naswot,params for
            most; short: --proxies
        sample: rank so many architectures, found as explore says; 0: all; null: all, or some thousands
            where a space is too large; short: --sample
        explore: how those that are ranked are found where not all are: random | evolution (bred by their
            scores) | pruning (TE-NAS) | perturbation (Zero-Cost-PT), each of these two with what lies
            around its find; null: evolution where a space is too large to list, else random
        combine: how several scores make one: log_rank | rank_mean | vote; null: log_rank, or that of
            the preset named in proxies
        executor: shared_prefix (for proxies that need a forward pass alone) | per_architecture | auto
        repeats: initialisations and batches that scores are the mean of; null: 1, or the preset's;
            short: --repeats
        dtype: what networks are computed in: float32 | bfloat16
        batch_size: images that scores are computed on; null: 32, or the preset's
        channels: channels of the scored networks; null: the space's own, 16 for nasbench201
        cells: their cells in each stage, as in 5,5,5; null: the space's own, 1 for nasbench201
        resolution: side of their images; null: the space's own, or the data's if smaller
    """

    proxies: tuple[str, ...] | None = None
    sample: NonNegativeInt | None = None
    explore: str | None = None
    combine: str | None = None
    repeats: PositiveInt | None = None
    dtype: str = "float32"
    executor: str = "auto"
    batch_size: PositiveInt | None = None
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


JOINT = "diffautoml"
"""The trainer that tunes, augments and finishes as it searches."""


@dataclass(frozen=True)
class TrainConfig:
    """Train: the best candidates for a short time, all in one program; or one super-net for all.

    Args:
        trainer: population (each candidate its own weights) | a super-net as spos (candidates inherit its
            weights) | a search by gradient as gdas (what is found is the winner); `python -m
            jaxnas.supernet` lists them all | diffautoml (architecture, hyper-parameters, augmentation and
            weights in one run, which stage finish only evaluates); short: --trainer
        strategy: who is trained next: default (the ranking's best, then those that a predictor fitted to
            what has been trained points to) | proxy (the ranking's order) | another of `python -m
            jaxnas.strategies`, its parameters after colons; short: --strategy
        budget: how much the strategy may train: a number of trainings, or a time of ranking and training
            as 30min (s, min, h); null: twice top; short: --budget
        top: how many candidates are trained at once; with halving or a super-net, how many of the
            ranking's best; short: --top
        baselines: random architectures trained beside them, and the largest one; 0: neither
        halving: successive halving: after 1, eta, eta^2, ... epochs 1 of eta is trained on; 0: all are
        measure: what candidates are halved by: last_seen (validation metric) | sotl | sotl_e (sums of
            training losses, of all epochs and the last)
        sample: architectures that a super-net's weights evaluate, beside the best of the ranking
        epochs: epochs of each candidate, or of the super-net
        batch_size: images a step
        learning_rate: peak learning rate (SGD with Nesterov momentum, cosine)
        weight_decay: weight decay on kernels
        dtype: what candidates are computed in: float32 | bfloat16
        channels: channels of the candidates; null: the space's own, 16 for nasbench201
        cells: their cells in each stage; null: the space's own, 1,1,1 for nasbench201
        resolution: side of their images; null: the data's, at most the space's own
    """

    trainer: str = "population"
    strategy: str = "default"
    budget: PositiveInt | str | None = None
    top: PositiveInt = 8
    baselines: NonNegativeInt = 8
    halving: NonNegativeInt = 0
    measure: str = "last_seen"
    sample: PositiveInt = 200
    dtype: str = "float32"
    epochs: PositiveInt = 3
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.1
    weight_decay: NonNegativeFloat = 5e-4
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class ObjectiveConfig:
    """Objective: what is minimised, and what networks are compared by, in every stage that trains.

    Args:
        metric: accuracy | balanced_accuracy | f1 (macro) | auc (one against the rest); short: --metric
        loss: cross_entropy | focal | module:attribute, a function of logits and targets [B, classes] that
            gives [B]; short: --loss
        class_weights: weights of the classes in the loss: balanced | a number for each, separated by
            commas; null: all alike; short: --class-weights
    """

    metric: str = "accuracy"
    loss: str = "cross_entropy"
    class_weights: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TuneConfig:
    """Tune: search the winner's hyper-parameters, the trials being members of one running population.

    Args:
        tuner: one of `python -m jaxnas.hpo`, its parameters after colons
        members: networks in the population
        epochs: epochs of a full training
        budget: epochs of all members together; null: members times epochs
        confirm: epochs for which what was found is at last trained beside what stage finish would take
            without it, the better being kept, since short trainings mislead; 0: it is not; null: half of
            those of stage finish
        space: FILE.yaml of hyper-parameters, named as fields of jaxnas.training.hyper.Hyper; null:
            learning rate, weight decay, label smoothing and momentum
        storage: where Optuna's tuners keep their study, a URL; null: tune.sqlite3 in the run directory
        batch_size: images a step
        channels: channels of the networks; null: those of stage finish
        cells: their cells in each stage; null: those of stage finish
        resolution: side of their images; null: that of stage finish
    """

    tuner: str = "asha"
    members: PositiveInt = 8
    epochs: PositiveInt = 6
    budget: PositiveInt | None = None
    confirm: NonNegativeInt | None = None
    space: str | None = None
    storage: str | None = None
    batch_size: PositiveInt = 64
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class AugmentConfig:
    """Augment: search how training images are augmented, and compare it with fixed policies.

    Args:
        policies: fixed policies that are compared, `python -m jaxnas.augment` lists them
        search: policies that are searched and compared with them: pba | fast | dada
        beside: a fixed policy whose flips, shifts and the like surround those that are searched
        members: networks of a search's population
        epochs: epochs of each training, of a search as of the comparison; 0: those of stage finish,
            since what augmentation is worth shows late
        batch_size: images a step
        channels: channels of the networks; null: those of stage finish
        cells: their cells in each stage; null: those of stage finish
        resolution: side of their images; null: that of stage finish
    """

    policies: tuple[str, ...] = ("none", "none:flip=0.5", "flip_crop", "trivialaugment")
    search: tuple[str, ...] | None = None
    beside: str = "flip_crop"
    members: PositiveInt = 8
    epochs: NonNegativeInt = 0
    batch_size: PositiveInt = 64
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class FinishConfig:
    """Finish: train the winner to the end; what stage tune found goes before what is here.

    Args:
        epochs: epochs of the winner
        batch_size: images a step
        optimizer: sgd (Nesterov) | adamw
        learning_rate: peak learning rate
        schedule: cosine | linear | constant | one_cycle, after the warm-up
        warmup: share of all steps in which the learning rate rises
        momentum: of SGD, or AdamW's first decay
        weight_decay: weight decay on kernels
        label_smoothing: share of a label that is spread over all classes
        dropout: before the classifier
        drop_path: probability that a path is left out for an image
        distortion: share of feature maps that is distorted (Beyond Dropout)
        ema: decay of the average of weights that is kept and evaluated; 0: none
        augment: a policy, `python -m jaxnas.augment` lists them, or FILE.json; null: what stage augment
            found, else none
        teacher: DIR of an exported model whose logits are learned too; null: none
        distill: weight of the teacher's loss
        temperature: at which logits are compared
        patience: stop after so many epochs without a better validation metric; 0: never
        dtype: what the network is computed in: float32 | bfloat16
        channels: channels of the winner; null: the space's own, 16 for nasbench201
        cells: its cells in each stage; null: the space's own, 1,1,1 for nasbench201
        resolution: side of its images; null: the data's, at most the space's own
    """

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 64
    optimizer: str = "sgd"
    learning_rate: PositiveFloat = 0.1
    schedule: str = "cosine"
    warmup: NonNegativeFloat = 0.1
    momentum: NonNegativeFloat = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    label_smoothing: NonNegativeFloat = 0.0
    dropout: NonNegativeFloat = 0.0
    drop_path: NonNegativeFloat = 0.0
    distortion: NonNegativeFloat = 0.0
    ema: NonNegativeFloat = 0.0
    augment: str | None = None
    teacher: str | None = None
    distill: NonNegativeFloat = 0.5
    temperature: PositiveFloat = 4.0
    patience: NonNegativeInt = 0
    dtype: str = "float32"
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class ExportConfig:
    """Export: write the finished network for use elsewhere.

    Args:
        dir: a directory that does not exist; null: export in the run directory
        formats: safetensors | onnx | stablehlo
    """

    dir: str | None = None
    formats: tuple[str, ...] = ("safetensors", "onnx", "stablehlo")


@dataclass(frozen=True)
class LimitsConfig:
    """Limits: what the winner may cost at most, at the size it is finished at.

    Args:
        max_params: parameters; null: no limit; short: --max-params
        max_macs: multiply-adds of one image; null: no limit; short: --max-macs
        max_latency: milliseconds of one image; null: no limit; short: --max-latency
        latency_table: FILE.csv or .parquet with columns arch and latency_ms; null: the networks are timed
            on this device
    """

    max_params: PositiveInt | None = None
    max_macs: PositiveInt | None = None
    max_latency: PositiveFloat | None = None
    latency_table: str | None = None
