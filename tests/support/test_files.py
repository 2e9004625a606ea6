"""Files and folders that are there whole or not at all."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fusion_classifier.errors import FecError
from fusion_classifier.support.files import NODE, atomic_file, atomic_folder, atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


# Files.


def test_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename within one file system
    assert path.read_text() == "new"
    assert names(path.parent) == ["out.txt"]


def test_temporary_file_keeps_the_ending(tmp_path: Path) -> None:
    """Writers such as matplotlib choose the format by it."""
    with atomic_file(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.touch()


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), FecError("no")])
def test_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, atomic_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert caught.value is error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_block_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(FecError, match=r"out\.txt can't be written"), atomic_file(path):
        pass
    assert path.read_text() == "old"


@settings(deadline=None, max_examples=30)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40))
def test_written_text_is_utf8_to_the_letter(shared: Path, text: str) -> None:
    path = shared / "text.txt"
    atomic_write(path, text)
    assert path.read_bytes() == text.encode()


@pytest.mark.posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "out.txt") as temporary:
            temporary.touch(mode=0o600)
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "weights").touch(mode=0o600)
        assert os.umask(umask) == umask  # reading the mask did not change it
    finally:
        os.umask(before)
    for path in (tmp_path / "out.txt", tmp_path / "model" / "sub" / "weights"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_place_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FecError, match="out can't be written"):
        atomic_write(tmp_path / "out", "text")
    assert names(tmp_path) == ["out"]


def test_place_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(FecError, match=r"out\.txt can't be written"):
        atomic_write(tmp_path / "file" / "out.txt", "text")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("length", [300, 5000])
def test_name_too_long_is_an_error(tmp_path: Path, length: int) -> None:
    with pytest.raises(FecError, match="can't be written"):
        atomic_write(tmp_path / ("n" * length), "text")


def test_current_folder_can_not_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FecError):
        atomic_write(Path(), "text")


# Folders.


def test_folder_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "model"
    with atomic_folder(path) as temporary:
        (temporary / "weights").write_text("new")
        assert not path.exists()
    assert (path / "weights").read_text() == "new"
    assert names(path.parent) == ["model"]


def test_folder_replaces_the_old_one_with_all_its_content(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), FecError("no")])
def test_failed_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(type(error)), atomic_folder(path) as temporary:  # noqa: PT012
        (temporary / "half").write_text("half")
        raise error
    assert names(path) == ["old"]
    assert names(tmp_path) == ["model"]


def test_old_folder_stays_if_the_new_one_can_not_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(FecError, match="can't be written"), atomic_folder(path) as temporary:
        shutil.rmtree(temporary)  # so that it can't be moved
    assert names(tmp_path) == ["model"]
    assert names(path) == ["old"]


def test_folder_over_a_file_leaves_no_hidden_rest(tmp_path: Path) -> None:
    """Whether the file is replaced or refused."""
    path = tmp_path / "model"
    path.write_text("old")
    try:
        with atomic_folder(path) as temporary:
            (temporary / "new").touch()
    except FecError:
        assert path.read_text() == "old"
    else:
        assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.posix
def test_folder_over_a_link_leaves_no_hidden_rest(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model", "real"]


def test_folder_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FecError, match="model can't be written"), atomic_folder(tmp_path / "file" / "model"):
        pass


def test_current_folder_is_replaced_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either it works or it is an error with a reason; never a traceback."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    try:
        with atomic_folder(Path()) as temporary:
            (temporary / "new").touch()
    except FecError:
        pass
    else:
        assert names(place) == ["new"]


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    dead, alive = dead_process(), os.getppid()
    ours = [f".out.{NODE}.{dead}.tmp.txt", f".model.{NODE}.{dead}.tmp", f".model.{NODE}.{dead}.old"]
    others = [
        f".out.{NODE}.{alive}.tmp.txt",
        f".out.elsewhere.{dead}.tmp.txt",
        f".out.{NODE}.{dead}.tmp.csv",
        f".outer.{NODE}.{dead}.tmp.txt",
    ]
    for name in [*ours, *others]:
        (tmp_path / name).touch()
    (tmp_path / ours[1]).unlink()
    (tmp_path / ours[1] / "sub").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    atomic_write(tmp_path / "out.txt", "text")
    with atomic_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == sorted([*others, "out.txt", "model"])


def test_a_kill_between_two_renamings_is_repaired(tmp_path: Path) -> None:
    old = tmp_path / f".model.{NODE}.{dead_process()}.old"
    old.mkdir()
    (old / "weights").write_text("old", "utf-8")
    with pytest.raises(ValueError, match="fails"), atomic_folder(tmp_path / "model"):
        raise ValueError("fails")
    assert (tmp_path / "model" / "weights").read_text("utf-8") == "old"
    assert names(tmp_path) == ["model"]


def test_what_a_library_in_rust_can_not_write_is_reported(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "weights.safetensors") as temporary:
            temporary.mkdir()
            save_file({"a": np.zeros(3)}, temporary)

    with pytest.raises(FecError, match=r"weights.safetensors can't be written .*os error"):
        write()


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_folder(tmp_path / "folder"):
        raise KeyError("a")


@pytest.mark.posix
def test_the_mask_of_the_process_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may create a file at any moment."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("changed"))
    atomic_write(tmp_path / "one.txt", "text")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "one.txt").write_text("text")
    assert names(tmp_path) == ["folder", "one.txt"]
    assert names(tmp_path / "folder") == ["one.txt"]
