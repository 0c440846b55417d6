"""Plans: configurations, inputs, projections, refusals with their cures, and what changed since."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmbdask.cluster.config import ClusterConfig
from fmbdask.errors import ChangedError, ConfigError, InputError, RefusedError, RunError
from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.items import Item, read_items
from fmbdask.survey import plan as make_plan
from fmbdask.survey.config import SurveyConfig, read_config
from fmbdask.survey.pipelines import make
from fmbdask.survey.planning import changes, refuse
from fmbdask.survey.planning.calibrate import Calibration, Sample, calibrate, choose
from fmbdask.survey.planning.inputs import duplicates, find, make_items, name_items
from fmbdask.survey.planning.measure import spread
from fmbdask.survey.planning.plan import Plan, describe
from fmbdask.survey.planning.project import project, with_costs

SHAPE = (12, 40, 48)
TEMPLATES = Path(__file__).resolve().parents[2] / "configs" / "survey"


def exposure(path: Path, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Path:
    rng = np.random.default_rng(seed)
    counts = 1000 + np.cumsum(rng.poisson(5, shape), axis=0) + rng.normal(0, 10, shape)
    np.save(path, np.rint(counts).astype(np.uint16))
    return path


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three exposures and the smallest configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for number in range(3):
        exposure(tmp_path / "data" / f"e{number}.npy", number)
    (tmp_path / "darks.yaml").write_text(
        '{name: darks, pipeline: ramps, inputs: ["data/*.npy"], output: runs/darks}'
    )
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Plans do not measure: what is asked for is counted."""
    asked: list[int] = []

    def calibrate(config: SurveyConfig, items: list[Item], **_: Any) -> Calibration:
        asked.append(len(items))
        return Calibration((SAMPLE,), 200_000_000, {"host": "here", "cores": 2}, {}, ())

    monkeypatch.setattr(sys.modules["fmbdask.survey.planning.plan"], "calibrate", calibrate)
    return asked


SAMPLE = Sample(
    stage=0, kind=".npy uint16 4", nbytes=46080, pixels=1920, regions=1, prepare=0.2, region=0.5, reduce=0.3,
    memory=50_000_000, part=30_000, measured=1, nbytes_out=20_000, files=14,
)  # fmt: skip


# --- configurations


def test_paths_begin_in_the_working_folder_and_places_have_names(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "paths.yaml").write_text("archive: old\nscratch: $HERE/x\n")
    monkeypatch.setenv("HERE", "/there")
    config = read_config(
        {
            "inputs": ["{archive}/*.fits", "more.csv", "/abs/x.fits"],
            "output": "{scratch}/run",
            "exposure": {"bad_pixels": "bad.npy", "gain": "1.5"},
        }
    )
    assert config.inputs == (f"{work}/old/*.fits", f"{work}/more.csv", "/abs/x.fits")
    assert config.output == "/there/x/run"
    assert config.exposure.given() == {"bad_pixels": f"{work}/bad.npy", "gain": 1.5}
    assert SurveyConfig.model_validate(config.as_json()) == config


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"inptus": ["x"]}, "nearest is inputs"),
        ({"detection": {"false_alarm": 1}}, "nearest is detection.false_alarm_rate"),
        ({"pipeline": "rampz"}, "nearest is ramps"),
        ({"inputs": ["{data}/x"]}, "write `data: folder` into paths.yaml"),
        ({"memory": "many"}, "must be a size"),
        ({"name": "a/b"}, "without slashes"),
    ],
)
def test_mistakes_in_a_configuration(work: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_config(given)


def test_the_template_is_the_smallest_configuration(work: Path) -> None:
    config = read_config(TEMPLATES / "darks.yaml")
    smallest = {"name": "darks", "pipeline": "ramps", "inputs": ["data/*.fits"], "output": "runs/darks"}
    assert config == read_config(smallest)


# --- inputs


def test_manifests_of_both_kinds_and_patterns(work: Path) -> None:
    table = pd.DataFrame({"path": ["data/e0.npy", "/x/y.fits"], "shape": ["1x12x40x48", "12,40,48"]})
    table.to_csv("list.csv", index=False)
    table.assign(dtype="uint16").to_parquet("list.parquet")
    found, empty = find(
        [f"{work}/list.csv", f"{work}/list.parquet", f"{work}/none*", f"{work}/data/*[12].npy"]
    )
    assert [Path(f.path).name for f in found] == ["e0.npy", "y.fits", "e0.npy", "y.fits", "e1.npy", "e2.npy"]
    assert found[0].path == f"{work}/data/e0.npy"
    assert {f.shape for f in found[:4]} == {(1, *SHAPE)}
    assert [f.dtype for f in found[:4]] == ["", "", "uint16", "uint16"]
    assert empty == [f"{work}/none*"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("file\nx\n", "no column path"), ("path,shape\nx,big\n", "write it like"), ("", "manifest")],
)
def test_manifests_that_cannot_be_read(work: Path, text: str, says: str) -> None:
    (work / "list.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        find([f"{work}/list.csv"])


def test_manifests_with_lists_gaps_and_paths_that_are_not_plain(work: Path) -> None:
    rows = {
        "path": ["data/e0.npy", "/a/../b//c.fits.gz", "/b/d.fits"],
        "shape": [[12, 40, 48], None, [2, 12, 40, 48]],
        "dtype": ["uint16", None, ">i2"],
        "size": [None, 7, None],
    }
    pd.DataFrame(rows).to_parquet("list.parquet")
    found, _ = find([f"{work}/list.parquet"])
    assert [f.path for f in found] == [f"{work}/data/e0.npy", "/b/c.fits.gz", "/b/d.fits"]
    assert [f.shape for f in found] == [(1, *SHAPE), (), (2, 12, 40, 48)]
    assert [(f.dtype, f.size, f.mtime_ns) for f in found] == [("uint16", -1, 0), ("", 7, 0), (">i2", -1, 0)]
    with pytest.raises(IndexError):
        found[3]


def test_inputs_of_a_manifest_are_named_and_looked_up_where_it_does_not_tell(
    work: Path, measured: list[int]
) -> None:
    rows = {"path": ["data/e0.npy", "data/no.npy", "other/e0.npy"], "shape": "12x40x48", "dtype": "uint16"}
    pd.DataFrame(rows).to_parquet("list.parquet")
    made = make_plan({"inputs": ["list.parquet"], "output": "runs/x"})
    assert [item.name for item in made.items] == ["data-e0", "no", "other-e0"]
    assert made.items[0].size == (work / "data" / "e0.npy").stat().st_size
    assert list(made.items.problems) == [1, 2]
    assert made.projected.bad == 2
    assert made.projected.regions == 1


def test_the_same_file_by_another_name_or_link_is_given_twice(work: Path) -> None:
    (work / "data" / "soft.npy").symlink_to(work / "data" / "e0.npy")
    os.link(work / "data" / "e1.npy", work / "data" / "hard.npy")
    shutil.copy2(work / "data" / "e2.npy", work / "data" / "copy.npy")
    pipeline = make(read_config({}))
    items = make_items(pipeline, find([f"{work}/data/*.npy", f"{work}/data/e2.npy"])[0])
    pairs = {tuple(sorted(Path(p).name for p in pair)) for pair in duplicates(items)}
    assert pairs == {("e0.npy", "soft.npy"), ("e1.npy", "hard.npy"), ("e2.npy", "e2.npy")}
    assert duplicates(items[:1], items[1:2]) == []


def test_names_are_unique_also_beside_those_that_the_run_has() -> None:
    inputs = [("/a/x.fits", ""), ("/b/x.fits", ""), ("/b/y.fits.gz", "")]
    assert name_items(inputs, set()) == ["a-x", "b-x", "y"]
    names = name_items(inputs, {"y", "a-x"})
    assert len({*names, "y", "a-x"}) == 5
    assert names[1] == "b-x"


def test_regions_of_a_manifest_are_planned_without_opening_it(work: Path, measured: list[int]) -> None:
    count = 4000
    rows = {
        "path": [f"/nowhere/{n}.fits" for n in range(count)],
        "shape": "1x450x2048x2048",
        "dtype": "uint16",
    }
    pd.DataFrame(rows | {"size": 3_774_876_480, "mtime_ns": 1}).to_parquet("list.parquet")
    made = make_plan({"inputs": ["list.parquet"], "output": "runs/x"})
    assert made.projected.regions == count * 256
    assert made.projected.bad == 0
    assert made.items[7].nbytes == 450 * 2048 * 2048 * 2
    assert measured == [count]


# --- calibration and projection


def test_a_plan_measures_and_says_what_the_run_takes(work: Path) -> None:
    made = make_plan("darks.yaml")
    made.check()
    p = made.projected
    assert (p.inputs, p.bad, p.regions, p.nbytes_in) == (3, 0, 3, 3 * 12 * 40 * 48 * 2)
    (sample, *_) = made.calibration.samples
    assert min(sample.prepare, sample.region, sample.reduce, sample.memory) > 0
    assert p.seconds == pytest.approx(sum(i.seconds for i in made.items))
    assert p.worker_memory > made.calibration.imports > 50e6
    text = describe(made)
    assert "3 regions" in text
    assert "core-hours" in text
    folder = made.save()
    assert Plan.load(folder.path).as_json() == made.as_json()
    assert read_items(folder.items_file) == list(made.items)
    begin = time.perf_counter()
    again = make_plan("darks.yaml")
    assert again.calibration == made.calibration
    assert time.perf_counter() - begin < 60


def test_processes_measure_side_by_side_and_say_when_they_are_ready(work: Path) -> None:
    config = read_config("darks.yaml")
    items = make_items(make(config), find(config.inputs)[0])
    told: list[tuple[int, int]] = []
    found = calibrate(
        config, items, seconds=0.0, side=2, progress=lambda done, of, _: told.append((done, of))
    )
    assert found.problems == ()
    assert len(found.samples) == 4
    assert found.start > 0
    assert sorted(told) == [(n, 4) for n in range(4)]
    site = ClusterConfig(kind="tcp")
    priced = with_costs(items, make(config), found)
    ready = project(config, priced, replace(found, start=0.0), site, 1).wall_seconds
    assert project(config, priced, found, site, 1).wall_seconds == pytest.approx(ready + found.start)


def test_costs_follow_size_and_kind() -> None:
    large = replace(
        SAMPLE, nbytes=10 * SAMPLE.nbytes, pixels=10 * SAMPLE.pixels, regions=10, region=0.5, reduce=3.0
    )
    other = replace(SAMPLE, kind=".fits uint16 4", region=5.0)
    known = Calibration((SAMPLE, large, other))
    item = Item(0, "a", "/x/a.npy", shape=(1, *SHAPE), dtype="uint16", regions=(1,), nbytes=SAMPLE.nbytes)
    costs = known.costs(0, item)
    assert (costs.prepare, costs.region, costs.reduce) == pytest.approx((0.2, 0.5, 0.3))
    double = replace(item, shape=(1, 12, 80, 48), nbytes=2 * item.nbytes, regions=(2,))
    assert known.costs(0, double).region == pytest.approx(0.5)
    assert known.seconds(double) == pytest.approx(0.2 + 2 * 0.5 + 2 * 0.3)
    assert known.costs(0, replace(item, path="/x/a.fits")).region == pytest.approx(5.0)
    assert known.costs(0, replace(item, path="/x/a.zarr")).region > 0
    assert Calibration().seconds(item) == 0


def test_what_is_measured_stands_for_all() -> None:
    def items(count: int, nbytes: int, suffix: str) -> list[Item]:
        shape = (1, 10, 10, nbytes // 200)
        return [
            Item(n, "", f"/x/{nbytes}-{n}.{suffix}", shape=shape, dtype="uint16", regions=(1,), nbytes=nbytes)
            for n in range(count)
        ]

    chosen = choose(
        [*items(9, 2000, "npy"), *items(1, 4000, "npy"), *items(2, 6000, "npy"), *items(5, 2000, "fits")]
    )
    assert {(i.path.rpartition(".")[2], i.nbytes) for i in chosen} == {
        ("npy", 2000), ("npy", 6000), ("fits", 2000)
    }  # fmt: skip
    assert len(chosen) == 5


def test_the_order_of_measured_regions_is_spread() -> None:
    for count in (1, 2, 3, 7, 12, 100, 256):
        assert sorted(spread(count)) == list(range(count))
    assert np.ptp(spread(256)[:8]) > 128


# --- refusals


def refused(given: dict[str, Any], **options: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        make_plan(given, **options).check()
    return str(caught.value)


def test_every_reason_is_told_at_once(work: Path, measured: list[int]) -> None:
    (work / "file").touch()
    text = refused({"inputs": ["data/*.npy", "data/e1.npy"], "output": "file", "memory": "100MB"})
    assert "3 reasons" in text
    for words in (
        "given twice",
        "name each input once",
        "may use 100 MB",
        "give workers more memory",
        "is a file",
    ):
        assert words in text


def test_no_inputs_and_only_bad_ones_are_refused(work: Path) -> None:
    assert "data/*.fits match nothing" in refused({"inputs": ["data/*.fits"], "output": "x"})
    assert "no inputs are given" in refused({"output": "x"})
    (work / "text.fits").write_text("nothing")
    assert "none of 1 inputs can be used" in refused({"inputs": ["text.fits"], "output": "x"})
    assert "name the folder of the run" in refused({"inputs": ["data/*.npy"]})


def test_one_bad_input_refuses_nothing(work: Path, measured: list[int]) -> None:
    (work / "data" / "bad.npy").write_text("nothing")
    made = make_plan("darks.yaml")
    made.check()
    assert made.projected.bad == 1
    assert [n for n in made.notes if n.startswith("bad will fail")]


def test_too_little_space_and_no_permission_are_refused(
    work: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
        assert "make room" in refused({"inputs": ["data/*.npy"], "output": "x"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "cannot be written" in str(refuse.of_output(f"{work}/x/y", 0)[0])


def test_a_walltime_shorter_than_a_region_is_refused(work: Path, measured: list[int]) -> None:
    site = ClusterConfig(kind="slurm", walltime="00:01:00", workers=5, processes=2, memory="4GB")
    text = refused({"inputs": ["data/*.npy"], "output": "x"}, cluster=site)
    assert "ends before one region" in text
    assert "walltime of at least 2 minutes" in text
    longer = make_plan(
        {"inputs": ["data/*.npy"], "output": "x"}, cluster=site.model_copy(update={"walltime": "02:00"})
    )
    longer.check()
    assert (longer.projected.slots, longer.projected.jobs) == (5, 3)


def test_more_threads_are_faster_until_one_input_is_the_limit(work: Path, measured: list[int]) -> None:
    config = read_config({"inputs": ["data/*.npy"], "output": "x"})
    pipeline = make(config)
    calibration = Calibration((SAMPLE,), 10**8)
    items = with_costs(make_items(pipeline, find(config.inputs)[0]), pipeline, calibration)
    site = ClusterConfig(kind="tcp")
    walls = [project(config, items, calibration, site, n).wall_seconds for n in (1, 3, 30)]
    assert 3.0 < walls[0] < 3.3  # what the inputs take, and the gaps between units and tasks
    assert 1.0 < walls[1] < walls[0] / 2
    assert walls[2] == 1.0


def test_a_run_that_has_begun_is_not_planned_again(work: Path, measured: list[int]) -> None:
    folder = make_plan("darks.yaml").save()
    make_plan("darks.yaml").save()
    acquire(folder.epochs).release()
    assert "survey resume" in refused({"inputs": ["data/*.npy"], "output": "runs/darks"})


# --- changes


class Recorder:
    """Takes down what a coordinator would decide."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.begun, self.committed = folder, [], 0

    def anew(self, stage: int, item: int, note: str) -> None:
        self.begun.append(item)

    def event(self, note: str) -> None:
        self.note = note

    def commit(self) -> None:
        self.committed += 1


def test_changed_inputs_are_told_refused_and_accepted(work: Path, measured: list[int]) -> None:
    folder = make_plan("darks.yaml").save()
    assert changes.compare(folder) == []
    exposure(work / "data" / "e1.npy", 9, (14, 40, 48))
    (work / "data" / "e2.npy").unlink()
    found = changes.compare(folder)
    assert [c.item for c in found] == [1, 2]
    assert "e1.npy: 46208 bytes of" in str(found[0])
    assert "does not exist" in str(found[1])
    with pytest.raises(ChangedError, match="--accept-changes"):
        changes.refuse(folder, found)
    recorder = Recorder(folder)
    changes.accept(recorder, found)  # type: ignore[arg-type]
    assert recorder.begun == [1, 2, -1]
    assert recorder.committed == 1
    items = read_items(folder.items_file)
    assert items[1].shape == (1, 14, 40, 48)
    assert "does not exist" in items[2].problem
    assert [i.name for i in items] == ["e0", "e1", "e2"]
    assert changes.compare(folder) == []


def test_a_changed_configuration_begins_everything_anew(work: Path, measured: list[int]) -> None:
    np.save("bad.npy", np.zeros(SHAPE[1:], bool))
    text = '{inputs: ["data/*.npy"], output: runs/darks, exposure: {bad_pixels: bad.npy}, memory: 4GB}'
    (work / "darks.yaml").write_text(text)
    folder = make_plan("darks.yaml").save()
    (work / "darks.yaml").write_text(text.replace("4GB", "5GB, span_seconds: 2"))
    assert changes.compare(folder) == []
    np.save("bad.npy", np.ones(SHAPE[1:], bool))
    assert [c.what for c in changes.compare(folder)] == [f"contents.{work}/bad.npy"]
    (work / "darks.yaml").write_text(text.replace("memory", "detection: {false_alarm_rate: 1.0e-6}, memory"))
    found = changes.compare(folder)
    assert "detection.false_alarm_rate: 1e-05 -> 1e-06" in map(str, found)
    recorder = Recorder(folder)
    changes.accept(recorder, found)  # type: ignore[arg-type]
    assert recorder.begun == [0, 1, 2, -1]
    assert changes.compare(folder) == []
    assert Plan.load(folder.path).config.detection.false_alarm_rate == 1e-6


def test_options_that_are_new_in_a_version_are_no_change(work: Path, measured: list[int]) -> None:
    folder = make_plan("darks.yaml").save()
    content = folder.read_json(folder.run_file)
    for kept in (content["config"], content["fingerprint"]):  # as a version without this option wrote it
        del kept["detection"]["rho_floor"]
    folder.run_file.write_text(json.dumps(content))
    assert changes.compare(folder) == []
    text = (work / "darks.yaml").read_text()
    (work / "darks.yaml").write_text(text.replace("}", ", detection: {rho_floor: 0.02}}"))
    assert [str(c) for c in changes.compare(folder)] == ["detection.rho_floor: 0.005 -> 0.02"]


def test_other_versions_are_worth_a_word(work: Path, measured: list[int]) -> None:
    folder = make_plan("darks.yaml").save()
    assert changes.other_versions(folder) == []
    content = folder.read_json(folder.run_file)
    content["versions"]["numpy"] = "1.0"
    folder.run_file.write_text(json.dumps(content))
    (line,) = changes.other_versions(folder)
    assert line == f"numpy: 1.0 -> {np.__version__}"


def test_damaged_plans_are_told(work: Path, measured: list[int]) -> None:
    folder = make_plan("darks.yaml").save()
    folder.plan_file.write_text("{}")
    with pytest.raises(RunError, match="plan the run anew"):
        Plan.load(folder.path)
