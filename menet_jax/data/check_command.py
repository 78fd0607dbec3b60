"""Datasets checked as they were downloaded; see `options.Check`."""

from menet_jax.data import audit, contact_sheet
from menet_jax.data.options import Check
from menet_jax.data.sources import NAMED, find_builder, place
from menet_jax.runtime.cli import BAD_INPUT, FAILED, complain_of, refuse_doubles, run_command
from menet_jax.runtime.text import complain, counted, say


def run(options: Check) -> int:
    """Check datasets; the exit status, see `Check`."""
    return run_command(lambda: refuse_shared(options), lambda _: check(options), lambda _: "no picture was written")


def refuse_shared(options: Check) -> None:
    """Raise ValueError if two of the datasets have the same images."""
    bases = [spec.partition("/")[0] if spec in NAMED else place(spec) for spec in options.specs]
    refuse_doubles("datasets", bases, "they have the same images; check them one after the other")


def check(options: Check) -> int:
    """The exit status of checking what is there of the datasets."""
    found: list[audit.Audit] = []
    absent: list[str] = []
    places = options.places(skip_bad=True)  # skipped files are reported, and nothing is prepared of them
    for spec in options.specs:
        try:
            found.append(audit.audit_dataset(spec, find_builder(spec, places)))
            say(*audit.describe(found[-1]))
        except (OSError, ValueError) as error:
            absent.append(spec)
            complain_of(error)
    duplicates = audit.duplicates(found)
    if any(each.facts for each in found):
        say(*(audit.describe_duplicates(duplicates) if duplicates else ["no picture is there twice"]))
        contact_sheet.contact_sheet(found, duplicates, options.dest)
        say(f"contact sheet: {options.dest}")
    wrong = complain_of_wrong(found, [each for each in duplicates if each.is_wrong])
    if absent:
        complain(f"nothing is known of {', '.join(absent)}")
        return BAD_INPUT
    return FAILED if wrong else 0


def complain_of_wrong(found: list[audit.Audit], duplicates: list[audit.Duplicate]) -> int:
    """Say how much is wrong, and where; how much it is."""
    wrong = sum(len(each.irregularities) for each in found) + len(duplicates)
    if wrong:
        where = {each.name for each in found if each.irregularities}
        where |= {side.dataset for each in duplicates for side in (each.first, each.second)}
        names = ", ".join(each.name for each in found if each.name in where)
        complain(f"{counted(wrong, 'thing')} {'is' if wrong == 1 else 'are'} wrong in {names}")
    return wrong
