"""Tasks on a worker: what is recorded, kept and published, whatever fails, and what is left to others."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmbdask.errors import InputError, RunError
from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.folder import write_json
from fmbdask.store.run.items import Item
from fmbdask.store.run.journal import read_journal
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.parts import folder_checksum, read_part
from fmbdask.store.run.units import PREPARE, REDUCE, Part, Record, Unit
from fmbdask.survey import pipelines
from fmbdask.survey.worker.task import TaskResult, run_task

from .small import Hook, SmallPipeline, SmallRun, SmallStage, install, numbers


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a run of the small pipeline, whose regions call a hook."""
    monkeypatch.setattr(pipelines, "load", pipelines.load)  # put back afterwards
    made: list[SmallRun] = []

    def make(hook: Hook | None = None, *, stages: int = 1, **options: Any) -> SmallRun:
        given = {} if hook is None else {"hook": hook}
        pipeline = SmallPipeline([SmallStage(f"stage{i}", **given) for i in range(stages)])
        install(pipeline)
        made.append(SmallRun(tmp_path / f"run{len(made)}", pipeline, **options))
        return made[-1]

    yield make
    for run in made:
        run.reign.release()


def do(run: SmallRun, units: list[Unit], **fields: Any) -> TaskResult:
    """Do units, and check what must hold of every result."""
    result = run_task(run.task(units, **fields))
    if result.journal:
        path = run.folder.path / result.journal
        assert read_journal(path) == (list(result.records), path.stat().st_size)
        assert result.nbytes == path.stat().st_size
    for record in result.records:
        if record.kind == "ended":
            assert record.part is not None
            run.known[record.unit] = record.part
    return result


def kinds(result: TaskResult) -> list[tuple[str, int]]:
    return [(r.kind, r.unit.region) for r in result.records if r.kind != "started"]


def failure(result: TaskResult) -> Record:
    found = [r for r in result.records if r.kind == "failed"]
    assert len(found) == 1
    return found[0]


def at(region: int, error: BaseException) -> Hook:
    """Fail at one region."""

    def hook(item: Item, here: int) -> None:
        if here == region:
            raise error

    return hook


def test_an_item_in_one_task(small: Any) -> None:
    run = small()
    result = do(run, run.units())
    assert kinds(result) == [("ended", r) for r in (PREPARE, 0, 1, 2, 3, REDUCE)]
    assert (result.left, result.why_left) == ((), "")
    assert [r.kind for r in result.records] == ["started", "ended"] * 6
    region = next(r for r in result.records if r.unit.region == 2 and r.kind == "ended")
    assert region.nbytes == 64
    assert len(region.inputs) == 32
    assert region.extra == {"events": 2}
    assert region.peak > 1e7
    assert region.seconds >= region.read + region.write >= 0
    assert (region.epoch, region.generation) == (1, 0)
    assert str(os.getpid()) in region.worker
    assert region.part is not None
    np.testing.assert_array_equal(read_part(run.folder, region.part), np.full(8, 4))
    product = result.records[-1].part
    assert product is not None
    assert product.path == "products/item0"
    assert folder_checksum(run.folder.path / product.path) == (product.length, product.checksum)
    assert numbers(run.folder.products / "item0")["total"] == [0, 8, 32, 72]
    with Ledger.open(run.folder) as ledger:
        assert ledger.done(0, 0) == {PREPARE, REDUCE, 0, 1, 2, 3}
        assert set(ledger.executions().values()) == {1}


def test_an_item_in_several_tasks_gives_the_same_bits(small: Any) -> None:
    whole, cut = small(), small()
    one = do(whole, whole.units()).records[-1]
    install(cut.pipeline)
    for units in ([PREPARE, 1], [3], [0, 2], [REDUCE]):
        last = do(cut, [Unit(0, 0, r) for r in units])
    assert one.part is not None
    assert last.records[-1].part is not None
    assert last.records[-1].part.checksum == one.part.checksum


def test_stages_follow_one_another(small: Any) -> None:
    run = small(stages=2, items=2)
    for stage in (0, 1):
        for item in (0, 1):
            do(run, run.units(item, stage))
        assert kinds(do(run, run.whole(stage))) == [("ended", REDUCE)]
    second = numbers(run.folder.products / "stage1" / "item1")
    assert second["earlier"]["stage0"] == numbers(run.folder.products / "stage0" / "item1")
    assert set(second["earlier"]) == {"stage0", "stage0.run"}
    assert set(numbers(run.folder.catalog)) == {"item0", "item1"}
    assert set(numbers(run.folder.products / "stage0.run")) == {"item0", "item1"}


def from_reader() -> InputError:
    """A reader's error that hides one of the file system."""
    error = InputError("darks.fits cannot be read")
    error.__cause__ = OSError(errno.EIO, "Input/output error")
    return error


@pytest.mark.parametrize(
    ("error", "cause", "final"),
    [
        (InputError("darks.fits is truncated: get it again"), "data", True),
        (MemoryError("12 GiB"), "memory", False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "darks.fits"), "io", False),
        (OSError(errno.EIO, "Input/output error"), "io", False),
        (from_reader(), "io", False),
        (ZeroDivisionError("division by zero"), "code", True),
        (SystemExit(3), "code", True),
        (ValueError(), "code", True),
    ],
)
def test_a_failure_is_recorded_with_its_cause(
    small: Any, error: BaseException, cause: str, final: bool
) -> None:
    run = small(at(1, error), items=2)
    result = do(run, run.units(0) + run.units(1)[:2])
    failed = failure(result)
    assert (failed.unit, failed.cause, failed.final, failed.counted) == (Unit(0, 0, 1), cause, final, True)
    assert failed.note
    assert (str(error) or type(error).__name__) in failed.note
    assert ("at(" in failed.log or "raise error" in failed.log) == (cause == "code")
    # the rest of its item is skipped, other items go on
    assert kinds(result) == [("ended", -1), ("ended", 0), ("failed", 1), ("ended", -1), ("ended", 0)]
    assert (result.left, result.why_left) == ((), "")


def test_what_cannot_be_pickled_fails_alone(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallStage, "map", lambda self, item, region, prepared, context: lambda: region)
    run = small()
    failed = failure(do(run, run.units()))
    assert (failed.cause, failed.unit.region) == ("code", 0)
    assert "pickle" in failed.note


def test_numbers_of_any_kind_can_be_recorded(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(self: Any, item: Item, region: int, prepared: Any, context: Any) -> int:
        context.extra |= {
            "a": np.float32(2.5),
            "b": np.arange(3),
            "c": np.True_,
            "d": Path("x"),
            "e": {1: None, (2, 3): 5},
        }
        if region == 1:
            context.extra["f"] = context.extra
        return region

    monkeypatch.setattr(SmallStage, "map", odd)
    run = small()
    result = do(run, run.units()[:3])
    extra = next(r.extra for r in result.records if r.unit.region == 0 and r.kind == "ended")
    assert extra == {"a": 2.5, "b": "[0 1 2]", "c": True, "d": "x", "e": {"1": None}}
    assert failure(result).cause == "code"
    with Ledger.open(run.folder) as ledger:
        assert ledger.done(0, 0) == {PREPARE, 0}


def test_a_known_problem_is_the_failure(small: Any) -> None:
    run = small()
    bad = {0: Item(0, "item0", "input0", regions=(4,), problem="input0 is empty: get it again")}
    failed = failure(do(run, run.units(), items=bad))
    assert (failed.cause, failed.note) == ("data", "input0 is empty: get it again")


def damage(run: SmallRun, part: Part) -> None:
    with (run.folder.path / part.path).open("r+b") as file:
        file.seek(part.offset + part.length // 2)
        file.write(b"\xa5\x5a")


def test_damaged_results_are_named_all_at_once(small: Any) -> None:
    run = small()
    do(run, run.units()[:-1])
    for region in (1, 3):
        damage(run, run.known[Unit(0, 0, region)])
    result = do(run, [Unit(0, 0, REDUCE)])
    failed = failure(result)
    assert (failed.cause, failed.final) == ("io", False)
    assert failed.extra == {"damaged": [[0, 0, 1], [0, 0, 3]]}
    assert not (run.folder.products / "item0").exists()
    for region in (1, 3):
        do(run, [Unit(0, 0, region)])
    assert kinds(do(run, [Unit(0, 0, REDUCE)])) == [("ended", REDUCE)]


def test_a_missing_preparation_is_named(small: Any) -> None:
    run = small()
    do(run, run.units()[:1])
    (run.folder.path / run.known[Unit(0, 0, PREPARE)].path).unlink()
    failed = failure(do(run, [Unit(0, 0, 0)]))
    assert (failed.cause, failed.extra) == ("io", {"damaged": [[0, 0, PREPARE]]})


def test_damaged_products_are_named(small: Any) -> None:
    run = small(items=3)
    for item in range(3):
        do(run, run.units(item))
    (run.folder.products / "item1" / "maps" / "map.bin").write_bytes(b"")
    (run.folder.products / "item2" / "numbers.json").unlink()
    failed = failure(do(run, run.whole()))
    assert (failed.cause, failed.extra) == ("io", {"damaged": [[0, 1, REDUCE], [0, 2, REDUCE]]})
    assert list(run.folder.catalog.iterdir()) == []


def test_a_product_that_is_there_is_recognised_or_replaced(small: Any) -> None:
    run = small()
    do(run, run.units())
    product = run.folder.products / "item0"
    made = product.stat().st_ino
    do(run, [Unit(0, 0, REDUCE)])
    assert product.stat().st_ino == made
    (product / "numbers.json").write_text("{}")
    do(run, [Unit(0, 0, REDUCE)])
    assert product.stat().st_ino != made
    assert numbers(product)["total"] == [0, 8, 32, 72]
    assert [p.name for p in run.folder.products.iterdir()] == ["item0"]


def test_a_stopped_run_leaves_what_has_not_begun(small: Any) -> None:
    def stop(item: Item, region: int) -> None:
        if region == 1:
            run.folder.stop_file.touch()

    run = small(stop)
    result = do(run, run.units())
    assert kinds(result) == [("ended", PREPARE), ("ended", 0), ("ended", 1)]
    assert (result.left, result.why_left) == (tuple(Unit(0, 0, r) for r in (2, 3, REDUCE)), "stop")


def test_a_worker_of_an_old_epoch_stops_and_publishes_nothing(small: Any) -> None:
    def taken_over(item: Item, region: int) -> None:
        if region == when:
            run.reign.release()
            acquire(run.folder.epochs).release()

    when = 1
    run = small(taken_over)
    result = do(run, run.units())
    assert kinds(result) == [("ended", PREPARE), ("ended", 0), ("ended", 1)]
    assert (result.left[0], result.why_left) == (Unit(0, 0, 2), "superseded")
    again = do(run, run.units())
    assert (again.records, again.left, again.why_left) == ((), tuple(run.units()), "superseded")
    when = REDUCE
    run = small(taken_over)
    result = do(run, run.units())
    assert [r.kind for r in result.records][-1] == "started"
    assert (result.left, result.why_left) == ((Unit(0, 0, REDUCE),), "superseded")
    assert list(run.folder.products.iterdir()) == []


def test_a_task_is_done_once(small: Any) -> None:
    run = small()
    task = run.task(run.units())
    assert run_task(task).why_left == ""
    again = run_task(task)
    assert (again.records, again.why_left) == ((), "begun")


@pytest.mark.parametrize("name", ["FMBDASK_JOB_END", "SLURM_JOB_END_TIME"])
def test_what_cannot_end_before_the_walltime_is_not_begun(
    small: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = small()
    monkeypatch.setenv(name, str(time.time() + 60))
    result = do(run, run.units(), seconds={"prepare": 1.0, "map": 10.0, "reduce": 50.0})
    assert (result.left, result.why_left) == ((Unit(0, 0, REDUCE),), "walltime")
    monkeypatch.setenv(name, str(time.time() - 5))
    result = do(run, [Unit(0, 0, REDUCE)])
    assert (result.records, result.why_left) == ((), "walltime")
    monkeypatch.setenv(name, "none")
    assert do(run, [Unit(0, 0, REDUCE)]).why_left == ""


def test_slower_units_than_expected_are_remembered(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMBDASK_JOB_END", "1000060")
    clock = iter(range(0, 100000, 10))  # a tick of 10 s at each look at the clock
    run = small()
    monkeypatch.setattr("fmbdask.survey.worker.task.time.time", lambda: 1000000.0)
    monkeypatch.setattr("fmbdask.survey.worker.task.time.perf_counter", lambda: next(clock) * 4)
    result = do(run, run.units())
    assert kinds(result) == [("ended", PREPARE), ("ended", 0)]
    assert result.why_left == "walltime"


def test_another_pipeline_than_that_of_the_run_is_refused(small: Any) -> None:
    run = small()
    content = run.folder.read_json(run.folder.run_file)
    write_json(run.folder.run_file, content | {"fingerprint": {"name": "large"}})
    with pytest.raises(RunError, match="is another one on"):
        run_task(run.task(run.units()))


def test_a_run_that_is_not_there_is_named(small: Any) -> None:
    run = small()
    run.folder.run_file.unlink()
    with pytest.raises(RunError, match=r"run.json cannot be read \(No such file"):
        run_task(run.task(run.units()))


def test_a_journal_that_cannot_be_written_is_named(small: Any) -> None:
    run = small()
    (run.folder.journal / "00001").write_text("in the way")
    with pytest.raises(RunError, match=r"the journal of the run in .* cannot be written"):
        run_task(run.task(run.units()))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True
    ).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("room", [0, 1, 4096, 20480, 65536, 90000])
def test_a_full_disk_stops_and_damages_nothing(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(pipelines, "load", pipelines.load)
    pipeline = SmallPipeline([SmallStage(size=3000)])
    install(pipeline)
    run = SmallRun(tiny_disk / "run", pipeline, regions=6)
    do(run, run.units()[:2])
    status = os.statvfs(tiny_disk)
    filler = tiny_disk / "filler"
    if room == 0:
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(2**20))
    else:
        filler.write_bytes(bytes(status.f_bavail * status.f_frsize - room))
    result = do(run, run.units()[2:])
    assert result.why_left == "space"
    assert result.left
    with Ledger.snapshot(run.folder) as ledger:
        done = {unit for unit in run.units() if unit.region in ledger.done(0, 0)}
        assert done == set(run.known)
        assert set(result.left) == set(run.units()) - done
    for part in run.known.values():
        read_part(run.folder, part)
    filler.unlink()
    run.folder.sweep()
    assert do(run, list(result.left)).why_left == ""
    assert len(numbers(run.folder.products / "item0")["total"]) == 6
    damaged = [path for path in run.folder.journal.rglob("*.jsonl") if not path.read_bytes().endswith(b"\n")]
    assert [path for path in damaged if path.stat().st_size] == []
    run.reign.release()
