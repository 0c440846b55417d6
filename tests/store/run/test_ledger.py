"""The ledger: the same from any order of the same journals, whatever was torn, deleted or damaged."""

from __future__ import annotations

import errno
import fcntl
import json
import random
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmbdask.errors import RunError
from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.journal import journal_path
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import PREPARE, REDUCE, Part, Record, Unit

CONTENTS = (
    "SELECT path, bytes FROM journal",
    "SELECT item, stage, generation FROM anew",
    "SELECT * FROM retry",
    "SELECT * FROM started",
    "SELECT stage, item, region, generation, path, offset, length, checksum, seconds, time, name, extra "
    "FROM {} JOIN file ON file.id = file JOIN worker ON worker.id = worker",
    "SELECT stage, item, region, generation, path, offset FROM spare JOIN file ON file.id = file",
    "SELECT stage, item, region, path, offset FROM void JOIN file ON file.id = file",
    "SELECT * FROM failed",
    "SELECT * FROM event",
)


def contents(ledger: Ledger) -> list[list[Any]]:
    """All rows of all tables, with names in place of numbers, which depend on the order."""
    return [sorted(ledger._db.execute(q.format("ended")).fetchall(), key=repr) for q in CONTENTS]


def folder_at(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.make()
    return folder


def ended(unit: Unit, *, file: str = "a", offset: int = 0, **fields: Any) -> Record:
    part = Part(f"parts/{file}.parts", offset, 10, f"{offset:032x}")
    return Record("ended", unit, part=part, worker=f"host/{file}", seconds=1.0, **fields)


def line(record: Record) -> str:
    return json.dumps(record.as_json(), separators=(",", ":")) + "\n"


def write(folder: RunFolder, name: str, *records: Record, epoch: int = 1) -> Path:
    path = journal_path(folder.journal, epoch, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line(record) for record in records))
    return path


units = st.builds(Unit, st.integers(0, 1), st.integers(-1, 1), st.integers(REDUCE, 2))
parts = st.builds(
    lambda f, o: Part(f"parts/{f}", o, 7, f"{o:032x}"), st.sampled_from("ab"), st.integers(0, 2)
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record, from few units, parts, generations and epochs, so that they meet."""
    kind = draw(
        st.sampled_from(
            ["started", "ended", "ended", "ended", "failed", "lost", "anew", "retry", "void", "event"]
        )
    )
    fields: dict[str, Any] = {
        "generation": draw(st.integers(0, 2)),
        "epoch": draw(st.integers(1, 3)),
        "time": float(draw(st.integers(0, 3))),
        "worker": draw(st.sampled_from(["x", "y"])),
    }
    if kind in ("ended", "void"):
        fields["part"] = draw(parts)
    if kind == "ended":  # a result lies where no other one lies
        fields["time"] = float(fields["part"].offset + 10 * (fields["part"].path == "parts/b"))
        fields["worker"] = "x"
        fields["generation"] = fields["part"].offset
    if kind in ("failed", "lost"):
        fields |= {"cause": draw(st.sampled_from(["io", "lost"])), "final": draw(st.booleans())}
    return Record(kind, draw(units), **fields)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(records(), max_size=8), max_size=5), st.randoms(use_true_random=False))
def test_any_order_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, journals: list[list[Record]], chance: random.Random
) -> None:
    folder = folder_at(tmp_path_factory.mktemp("run") / "run")
    # piece by piece, as a run goes on: each journal grows at its own pace, and the ledger follows
    paths = [journal_path(folder.journal, 1, f"task-{i}") for i in range(len(journals))]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    waiting = [list(journal) for journal in journals]
    with Ledger.open(folder) as ledger:
        while any(waiting):
            i = chance.choice([i for i, w in enumerate(waiting) if w])
            with paths[i].open("a") as file:
                file.write(line(waiting[i].pop(0)))
            if chance.random() < 0.4:
                ledger.update()
        ledger.update()
        grown = contents(ledger)
        failures = ledger.failures()
    folder.ledger_file.unlink()
    with Ledger.open(folder) as rebuilt:
        assert contents(rebuilt) == grown
        assert rebuilt.failures() == failures
    with Ledger.snapshot(folder) as copy:
        assert contents(copy) == grown
    # one by one, in any order
    everything = [record for journal in journals for record in journal]
    chance.shuffle(everything)
    other = folder_at(tmp_path_factory.mktemp("run") / "run")
    with Ledger.open(other) as shuffled:
        for record in everything:
            shuffled.apply([record])
        assert contents(shuffled)[1:] == grown[1:]


def test_what_ended_first_counts_until_it_is_void(tmp_path: Path) -> None:
    unit = Unit(0, 0, 3)
    first, second = ended(unit, file="a", time=1.0), ended(unit, file="b", time=2.0)
    with Ledger.open(folder_at(tmp_path / "run")) as ledger:
        ledger.apply([second])
        ledger.apply([first])
        assert ledger.part(unit) == first.part
        ledger.apply([Record("void", unit, part=first.part)])
        assert ledger.part(unit) == second.part
        ledger.apply([first])
        assert ledger.part(unit) == second.part
        ledger.apply([Record("void", unit, part=second.part)])
        assert ledger.part(unit) is None
        assert ledger.done(0, 0) == set()


def test_a_product_made_again_counts_though_an_earlier_one_is_void(tmp_path: Path) -> None:
    unit = Unit(0, 0, REDUCE)
    old, new = Part("products/x", 100, 5, "00" * 16), Part("products/x", 200, 5, "00" * 16)
    with Ledger.open(folder_at(tmp_path / "run")) as ledger:
        ledger.apply([Record("ended", unit, part=old), Record("void", unit, part=old)])
        assert ledger.part(unit) is None
        ledger.apply([Record("ended", unit, part=new)])
        assert ledger.part(unit) == new


def test_anew_leaves_nothing_of_before_from_its_stage_on(tmp_path: Path) -> None:
    with Ledger.open(folder_at(tmp_path / "run")) as ledger:
        ledger.apply(
            [ended(Unit(s, i, r), offset=9 * s + 3 * i + r) for s in (0, 1) for i in (0, 1) for r in (0, 1)]
        )
        ledger.apply([Record("failed", Unit(1, 0, 2), cause="data", final=True)])
        assert len(ledger.failures()) == 1
        ledger.apply([Record("anew", Unit(1, 0, REDUCE), generation=1)])
        assert ledger.done_counts() == {(0, 0): 2, (0, 1): 2, (1, 1): 2}
        assert ledger.failures() == []
        assert (ledger.generation(0), ledger.generation(0, 0), ledger.generation(1)) == (1, 0, 0)
        ledger.apply([ended(Unit(1, 0, 0), offset=50)])  # a worker that does not know yet
        assert ledger.done(1, 0) == set()
        ledger.apply([ended(Unit(1, 0, 0), offset=51, generation=1)])
        assert ledger.done(1, 0) == {0}


def test_retry_forgets_failures_of_earlier_epochs(tmp_path: Path) -> None:
    unit = Unit(0, 0, 0)
    failed = [Record("failed", unit, epoch=e, cause="code", final=True, note=f"epoch {e}") for e in (1, 2, 3)]
    with Ledger.open(folder_at(tmp_path / "run")) as ledger:
        ledger.apply(failed)
        ledger.apply([Record("retry", Unit(0, 0, REDUCE), epoch=2)])
        assert [f.note for f in ledger.failures()] == ["epoch 2", "epoch 3"]
        assert ledger.failures(final=False) == []
        ledger.apply([ended(unit)])
        assert ledger.failures() == []


def test_records_of_a_coordinator_that_was_replaced(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    late = write(folder, "task-1", ended(Unit(0, 0, 0), epoch=1), epoch=1)
    write(folder, "task-1", ended(Unit(0, 0, 1), offset=1, epoch=2), epoch=2)
    with Ledger.open(folder) as ledger:
        with late.open("a") as journal:  # thawed, it writes what it had in hand
            journal.write(line(ended(Unit(0, 0, 2), offset=2, epoch=1)))
        assert ledger.update() == 1
        assert ledger.done(0, 0) == {0, 1, 2}


def test_torn_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    path = write(folder, "task-1", *(ended(Unit(0, 0, r), offset=r) for r in range(4)))
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [
        lines[0], b"\0" * 300, b"\n", b"{}\n", b"[1, 2]\n", b'{"kind":"ended"}\n', b"\xff\xfe\n",
        lines[1].replace(b"[0,0,1]", b"[0,0]"), lines[1].replace(b'"length":10', b'"length":"ten"'),
        lines[1].replace(b'"seconds":1.0', b'"seconds":[1]'), lines[1].replace(b"[0,0,1]", b"[0,0,1e999]"),
        lines[1].replace(b'"seconds":1.0', b'"seconds":NaN'), lines[1].replace(b"[0,0,1]", b"[0,-7,1]"),
        lines[1].replace(b'"offset":1', b'"offset":9' + b"9" * 30),
        lines[1].replace(b'"kind":"ended"', b'"kind":["ended"]'),
        lines[1].replace(b'"kind":"ended"', b'"kind":"__class__"'),
        lines[2].replace(b'"seconds"', b'"of_a_later_version":1,"seconds"'),
        lines[3][:-20],
    ]  # fmt: skip
    assert lines[1] not in damaged
    path.write_bytes(b"".join(damaged))
    with Ledger.open(folder) as ledger:
        assert ledger.done(0, 0) == {0, 2}
        assert ledger.update() == 0
        with path.open("ab") as file:  # the torn line is whole now
            file.write(lines[3][-20:])
        assert ledger.update() == 1
        assert ledger.done(0, 0) == {0, 2, 3}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("harm", ["empty", "text", "cut", "zeros", "older", "other"])
def test_a_damaged_ledger_is_built_again(tmp_path: Path, harm: str, closed: bool) -> None:
    folder = folder_at(tmp_path / "run")
    for t in range(20):
        write(folder, f"task-{t:02}", *(ended(Unit(0, t, r), file=f"{t}", offset=r) for r in range(50)))
    with Ledger.open(folder) as ledger:
        right = contents(ledger)
    content = folder.ledger_file.read_bytes()
    match harm:
        case "empty":
            folder.ledger_file.write_bytes(b"")
        case "text":
            folder.ledger_file.write_bytes(b"no database" * 1000)
        case "cut":
            folder.ledger_file.write_bytes(content[: len(content) // 2])
        case "zeros":
            half = len(content) // 2
            folder.ledger_file.write_bytes(content[:half] + bytes(8192) + content[half + 8192 :])
        case "older":
            with sqlite3.connect(folder.ledger_file) as db:
                db.execute("PRAGMA user_version = 1")
        case "other":  # of journals that are longer than these
            first = min(folder.journal.rglob("*.jsonl"))
            first.write_bytes(first.read_bytes()[:5000])
            folder.ledger_file.unlink()
            with Ledger.open(folder) as ledger:
                right = contents(ledger)
            folder.ledger_file.write_bytes(content)
    if not closed:
        (folder.path / "ledger.sqlite.seal").unlink()
    if harm != "other":  # to look is no reason to read everything again
        with Ledger.snapshot(folder) as copy:
            assert contents(copy) == right
    with Ledger.open(folder) as ledger:
        assert contents(ledger) == right


def test_a_bit_that_changed_on_the_disk_is_found(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    write(folder, "task", *(ended(Unit(0, t, r), offset=9 * t + r) for t in range(9) for r in range(9)))
    with Ledger.open(folder) as ledger:
        right = contents(ledger)
    content = folder.ledger_file.read_bytes()
    for place in random.Random(1).sample(range(len(content)), 60):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        folder.ledger_file.write_bytes(changed)
        with Ledger.snapshot(folder) as copy:
            assert contents(copy) == right
        with Ledger.open(folder) as ledger:
            assert contents(ledger) == right


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_at(tmp_path / "run")
    folder.run_file.write_text("{}")
    write(folder, "task-1", ended(Unit(0, 0, 0)))
    Ledger.open(folder).close()
    holder = sqlite3.connect(folder.ledger_file)
    holder.execute("BEGIN EXCLUSIVE")  # as if the file system said no to every lock

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    write(folder, "task-2", ended(Unit(0, 0, 1), offset=1))
    with Ledger.open(folder) as ledger:
        assert ledger.done(0, 0) == {0, 1}
    with Ledger.snapshot(folder) as copy:
        assert copy.done(0, 0) == {0, 1}
    holder.close()


def test_a_snapshot_sees_what_is_not_indexed_yet_and_holds_up_nobody(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    with Ledger.snapshot(folder) as copy:
        assert copy.done_counts() == {}
    assert not folder.ledger_file.exists()
    write(folder, "task-1", *(ended(Unit(0, 0, r), offset=r) for r in range(3)))
    with Ledger.open(folder) as ledger:
        ledger.apply([ended(Unit(0, 5, 0), offset=77)])  # not committed, in no journal
        write(folder, "task-2", ended(Unit(0, 0, 3), offset=3))
        with Ledger.snapshot(folder) as copy:
            assert copy.done(0, 0) == {0, 1, 2, 3}
            assert copy.done(0, 5) == set()
            ledger.commit()


def test_a_reader_that_stands_still_does_not_damage_the_ledger(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    write(folder, "task-1", ended(Unit(0, 0, 0)))
    ledger = Ledger.open(folder)
    ledger._db.execute("PRAGMA busy_timeout = 10")
    reader = sqlite3.connect(folder.ledger_file)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM ended").fetchone()
    ledger.apply([ended(Unit(0, 0, 1), offset=1)])
    ledger.commit()  # waits in memory
    assert ledger.done(0, 0) == {0, 1}
    reader.close()
    ledger.close()
    with Ledger.open(folder) as again:
        assert again.done(0, 0) == {0, 1}


def test_numbers_of_the_run(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    write(
        folder,
        "task-1",
        Record("started", Unit(0, 0, 0)),
        Record("started", Unit(0, 0, 0)),
        *(ended(Unit(0, 0, r), offset=r + 2, nbytes=10, time=100.0 + r) for r in (PREPARE, 0, 1, 2)),
        Record("event", Unit(0, -1, PREPARE), epoch=1, time=5.0, note="began", extra={"slots": 2}),
    )
    write(folder, "task-2", ended(Unit(0, 1, 0), file="b"), ended(Unit(0, 1, REDUCE), file="product"))
    with Ledger.open(folder) as ledger:
        assert ledger.executions() == {Unit(0, 0, 0): 2}
        assert ledger.done_counts() == {(0, 0): 3, (0, 1): 1}
        assert ledger.done_counts(PREPARE) == {(0, 0): 1}
        assert [e.unit.region for e in ledger.ended(0, 0)] == [PREPARE, 0, 1, 2]
        assert [e.unit.item for e in ledger.ended()] == [0, 0, 0, 0, 1, 1]
        assert [e.worker for e in ledger.ended(0, 1)] == ["host/product", "host/b"]
        totals = ledger.totals(since=101.0)
        assert (totals.regions, totals.nbytes, totals.recent_bytes, totals.last) == ({0: 4}, 40, 20, 102.0)
        assert [(e.note, e.extra) for e in ledger.events()] == [("began", {"slots": 2})]
        assert set(ledger.timings()["worker"]) == {"host/a", "host/b", "host/product"}


def test_files_that_cannot_be_used_are_named_in_one_sentence(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "run")
    path = write(folder, "task-1", ended(Unit(0, 0, 0)))
    path.rename(path.with_suffix(".kept"))
    path.mkdir()  # not even root can read a folder as a file
    with pytest.raises(RunError, match=r"task-1.*cannot be read \(Is a directory\)"):
        Ledger.open(folder)
    path.rmdir()
    folder.ledger_file.unlink()
    folder.ledger_file.mkdir()
    with pytest.raises(RunError, match=r"ledger.sqlite cannot be written"):
        Ledger.open(folder)


@pytest.fixture
def read_only(tmp_path: Path) -> Any:
    """A folder that nobody can write to, if this user may mount; else one without the permission."""
    place = tmp_path / "place"
    place.mkdir()
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True).returncode
    folder = folder_at(place / "run")
    write(folder, "task-1", ended(Unit(0, 0, 0)))

    def close() -> None:
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        else:
            folder.path.chmod(0o555)

    yield folder, close
    if mounted:
        subprocess.run(["umount", "-l", place], check=True)
    else:
        folder.path.chmod(0o755)


def test_a_run_in_a_read_only_folder_can_be_looked_at_but_not_opened(read_only: Any) -> None:
    folder, close = read_only
    Ledger.open(folder).close()
    close()
    with Ledger.snapshot(folder) as copy:
        assert copy.done(0, 0) == {0}
    with pytest.raises(RunError, match=r"ledger.sqlite cannot be written .*: see that the folder"):
        Ledger.open(folder).close()
