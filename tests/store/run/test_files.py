"""Journals, parts, products, items and the folder of a run: whole or not there, also on a full disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.errors import RunError
from fmbdask.store.run.folder import RunFolder, write_json
from fmbdask.store.run.items import Item, read_items, write_items
from fmbdask.store.run.journal import JournalWriter, journal_path, journals, read_journal
from fmbdask.store.run.parts import DamagedPartError, PartWriter, folder_checksum, read_part
from fmbdask.store.run.units import REDUCE, Part, Record, Unit


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.make()
    return made


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


names = st.text(max_size=5)
reals = st.floats(0, 1e6)


@given(
    st.builds(
        Record,
        st.sampled_from(["started", "ended", "failed", "event"]),
        st.builds(Unit, st.integers(0, 3), st.integers(-1, 2**40), st.integers(REDUCE, 2**40)),
        generation=st.integers(0, 5),
        time=reals,
        worker=names,
        seconds=reals,
        nbytes=st.integers(0, 2**50),
        part=st.none()
        | st.builds(Part, names, st.integers(0, 2**50), st.integers(0, 2**40), st.just("ab" * 16)),
        cause=names,
        final=st.booleans(),
        note=names,
        extra=st.dictionaries(names, st.integers() | names),
    )
)
def test_records_survive_as_json(record: Record) -> None:
    assert Record.from_json(record.as_json()) == record


def test_a_journal_on_a_full_disk_keeps_whole_lines_only(full_disk: Path) -> None:
    filler = full_disk / "filler"
    filler.write_bytes(bytes(50_000))
    written = 0
    with JournalWriter(journal_path(full_disk, 1, "task")) as journal:
        with suppress(OSError):
            while True:
                journal.write(Record("event", Unit(0, 0, 0), note="x" * 700))
                written += 1
        filler.unlink()
        journal.write(Record("event", Unit(0, 0, 0), note="room again"))
    records, end = read_journal(journal.path)
    assert [r.note for r in records] == ["x" * 700] * written + ["room again"]
    assert end == journal.path.stat().st_size


def test_a_journal_is_never_shared(folder: RunFolder) -> None:
    with JournalWriter(journal_path(folder.journal, 1, "task")) as journal, pytest.raises(FileExistsError):
        JournalWriter(journal.path)
    assert dict(journals(folder.journal)) == {f"00001/{journal.path.name}": 0}


def test_lines_are_forced_to_the_disk_with_what_they_speak_of(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    journal = JournalWriter(journal_path(folder.journal, 1, "task"), beside=lambda: done.append("parts"))
    monkeypatch.setattr(
        os, "fsync", lambda handle: done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    )
    monkeypatch.setattr("fmbdask.store.run.journal.SYNC_INTERVAL", -1.0)
    journal.write(Record("event", Unit(0, 0, 0)))
    journal.close()
    name = journal.path.name
    assert sorted(done[:4]) == sorted(["parts", name, "00001", "journal"])
    assert sorted(done[4:]) == sorted(["parts", name])


def test_parts_on_a_full_disk(full_disk: Path) -> None:
    run = RunFolder(full_disk / "run")
    run.make()
    filler = full_disk / "filler"
    with PartWriter(run, "00001/task") as writer:
        first = writer.write(np.arange(1000))
        filler.write_bytes(bytes(40_000))
        with pytest.raises(OSError, match="No space"):
            writer.write(np.arange(4000))
        filler.unlink()
        second = writer.write(np.arange(2000))
    assert read_part(run, first).size == 1000
    np.testing.assert_array_equal(read_part(run, second), np.arange(2000))


@pytest.mark.parametrize("harm", ["gone", "cut", "changed", "folder"])
def test_a_damaged_part_is_noticed(folder: RunFolder, harm: str) -> None:
    with PartWriter(folder, "00001/task") as writer:
        part = writer.write({"rows": [1, 2, 3]})
    assert read_part(folder, part) == {"rows": [1, 2, 3]}
    content = writer.path.read_bytes()
    writer.path.unlink()
    if harm == "cut":
        writer.path.write_bytes(content[:-1])
    elif harm == "changed":
        writer.path.write_bytes(content[:10] + bytes([content[10] ^ 1]) + content[11:])
    elif harm == "folder":
        writer.path.mkdir()
    with pytest.raises(DamagedPartError, match="the region is done again"):
        read_part(folder, part)


def test_the_checksum_of_a_product_sees_names_and_bytes(tmp_path: Path) -> None:
    def product(name: str, files: dict[str, bytes]) -> tuple[int, str]:
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder_checksum(tmp_path / name, sync=True)

    first = product("a", {"x/1": b"one", "y": b"two"})
    assert first[0] == 6
    assert product("b", {"y": b"two", "x/1": b"one"}) == first
    for i, other in enumerate([{"x/1": b"onetwo", "y": b""}, {"x1": b"one", "y": b"two"}, {"x/1": b"one"}]):
        assert product(f"c{i}", other)[1] != first[1]
    with pytest.raises(FileNotFoundError):
        folder_checksum(tmp_path / "none")


def test_leftovers_of_killed_reductions_are_swept(folder: RunFolder) -> None:
    for name in (".item.0123abcd.partial", "stage/.item.0123abcd.partial", "item", "stage/item"):
        (folder.products / name).mkdir(parents=True)
        (folder.products / name / "file").write_text("")
    (folder.path / ".catalog.0123abcd.partial").mkdir()
    assert folder.sweep() == 3
    assert sorted(p.relative_to(folder.products).as_posix() for p in folder.products.rglob("file")) == [
        "item/file", "stage/item/file"
    ]  # fmt: skip
    assert folder.catalog.exists()


def test_items_survive_and_damage_is_named(folder: RunFolder) -> None:
    items = [
        Item(0, "a", "/data/a.fits", 5, 6, "ab", (1, 2, 3, 4), "uint16", 128, (16, 2), 7, 8, 0.5, 9, 1),
        Item(1, "ü b", "x", problem="it is empty"),
    ]
    write_items(folder.items_file, items)
    assert read_items(folder.items_file) == items
    folder.items_file.write_bytes(folder.items_file.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"items.parquet cannot be read .*: restore it"):
        read_items(folder.items_file)
    folder.items_file.unlink()
    with pytest.raises(RunError, match=r"items.parquet cannot be read"):
        read_items(folder.items_file)


def test_what_is_no_run_is_named(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="holds no run"):
        RunFolder.at(folder.path)
    write_json(folder.run_file, {"layout": 99})
    with pytest.raises(RunError, match="is a run of layout 99"):
        RunFolder.at(folder.path)
    for content in ("{", "[]", "\udcff".encode(errors="surrogateescape")):
        folder.run_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RunError, match=r"run.json (cannot be read|is damaged)"):
            RunFolder.at(folder.path)
    write_json(folder.run_file, {"layout": 1})
    assert RunFolder.at(folder.path).relative(folder.products / "x") == "products/x"
