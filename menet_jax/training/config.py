"""The configuration of a run: frozen dataclasses that become command-line flags, and files."""

import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tyro

from menet_jax.data.options import PlacesOptions
from menet_jax.images.distortions import QUALITY_RANGE, SIGMA_RANGE, Distortion, Jpeg, Noise
from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.whole_files import written_whole

SMALLEST_SIZE, SIZE_STEP = 224, 32  # of images that MENet takes, see `model.menet.MENet`


def _require(condition: bool, flag: str, value: object, rule: str) -> None:
    if not condition:
        raise ValueError(f"{_flag(flag)} {value}: {rule}")


@dataclass(frozen=True)
class ModelConfig:
    """The network (Section III-A), or a baseline."""

    width: int = 32
    """Channels at full resolution; 32 in the paper, and 64 in the baselines' papers."""
    kind: Literal["menet", "unet", "nldf"] = "menet"
    """MENet; or a baseline: U-Net, or a network after NLDF. Those have no metric space: --loss.metric 0."""
    multi_scale: bool = True
    """Heads read the 13 scale maps; without, the last decoder output (CE-plain of Table IV)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What convolutions compute in; parameters, statistics and losses are float32 always."""

    def __post_init__(self) -> None:
        _require(self.width >= 1, "model.width", self.width, "must be at least 1; the paper's is 32")
        has_scales = self.kind == "menet"
        _require(self.multi_scale or has_scales, "model.kind", self.kind, "has no 13 scale maps to be without")

    @property
    def maps(self) -> tuple[str, ...]:
        """The kinds of map that the network gives."""
        return ("metric", "probability") if self.kind == "menet" else ("probability",)


@dataclass(frozen=True)
class LossConfig:
    """The loss, metric · (Eq. 3) + cross_entropy · (Eq. 1)."""

    metric: float = 1.0
    """Weight of the metric loss; with 0 nothing trains the metric map."""
    cross_entropy: float = 1.0
    """Weight of cross entropy, λ of Eq. 4; with 0 the metric map's background is the image's border."""
    squared: bool = True
    """Squared distances as in the authors' code; without, Euclidean ones as in the paper."""
    mining: bool = True
    """Hard negative mining: as many pixels of the larger class as the smaller has in the metric loss."""
    stop_centres: bool = True
    """Class centres are constants in the gradient, as in the authors' code."""

    def __post_init__(self) -> None:
        for name in ("metric", "cross_entropy"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, f"loss.{name}", value, "must be finite and not negative")
        some = self.metric + self.cross_entropy > 0
        _require(some, "loss.metric", self.metric, "both loss weights are 0: nothing to train")

    def trains(self, kind: str) -> bool:
        """Whether the loss trains the map of this kind, metric or probability."""
        return bool(self.metric if kind == "metric" else self.cross_entropy)


@dataclass(frozen=True)
class DataConfig(PlacesOptions):
    """The data: names of known datasets, or folders that hold images and masks."""

    train: tuple[str, ...] = ("synthetic",)
    """Sets whose training splits are joined: dataset names or folders."""
    validation: tuple[str, ...] = ()
    """Sets whose validation splits are scored; none given: the training sets. Some given: folders are not split."""
    whole: Annotated[tuple[str, ...], tyro.conf.Suppress, tyro.conf.Fixed] = ()
    """The sets that are not split (`sources.used_whole`), as decided when the run began."""
    size: int = 224
    """Side of the square images that the network sees."""
    augment: bool = True
    """Random crop (90…100 % of both sides) and horizontal flip."""
    distort: float = 0.0
    """Share of the training images that are distorted, by noise or by JPEG compression; 0 in the paper."""
    distort_sigma: tuple[float, float] = SIGMA_RANGE
    """Noise strengths to draw from, on the scale 0…255."""
    distort_quality: tuple[int, int] = QUALITY_RANGE
    """JPEG qualities to draw from."""
    skip_bad: bool = False
    """Prepare a dataset without its unreadable or unpaired files, instead of stopping at them or at a wrong count."""
    threads: int = 2
    """Threads that decode images; the batches do not depend on it."""

    @property
    def distortions(self) -> tuple[Distortion, ...]:
        """The distortions of training images, if any are to be distorted."""
        return Noise(*self.distort_sigma), Jpeg(*self.distort_quality)

    def __post_init__(self) -> None:
        nearest = max(SMALLEST_SIZE, (self.size + SIZE_STEP // 2) // SIZE_STEP * SIZE_STEP)
        rule = f"must be divisible by {SIZE_STEP} and at least {SMALLEST_SIZE}; try {nearest}"
        _require(self.size == nearest, "data.size", self.size, rule)
        _require(self.threads >= 1, "data.threads", self.threads, "must be at least 1")
        _require(len(self.train) >= 1, "data.train", "", "name at least one dataset or folder")
        _require(0 <= self.distort <= 1, "data.distort", self.distort, "is a share of the images, from 0 to 1")
        for flag, bounds, kind in (
            ("data.distort-sigma", self.distort_sigma, Noise),
            ("data.distort-quality", self.distort_quality, Jpeg),
        ):
            try:
                kind(*bounds)
            except ValueError as error:
                raise ValueError(f"--{flag} {bounds[0]} {bounds[1]}: {error}") from None


@dataclass(frozen=True)
class OptimizerConfig:
    """Stochastic gradient descent with momentum (Section IV-B)."""

    learning_rate: float = 0.1
    """Size of a step down the gradient, at the start."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0; the paper has none."""
    drops: tuple[int, ...] = (60_000, 90_000, 100_000)
    """Steps at which the learning rate falls to a tenth."""
    momentum: float = 0.9
    """Share of each step that carries over into the next."""
    weight_decay: float = 1e-8
    """Weight decay, of convolution weights only."""
    bias_rate: float = 2.0
    """Learning rate of convolution biases, as a multiple of the others'."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "bias_rate"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"optimizer.{name}", value, "must be finite and positive")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "must be in [0, 1)")
        decay = self.weight_decay
        _require(0 <= decay < math.inf, "optimizer.weight-decay", decay, "must be finite and not negative")
        _require(0 <= self.warmup < 2**31, "optimizer.warmup", self.warmup, "must be at least 0, and less than 2**31")
        rising = list(self.drops) == sorted(set(self.drops)) and all(0 <= step < 2**31 for step in self.drops)
        _require(rising, "optimizer.drops", self.drops, "must be in rising order, at least 0, and less than 2**31")


@dataclass(frozen=True)
class DistributedConfig:
    """Several hosts, one process each; start every process with the same flags but its own id."""

    coordinator: str | None = None
    """HOST:PORT of process 0, or 'auto' where JAX finds the cluster itself (Cloud TPU, Slurm)."""
    processes: int = 1
    """Number of processes."""
    process_id: int = 0
    """Index of this process, from 0."""

    def __post_init__(self) -> None:
        _require(self.processes >= 1, "distributed.processes", self.processes, "must be at least 1")
        there = 0 <= self.process_id < self.processes
        _require(there, "distributed.process-id", self.process_id, f"must be from 0 to {self.processes - 1}")
        address = self.coordinator is None or self.coordinator == "auto" or re.fullmatch(r"\S+:\d+", self.coordinator)
        _require(bool(address), "distributed.coordinator", self.coordinator, "must be HOST:PORT, or auto")
        meeting = self.processes == 1 or self.coordinator is not None
        _require(meeting, "distributed.processes", self.processes, "needs --distributed.coordinator HOST:PORT")


@dataclass(frozen=True)
class Config:
    """A training run.

    >>> from pathlib import Path
    >>> from menet_jax import Config
    >>> Config(run=Path("runs/mine"), steps=10).optimizer.momentum
    0.9
    """

    run: Path
    """Run directory: configuration, checkpoints, logs, sample maps."""
    steps: int
    """Training steps in all."""
    batch_size: int = 5
    """Images a step, over all devices."""
    save_every: int = 1000
    """Steps between two validations, each with a checkpoint and sample maps."""
    log_every: int = 10
    """Steps between two lines of the log."""
    seed: int = 0
    """Seeds the parameters, the order of the data and its augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Fail unless JAX computes there; none given: wherever JAX does by default."""
    resume: bool = False
    """Go on with the run in the run directory, with the configuration it was started with."""
    overwrite: bool = False
    """Delete the run in the run directory and start anew."""
    origin: Annotated[str | None, tyro.conf.Suppress, tyro.conf.Fixed] = None
    """Origin of a network that was not trained here; then only `ELSEWHERE` has a meaning. No flag sets this."""

    def __post_init__(self) -> None:
        check_counts(steps=self.steps, batch_size=self.batch_size, save_every=self.save_every, log_every=self.log_every)
        _require(0 <= self.seed < 2**32, "seed", self.seed, "must be at least 0 and less than 2**32")
        rule = "has no metric space for the metric loss to act on; give --loss.metric 0 too"
        _require(not self.loss.metric or "metric" in self.model.maps, "model.kind", self.model.kind, rule)
        _require(not (self.resume and self.overwrite), "resume", "--overwrite", "contradict each other: give one")

    @property
    def best_score(self) -> str:
        """The validation score that tells the best checkpoint: adaptive F of the map that the loss trains."""
        return "metric_adaptive_f" if self.loss.metric > 0 else "probability_adaptive_f"


PAPER = Config(run=Path("runs/paper"), steps=110_000, data=DataConfig(train=("msra10k", "hku_is")))
"""The paper's recipe (Section IV-B)."""

_CONFIG = pydantic.TypeAdapter(Config)

# What may change when a run is resumed, because the trained parameters do not depend on it but for rounding.
RESUMABLE = (
    "run", "steps", "save_every", "log_every", "data.train", "data.validation", "data.whole", "data.cache",
    "data.manual_dir", "data.threads", "distributed", "device", "resume", "overwrite",
)  # fmt: skip
# Of the data to train on the place may change; `TrainingBatches.set_state` compares what is there.


OF_A_HOST = ("data.cache", "data.manual_dir", "data.threads", "distributed.coordinator", "distributed.process_id")
"""Fields that may differ between the processes of a run."""

ELSEWHERE = ("run", "origin", "model")
"""Fields that are known, and kept, of a network that was not trained here."""


def with_data(config: Config, **changed: Any) -> Config:
    """The configuration with other values in some fields of its data."""
    return replace(config, data=replace(config.data, **changed))


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as JSON-able nested dicts; without what is not known."""
    values: dict[str, Any] = _CONFIG.dump_python(config, mode="json")
    if config.origin is not None:
        return {name: values[name] for name in ELSEWHERE}
    del values["origin"]
    return values


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`.

    What is not known of a network from elsewhere gets its default. Of that, prediction reads two things, which are as
    in the authors' code: both maps are trained, and images are 224 wide and high.

    Raises:
        ValueError: a field is missing, unknown or has an impossible value; it is named.
    """
    unknown = {"steps": PAPER.steps} if "origin" in values else {}
    return _CONFIG.validate_python(unknown | values, extra="forbid")


def read(path: Path) -> Config:
    """Read a configuration written by `write`.

    Raises:
        ValueError: the file is not such a configuration; the file and the field are named.
    """
    try:
        return from_dict(json.loads(path.read_text()))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} does not hold a configuration: {error}") from None


def write(config: Config, path: Path) -> None:
    """Write the configuration as JSON."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(to_dict(config), indent=2) + "\n")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def of_all_hosts(config: Config) -> dict[str, Any]:
    """Flags and their values, as far as they are to be the same in all processes of a run."""
    return {_flag(name): value for name, value in flatten(to_dict(config)).items() if name not in OF_A_HOST}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_resumable(saved: Config, wanted: Config) -> None:
    """Raise ValueError if `wanted` would train otherwise than the run that `saved` started."""
    changed = changes(saved, wanted)
    if changed:
        raise ValueError(
            f"{wanted.run} cannot be resumed with another configuration: {'; '.join(changed)}. "
            "Leave these flags out, or start a new run with another --run."
        )


def recipe(config: Config) -> str:
    """All fields that influence the parameters, except for the seed, as text: equal for runs of one recipe."""
    values = {name: value for name, value in flatten(to_dict(config)).items() if name not in ("seed", "run")}
    kept = {name: value for name, value in values.items() if name == "steps" or not _resumable(name)}
    data = [[Path(each).name for each in of] for of in (config.data.train, config.data.validation)]
    return json.dumps([kept, data], sort_keys=True)


def _resumable(name: str) -> bool:
    return name in RESUMABLE or name.split(".")[0] in RESUMABLE


def changes(before: Config, after: Config) -> list[str]:
    """The differences that change the training, by the names of flags."""
    was, now = flatten(to_dict(before)), flatten(to_dict(after))
    return [
        f"{_flag(name)} was {was[name]}, is {now[name]}"
        for name in was
        if was[name] != now[name] and not _resumable(name)
    ]
