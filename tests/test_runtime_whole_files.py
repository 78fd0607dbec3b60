"""A file is replaced at once, or stays what it was; folders that cannot be written to are found."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from menet_jax.runtime.whole_files import check_writable, written_whole


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    with written_whole(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_what_fails_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, written_whole(path) as unfinished:
        unfinished.write_text("ne")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert str(path) in str(caught.value) and "No space left" in str(caught.value)


def test_what_a_killed_process_left_is_used_anew(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    with written_whole(path) as unfinished:
        unfinished.write_text("old")
    unfinished.write_text("half of it, and then the ki")
    with written_whole(path) as again:
        again.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_two_that_write_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert (first.read_text(), second.read_text()) == ("first", "second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_removed_either_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(30, "Read-only file system", "beside")
    monkeypatch.setattr(Path, "unlink", Mock(side_effect=error))
    named = f"Read-only file system: '{tmp_path}/map.png'"
    with pytest.raises(OSError, match=named), written_whole(tmp_path / "map.png"):
        raise error


def test_where_files_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert not any(tmp_path.iterdir())


def test_where_no_file_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(NotADirectoryError, match=r"/file: is a file, and a folder is needed$"):
            check_writable(folder)
    with pytest.raises(OSError, match=r"'/proc'$"):
        check_writable(Path("/proc"))
