"""Files of saliency maps from image files: which are written where, and the writing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.files import Picture, Rgb, has_image_name, read_image, read_picture, resize_image
from menet_jax.images.maps import full_size
from menet_jax.images.opening import UnreadableImageError, decoded_bytes
from menet_jax.images.pictures import TINT
from menet_jax.images.strips import by_strips
from menet_jax.model.inference import Kind, Maps, predict_stream
from menet_jax.runtime.cli import check_there
from menet_jax.runtime.regular_files import real
from menet_jax.runtime.text import listed
from menet_jax.runtime.whole_files import written_whole


@dataclass(frozen=True)
class Job:
    """An image file and what to write of it: the map, and where asked for, overlay and cut-out."""

    source: Path
    saliency: Path
    overlay: Path | None
    cutout: Path | None

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.saliency, self.overlay, self.cutout) if path is not None]


def plan(source: Path, dest: Path, *, overlay: bool, cutout: bool) -> tuple[list[Job], list[str]]:
    """Decide which files to write for each image, before anything is computed.

    The source is an image file, or a folder of them; sub-folders and hidden files are left alone. Each image has
    `<stem>.png`, and where asked for, `<stem>_overlay.png` and `<stem>_cutout.png`.

    Returns:
        the jobs in order of name, and the names of the other entries, which are skipped: sub-folders, hidden
        files, and files not named like images.

    Raises:
        ValueError: no images; two images would write the same file, or one would overwrite
            a file in the images' own folder.
        FileNotFoundError: there is no such source.
    """
    check_there("--source", source)
    entries = sorted(source.iterdir()) if source.is_dir() else [source]
    named = [path for path in entries if path == source or (not path.is_dir() and has_image_name(path))]
    chosen = set(named)
    skipped = [path.name + "/" * path.is_dir() for path in entries if path not in chosen]
    if not named:
        others = f", only {listed(skipped)}" if skipped else ""
        raise ValueError(f"--source {source}: holds no images{others}")
    jobs = [
        Job(
            path,
            dest / f"{path.stem}.png",
            dest / f"{path.stem}_overlay.png" if overlay else None,
            dest / f"{path.stem}_cutout.png" if cutout else None,
        )
        for path in named
    ]
    _refuse_collisions(jobs)
    _refuse_overwriting(jobs)
    return jobs, skipped


def predict_files(
    predictor: Predictor, jobs: Iterable[Job], kind: Kind, *, threads: int
) -> Iterator[UnreadableImageError | None]:
    """Do the jobs of `plan`, whose folder exists. Images are decoded and maps written in threads, while the network
    computes. `kind` is of the map that is written, and that overlay and cut-out are made of.

    Yields:
        after each job, in order: None, or what is wrong with its image, of which then nothing is written.

    Raises:
        OSError: a map cannot be written.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from predict_stream(
            [predictor],
            jobs,
            partial(_load, size=predictor.size),
            partial(_write, kind=kind),
            bytes_of=lambda job: decoded_bytes(job.source),
            skipped=UnreadableImageError,
            pool=pool,
        )


def tinted(image: Rgb, saliency: UInt8[np.ndarray, "h w"]) -> Rgb:
    """The image turned red where it is salient: half red at 255, unchanged at 0."""
    return by_strips(_tinted, image, saliency)


def cut_out(picture: Picture, saliency: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """The colours of an image, as opaque as it is salient; times its own opacity."""
    opacity = saliency if picture.opacity is None else by_strips(_product, saliency, picture.opacity)
    return np.dstack([picture.colours, opacity])


def _product(first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The product of two shares of 255, rounded."""
    return ((first.astype(np.uint16) * second + 127) // 255).astype(np.uint8)


def _tinted(image: Rgb, saliency: UInt8[np.ndarray, "h w"]) -> Rgb:
    share = saliency[..., None].astype(np.float32) / 510
    return np.rint(image * (1 - share) + TINT * share).astype(np.uint8)


def _refuse_collisions(jobs: list[Job]) -> None:
    counts = Counter(output for job in jobs for output in job.outputs)
    sources = [job.source.name for job in jobs if any(counts[output] > 1 for output in job.outputs)]
    if sources:
        doubled = sorted(output.name for output, count in counts.items() if count > 1)
        raise ValueError(
            f"{listed(sources)} would overwrite each other's {listed(doubled)}: "
            "rename them, or predict them from separate folders"
        )


def _refuse_overwriting(jobs: list[Job]) -> None:
    """Allow maps written earlier to be overwritten, but nothing beside the images: it may be one of them."""
    sources = {real(job.source) for job in jobs}
    folders = {path.parent for path in sources}
    for job in jobs:
        for output in job.outputs:
            if output.exists() and (real(output) in sources or real(output.parent) in folders):
                raise ValueError(f"{output} lies beside the images and would be overwritten: name another --dest")


class _Loaded(NamedTuple):
    """An image and its job; the image itself is kept only where it is needed to write."""

    job: Job
    shape: tuple[int, int]
    picture: Picture | None


def _load(job: Job, size: int) -> tuple[_Loaded, dict[int, Rgb]]:
    picture = read_picture(job.source) if job.overlay or job.cutout else None
    image = read_image(job.source) if picture is None else picture.rgb
    return _Loaded(job, (image.shape[0], image.shape[1]), picture), {size: resize_image(image, (size, size))}


def _write(loaded: _Loaded, maps: Sequence[Maps], kind: Kind) -> None:
    job, picture = loaded.job, loaded.picture
    saliency = full_size(np.asarray(getattr(maps[0], kind)), loaded.shape)
    _save(saliency, job.saliency)
    if job.overlay and picture is not None:
        _save(tinted(picture.rgb, saliency), job.overlay, picture.profile)
    if job.cutout and picture is not None:
        _save(cut_out(picture, saliency), job.cutout, picture.profile)


def _save(array: np.ndarray, path: Path, profile: bytes | None = None) -> None:
    with written_whole(path) as unfinished:  # level 3 takes half the time of the default, and is little larger
        Image.fromarray(array).save(unfinished, "PNG", compress_level=3, icc_profile=profile)
