"""Look at what the network is fed, and check datasets:  python -m menet_jax.data show|check"""

import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from menet_jax.data.specs import Places, check_data
from menet_jax.images.distortions import QUALITY_RANGE, SIGMA_RANGE, Jpeg, Noise
from menet_jax.runtime.cli import check_counts, complain_of, refuse_doubles, run_functions
from menet_jax.runtime.text import complain, counted, say
from menet_jax.runtime.whole_files import check_writable


def show(
    specs: tyro.conf.Positional[tuple[str, ...]],
    dest: Path,
    split: str = "train",
    count: int = 25,
    seed: int = 0,
    distort: float = 0.0,
    skip_bad: bool = False,
    graded_masks: bool = False,
    cache: Path | None = None,
    manual_dir: Path | None = None,
) -> None:
    """Write a picture of an augmented training batch, salient pixels in red.

    Args:
        specs: dataset names or folders.
        dest: the PNG file to write.
        split: which split to read.
        count: how many images to show.
        seed: of order and augmentation.
        distort: share of the images that are distorted, as `--data.distort` of training does by default.
        skip_bad: go on without files that cannot be used.
        graded_masks: masks in folders are means over observers: threshold them at half, even where that leaves
            no salient pixel.
        cache: where prepared datasets are kept; by default where TFDS keeps them.
        manual_dir: where downloaded archives of benchmarks are; by default downloads/manual in the cache.
    """
    if not specs:
        raise ValueError("name at least one dataset or folder")
    _check_dest(dest)
    check_counts(count=count)
    if not 0 <= distort <= 1:
        raise ValueError(f"--distort {distort}: is a share of the images, from 0 to 1")
    check_data(specs)

    from menet_jax.data.pipeline import training_batches
    from menet_jax.data.sources import open_split
    from menet_jax.images import pictures  # only now, for it takes long to import

    sources = [open_split(spec, split, Places(cache, manual_dir, skip_bad, graded_masks)) for spec in specs]
    for source in sources:
        say(source.summary())
    both = (Noise(*SIGMA_RANGE), Jpeg(*QUALITY_RANGE))
    batches = training_batches(sources, batch_size=count, seed=seed, distorted=distort, distortions=both)
    batch = next(batches)
    batches.close()
    pictures.batch_grid(batch["image"], batch["mask"], dest)
    say(f"{count} images: {dest}")


def check(
    specs: tyro.conf.Positional[tuple[str, ...]],
    dest: Path = Path("check.png"),
    graded_masks: bool = False,
    cache: Path | None = None,
    manual_dir: Path | None = None,
) -> None:
    """Check datasets as they were downloaded, and write a contact sheet.

    Reports counts against the published ones, sizes, mask values, shares of salient pixels, files that cannot be used
    or have no counterpart, and pictures that are there twice, within and between the datasets. Exit status: 0; 1 if
    something is wrong; 2 if a dataset is not there, or cannot be read at all, the others being checked all the same.

    Args:
        specs: dataset names or folders.
        dest: the picture to write.
        graded_masks: masks in folders are means over observers: threshold them at half, even where that leaves
            no salient pixel.
        cache: where prepared datasets are kept; by default where TFDS keeps them.
        manual_dir: where downloaded archives of benchmarks are; by default downloads/manual in the cache.
    """
    if not specs:
        raise ValueError("name at least one dataset or folder")
    _check_dest(dest)

    from menet_jax.data import audit
    from menet_jax.data import contact_sheet as sheets  # only now, for it takes long to import
    from menet_jax.data.sources import NAMED, find_builder, place

    bases = [spec.partition("/")[0] if spec in NAMED else place(spec) for spec in specs]
    refuse_doubles("datasets", bases, "they have the same images; check them one after the other")
    # Nothing is prepared from what is passed over here: it is reported instead.
    places = Places(cache, manual_dir, skip_bad=True, graded_masks=graded_masks)
    found: list[audit.Audit] = []
    absent: list[str] = []
    for spec in specs:
        try:
            found.append(audit.audit_dataset(spec, find_builder(spec, places)))
            say(*audit.describe(found[-1]))
        except (OSError, ValueError) as error:
            absent.append(spec)
            complain_of(error)
    twins = audit.twins(found)
    if any(each.facts for each in found):
        say(*(audit.describe_twins(twins) if twins else ["no picture is there twice"]))
        sheets.contact_sheet(found, twins, dest)
        say(f"contact sheet: {dest}")
    bad_twins = [each for each in twins if each.is_wrong]
    wrong = sum(len(each.irregularities) for each in found) + len(bad_twins)
    if wrong:
        verb = "is" if wrong == 1 else "are"
        where = {each.name for each in found if each.irregularities}
        where |= {side.dataset for each in bad_twins for side in (each.first, each.second)}
        names = ", ".join(each.name for each in found if each.name in where)
        complain(f"{counted(wrong, 'thing')} {verb} wrong in {names}")
    if absent:
        complain(f"nothing is known of {', '.join(absent)}")
        sys.exit(2)
    if wrong:
        sys.exit(1)


def _check_dest(dest: Path) -> None:
    """Raise ValueError or OSError if no picture can be written there."""
    if dest.suffix.lower() != ".png" or dest.is_dir():
        raise ValueError(f"--dest {dest}: name a file that ends in .png")
    check_writable(dest.parent)


def main(arguments: Sequence[str]) -> None:
    """Run the command; another exit status than 0 is raised as SystemExit."""
    run_functions(
        {"show": show, "check": check}, arguments, "menet_jax.data", "Look at datasets.", "no picture was written"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
