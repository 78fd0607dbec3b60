"""Convolutions of a compiled program that XLA's CPU backend computes by plain loops, far slower than a library does.

Eigen's convolution, and the others that XLA may choose for it, are taken under the conditions of
`PotentiallyImplementedAsEigenConvolution` and `CanUseEigenConvolution` (xla/service/cpu/ir_emission_utils.cc): float32
or float16, one to three spatial dimensions, no reversed window, input and output batch first and features last, kernel
spatial dimensions first and in order, then input and output features, all row-major. A pass before that brings most
others into this form, but not all: one with a reversed window stays as it is, and so does one in a loop's body. From
jaxlib 0.11 on XLA wraps what becomes loops in a loop fusion, which is a reason of its own here.
"""

import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_FUSION = re.compile(r" fusion\(.*\bkind=k(\w+), calls=%?([\w.\-]+)")
_NAME = re.compile(r"^(?:ROOT )?%?([\w.\-]+) = (\w+)\[[\d,]*\](?:\{([\d,]*)[^}]*\})? convolution\(")
_OPERATION = re.compile(r'op_name="([^"]*)"')


def convolutions(program: str) -> int:
    """Number of convolutions of a compiled program: optimised HLO, `compiled.as_text()`."""
    return sum(" convolution(" in line for line in program.splitlines())


def slow_convolutions(program: str) -> dict[str, str]:
    """The convolutions of a compiled program (see `convolutions`) that no library computes on the CPU.

    Returns:
        name in the program, and in a profile of it → why; then shape, window and dimension labels, as the program has
        them; then what it is in the network, such as `…/decoder0_up/main1/conv/conv_general_dilated`, but for one that
        XLA has turned round, which shape and window tell.

    Raises:
        ValueError: a convolution is written in a way that is not known here.
    """
    in_loops = {name for kind, name in _FUSION.findall(program) if kind != "Custom"}
    found = {}
    for computation, line in _instructions(program):
        named = _NAME.match(line)
        if named is None:
            raise ValueError(f"a convolution that cannot be read: {line}")
        name, dtype, layout = named.groups()
        reasons = [*_reasons(line, dtype, layout), *(["within a fused loop"] if computation in in_loops else [])]
        if reasons:
            operation = _OPERATION.search(line)
            instruction = re.sub(r", (?:metadata|backend_config)=.*", "", line.partition(" = ")[2])
            found[name] = f"{', '.join(reasons)}; {instruction} {operation[1] if operation else ''}".rstrip()
    return found


def _instructions(program: str) -> Iterator[tuple[str, str]]:
    """(computation, convolution), for each."""
    computation = ""
    for line in program.splitlines():
        heading = _COMPUTATION.match(line)
        if heading:
            computation = heading[1]
        elif " convolution(" in line:
            yield computation, line.strip()


def _reasons(line: str, dtype: str, layout: str | None) -> Iterator[str]:
    if dtype not in ("f32", "f16"):
        yield f"type {dtype}"
    window = re.search(r"\bwindow=\{([^}]*)\}", line)
    reversal = re.search(r"rhs_reversal=([\dx]+)", window[1]) if window else None
    if reversal and "1" in reversal[1]:
        yield "reversed window"
    labels = re.search(r"\bdim_labels=([\w?]+)_([\w?]+)->([\w?]+)", line)
    if labels is None:
        raise ValueError(f"a convolution that cannot be read: {line}")
    spatial = "".join(str(axis) for axis in range(len(labels[1]) - 2))
    if labels.groups() != (f"b{spatial}f", f"{spatial}io", f"b{spatial}f"):
        yield f"dimensions {labels[1]}_{labels[2]}->{labels[3]}"
    if not 1 <= len(spatial) <= 3:
        yield f"{len(spatial)} spatial dimensions"
    axes = [int(axis) for axis in layout.split(",")] if layout else []
    if axes != sorted(axes, reverse=True):
        yield "not row-major"
