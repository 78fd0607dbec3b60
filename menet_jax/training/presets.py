"""Named configurations: the quick start, the paper's recipe and its ablations."""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from menet_jax.training.config import PAPER, Config, LossConfig, ModelConfig, OptimizerConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration and what is known of it."""

    about: str
    config: Config


def _ablation(
    name: str,
    what: str,
    expected: str,
    model: ModelConfig = PAPER.model,
    loss: LossConfig = PAPER.loss,
    source: str = "Table IV (Section IV-G)",
) -> Preset:
    """The paper's recipe with another network or loss."""
    about = f"""{what}

        Source: {source}; recipe and data are those of paper.
        Command: python -m menet_jax.train {name} [--data.train FOLDER …]
        Hardware and time: as paper. Narrow, for a CPU: --model.width 8 --steps 700 --optimizer.drops 450 600.
        Expected: {expected}"""
    return Preset(about, replace(PAPER, run=Path("runs") / name, model=model, loss=loss))


PRESETS = {
    "quickstart": Preset(
        about="""A narrow network on the built-in synthetic images: from nothing to useful maps in minutes.

        Source: this project, to show every part at work; the recipe is Section IV-B's with a short schedule, and with
        the metric loss weighed less, as in the authors' code (1/16 there), which learns faster from few steps.
        Command: python -m menet_jax.train
        Hardware and time: 2 CPU cores, under 5 minutes.
        Expected: adaptive F of the metric map at least 0.80 on held-out synthetic images.""",
        config=Config(
            run=Path("runs/quickstart"),
            steps=150,
            batch_size=5,
            save_every=50,
            log_every=5,
            model=ModelConfig(width=4),
            loss=LossConfig(metric=0.2),
            optimizer=OptimizerConfig(drops=(110, 135)),
        ),
    ),
    "paper": Preset(
        about="""The paper's network and recipe (Section IV-B), from scratch.

        Source: Section IV-B and the authors' solver: SGD, learning rate 0.1 with three drops, momentum 0.9, batch 5,
        110,000 steps, weight decay 1e-8 on convolution weights, doubled learning rate for biases.
        Data: MSRA10K and HKU-IS in the paper; any other with --data.train.
        Command: python -m menet_jax.train paper [--data.train FOLDER …]
        Hardware and time: the authors used one TITAN X Pascal. An NVIDIA H200 takes 14 ms a step in bfloat16
        (--model.precision), half an hour in all without validation; not run here to its end.
        Expected: the paper's Table I, adaptive F .928 and MAE .028 on MSRA1K, after training on MSRA10K and HKU-IS.""",
        config=PAPER,
    ),
    "menet": _ablation(
        "menet",
        """MEnet of Table IV: both losses, the whole network. The same as paper, but for the run directory.""",
        "Table I, as for paper.",
    ),
    "ce-only": _ablation(
        "ce-only",
        """CE-only of Table IV: cross entropy alone, the whole network. Its metric map is untrained.""",
        "adaptive F .915 and MAE .034 on MSRA1K, of the probability map.",
        loss=LossConfig(metric=0.0),
    ),
    "ce-plain": _ablation(
        "ce-plain",
        """CE-plain of Table IV: cross entropy alone, heads on the last decoder output, without the 13 scale maps.""",
        "adaptive F .884 and MAE .037 on MSRA1K, of the probability map.",
        model=ModelConfig(multi_scale=False),
        loss=LossConfig(metric=0.0),
    ),
    "metric-only": _ablation(
        "metric-only",
        """The metric loss alone, the whole network. Its probability map is untrained, so that background, from which
        the metric map measures, is the whole border band (`saliency.border`).""",
        "not in Table IV; Section III-B says that both losses together are significantly better than either.",
        loss=LossConfig(cross_entropy=0.0),
        source="Section III-B",
    ),
    "unet": _ablation(
        "unet",
        """U-Net, trained from scratch like ce-only. It has no metric map. As many parameters as MENet of width 4 has at
        --model.width 20, of width 8 at 39.""",
        "not in the paper.",
        model=ModelConfig(width=64, kind="unet"),
        loss=LossConfig(metric=0.0),
        source="Ronneberger et al., MICCAI 2015 (`model/unet.py` says what differs)",
    ),
    "nldf": _ablation(
        "nldf",
        """A network after NLDF, trained from scratch like ce-only. It has no metric map. As many parameters as MENet of
        width 4 has at --model.width 20, of width 8 at 40.""",
        "not in the paper, whose NLDF is the pretrained one of Luo et al.",
        model=ModelConfig(width=64, kind="nldf"),
        loss=LossConfig(metric=0.0),
        source="Luo et al., CVPR 2017 (`model/nldf.py` says what differs)",
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name; ValueError with a suggestion if there is none."""
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"there is no preset {name!r}{hint} Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]


def describe_presets() -> str:
    """The presets' names and texts, for `--help`."""
    lines = []
    for name, entry in PRESETS.items():
        first, *rest = entry.about.splitlines()
        lines += [f"{name}: {first}", *(f"    {line.strip()}" for line in rest if line.strip()), ""]
    return "\n".join(lines)
