"""The bar that waits for the compiler."""

import io
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from menet_jax.runtime.progress import Bar, live, say


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


@pytest.mark.parametrize("start", [0, 40])
def test_the_compiler_is_named_and_counts_for_neither_speed_nor_time_left(clock: Clock, start: int) -> None:
    shown = io.StringIO()
    bar = Bar(total=start + 10, initial=start, file=shown, mininterval=0)
    bar.compiling()
    assert f"{start}/{start + 10}" in shown.getvalue() and "compiling" in shown.getvalue()
    clock.now += 100
    bar.update()
    assert bar.n == start + 1
    assert "compiling" not in str(bar) and "<?" in str(bar)  # nothing is known yet of the time left
    for _ in range(4):
        clock.now += 2
        bar.update()
    assert "00:08<00:10,  2.00s/it" in str(bar)


def test_a_second_program_is_waited_for_in_the_middle(clock: Clock) -> None:
    bar = Bar(total=10, file=io.StringIO(), mininterval=0)
    for number in range(6):
        if number in (0, 3):
            bar.compiling()
            clock.now += 100
        else:
            clock.now += 2
        bar.update()
    assert bar.n == 6 and "00:08<00:08,  2.00s/it" in str(bar)


def test_what_took_no_work_counts_for_neither_speed_nor_time_left(clock: Clock) -> None:
    shown = io.StringIO()
    bar = Bar(total=20, file=shown, mininterval=0)
    for _ in range(10):
        clock.now += 3  # to find it
        bar.skip()
    assert bar.n == 10 and "<?" in str(bar)
    for _ in range(5):
        clock.now += 2
        bar.update()
    assert "15/20 [00:10<00:10,  2.00s/it" in str(bar)
    bar.close()
    assert "15/20 [00:10<00:10,  2.00s/it" in shown.getvalue().split("\r")[-1]


def test_a_hidden_bar_counts_nothing_and_says_nothing() -> None:
    shown = io.StringIO()
    bar = Bar(total=10, file=shown, disable=True)
    bar.compiling()
    bar.update()
    bar.skip()
    assert shown.getvalue() == ""


def test_where_nothing_can_be_printed_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr("sys.stdout", full)
        say("step 1\n" * 10_000)
        with Bar(total=3, file=full, mininterval=0) as bar:
            for _ in range(3):
                bar.update()
        with suppress(OSError):
            full.close()


def test_a_bar_is_live_in_terminals_and_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert not live()
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert live()
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert live()
