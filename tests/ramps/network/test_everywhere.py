"""A network that looks at the whole exposure: what it finds there is proposed beside lines."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="networks need torch")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import xarray as xr  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import fmbdask  # noqa: E402
from fmbdask.cli.app import main  # noqa: E402
from fmbdask.errors import ConfigError  # noqa: E402
from fmbdask.models import patches  # noqa: E402
from fmbdask.models.handles import ModelHandle, OpenNetwork, save_network  # noqa: E402
from fmbdask.models.unet import Architecture, build_unet  # noqa: E402
from fmbdask.ramps.detect import configure, prepare_all  # noqa: E402
from fmbdask.ramps.detector import as_ramp, describe  # noqa: E402
from fmbdask.ramps.network import everywhere as module  # noqa: E402
from fmbdask.ramps.network.everywhere import PIXEL, distinct, joined, propose_everywhere  # noqa: E402
from fmbdask.ramps.network.evidence import Confidence  # noqa: E402
from fmbdask.ramps.network.hybrid import normalisation  # noqa: E402
from fmbdask.ramps.network.proposals import FRAMES, LATE, LEAST, PIXELS, PROPOSED_STEP, Proposals, propose  # noqa: E402
from fmbdask.ramps.network.windows import PATCH  # noqa: E402
from fmbdask.ramps.prepare import Prepared  # noqa: E402
from fmbdask.ramps.simulation import simulate  # noqa: E402
from fmbdask.regions import Region  # noqa: E402

SHAPE = (40, 160, 176)
#: A compact faint blob over the corner of four blocks: its frame, and its steps in units of read noise.
FRAME, ROWS, COLUMNS, STEP = 15, np.arange(98, 103), np.arange(98, 103), 0.8
#: Mean of the inputs of 5 x 5 neighbours from which on the network of these tests calls a voxel a hit.
MEAN = 0.42
NOTHING = np.zeros(0, PROPOSED_STEP)
NO_LINES = Proposals.of([], [])
NONE = np.zeros((1, *SHAPE[1:]), bool)


def saved(folder: Path, *, wanted: float = MEAN, intercept: float = 9.0) -> ModelHandle:
    """A network with a known answer: a hit is where steps of neighbours are what is wanted in the mean."""
    network = build_unet(Architecture(channels=3, widths=(4,)), seed=1)
    with torch.no_grad():
        for layer in network.down.modules():
            if isinstance(layer, torch.nn.Conv3d):
                layer.weight.zero_()
                layer.weight[0, 0, 1] = 1 / 9
        network.head.weight.zero_()
        network.head.weight[1, 0] = 40
        network.head.bias = torch.nn.Parameter(torch.tensor([0.0, -40 * wanted, -50.0, -50.0]))
    confidence = Confidence(intercept=intercept, evidence=0.0, score=2.0).as_dict()
    return save_network(folder, network, normalisation=normalisation(), provenance={"confidence": confidence})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("unet") / "model").path


@pytest.fixture(scope="module")
def blob() -> xr.DataArray:
    """An exposure with a blob and no event."""
    counts = dict.fromkeys(
        ("cosmic_ray_per_exp_range", "rtn_per_exp_range", "snowballs_per_exp_range"), (0, 0)
    )
    effects = dict.fromkeys(("persistence", "glitches", "settling", "pink_noise", "sky"))
    ramp, _ = simulate(counts | {"effects": effects}, shape=SHAPE, seed=8)
    data = np.array(ramp.values)
    p = prepared(ramp)
    noise = np.sqrt(p.noise.variance[p.detector.amplifier[COLUMNS]])
    data[..., FRAME:, ROWS[:, None], COLUMNS] += np.rint(STEP * noise).astype(data.dtype)
    return ramp.copy(data=data)


def prepared(ramp: xr.DataArray) -> Prepared:
    ramp = as_ramp(ramp)
    (p,) = prepare_all(ramp, describe(ramp), configure(None, {}))
    return p


def reader(ramp: xr.DataArray) -> Callable[[Region], NDArray[Any]]:
    data = np.asarray(as_ramp(ramp).values[0])
    return lambda region: np.ascontiguousarray(data[:, region.y, region.x])


def looked(ramp: xr.DataArray, model: str, **given: Any) -> Proposals:
    found: Proposals = propose_everywhere(
        given.get("lines", NO_LINES), network(model), 1, [prepared(ramp)], reader(ramp),
        given.get("unusable", NONE), given.get("taken", NONE), given.get("events", NOTHING),
        given.get("progress"),
    )  # fmt: skip
    return found


def network(model: str) -> OpenNetwork:
    return ModelHandle.of(model).load()


def near_blob(steps: NDArray[Any]) -> NDArray[np.bool_]:
    there = np.isin(steps["y"], ROWS) & np.isin(steps["x"], COLUMNS)
    near: NDArray[np.bool_] = there & (np.abs(steps["frame"] - FRAME) <= 1)
    return near


def of_blob(proposals: Proposals) -> list[int]:
    groups = [proposals.group(k) for k in range(len(proposals))]
    return [k for k, group in enumerate(groups) if near_blob(group).mean() > 0.5]


def test_a_blob_is_found_that_is_no_line(blob: xr.DataArray, model: str) -> None:
    lines = propose([prepared(blob)], reader(blob), NONE, NONE, NOTHING)
    assert not near_blob(lines.steps).any()
    proposals = looked(blob, model)
    (number,) = of_blob(proposals)
    group = proposals.group(number)
    assert len(group) >= 6
    assert len(set(zip(group["y"].tolist(), group["x"].tolist(), strict=True))) == len(group)
    assert 3 < proposals.score[number] < LEAST
    assert (group["significance"] > 0).all()
    assert group["significance"][0] == group["significance"].max()
    noise = np.sqrt(prepared(blob).noise.variance.mean())
    assert 0.5 * STEP * noise < group["amplitude"].mean() < 3 * STEP * noise
    # pixels on both sides of the borders of blocks
    border = 4 + module.EDGE
    assert prepared(blob).detector.active[0].start == 4
    assert {bool(y < border) for y in group["y"]} == {bool(x < border) for x in group["x"]} == {True, False}


def test_lines_stay_and_are_not_proposed_twice(blob: xr.DataArray, model: str) -> None:
    lines = propose([prepared(blob)], reader(blob), NONE, NONE, NOTHING)
    alone, both = looked(blob, model), looked(blob, model, lines=lines)
    own = [both.group(k).tobytes() for k in range(len(both))]
    for k in range(len(lines)):
        assert both.score[own.index(lines.group(k).tobytes())] == lines.score[k]
    assert len(lines) < len(both) < len(lines) + len(alone)
    assert len(of_blob(both)) == 1
    (number,) = of_blob(alone)
    known = Proposals.of([alone.group(number)[:1]], [7.0])
    again = looked(blob, model, lines=known)
    assert [len(again.group(k)) for k in of_blob(again)] == [1]


def test_what_is_known_is_not_proposed(blob: xr.DataArray, model: str) -> None:
    mask = NONE.copy()
    mask[0, ROWS[0] - 2 : ROWS[-1] + 3, COLUMNS[0] - 2 : COLUMNS[-1] + 3] = True
    assert of_blob(looked(blob, model, taken=mask)) == []
    assert of_blob(looked(blob, model, unusable=mask)) == []
    near = np.zeros(1, PROPOSED_STEP)
    near["y"], near["x"], near["frame"] = ROWS[2], COLUMNS[-1] + 1, FRAME + 1
    assert of_blob(looked(blob, model, events=near)) == []
    near["frame"] = FRAME + 9
    assert len(of_blob(looked(blob, model, events=near))) == 1


def test_blocks_say_what_the_whole_exposure_says(model: str) -> None:
    counts = {"cosmic_ray_per_exp_range": (60, 60)}
    ramp, _ = simulate(counts, shape=(90, 112, 216), seed=3)  # more reads than a patch
    p, none = prepared(ramp), np.zeros((1, 112, 216), bool)
    opened, rows, columns = network(model), p.detector.active[0], p.detector.active[1]
    found = np.concatenate(
        [
            module.probable_pixels(opened, 1, p, block, reader(ramp), none, none)
            for block in module.looked_at(p)
        ]
    )
    values, _ = module._inputs(p, (slice(0, 89), slice(0, 104), slice(0, 208)), reader(ramp), none)
    whole = patches.segment(opened, values, grid=patches.Grid((89, 104, 208), PATCH, module.OVERLAP))[1]
    wanted = (whole >= 0.5).any(axis=0)
    assert wanted.sum() > 100
    seen = np.zeros(wanted.shape, bool)
    seen[found["y"] - rows.start, found["x"] - columns.start] = True
    assert np.array_equal(seen, wanted)
    y, x = found["y"] - rows.start, found["x"] - columns.start
    assert np.array_equal(found["read"], (whole[:, y, x] >= 0.5).argmax(axis=0))


def pixels(*given: tuple[int, int, int, float]) -> NDArray[Any]:
    return np.array(list(given), PIXEL)


def test_neighbours_that_begin_together_are_one_group() -> None:
    used = np.arange(2, 40)
    groups = joined(
        pixels(
            (5, 5, 10, 0.6), (6, 6, 10 + LATE, 0.9), (5, 6, 20, 0.7), (5, 8, 10, 0.8),  # two meet at a corner
            (0, 9, 10, 0.6), (1, 0, 10, 0.6),  # the end of a row and the begin of the next one
        ),
        used,
    )  # fmt: skip
    found = sorted([(int(y), int(x)) for y, x in zip(g["y"], g["x"], strict=True)] for g in groups)
    assert found == [[(0, 9)], [(1, 0)], [(5, 6)], [(5, 8)], [(6, 6), (5, 5)]]
    long = joined(pixels(*((3, x, 10, 0.9 if x == 4 else 0.6) for x in range(40))), used)
    assert [sorted(g["x"].tolist()) for g in long] == [list(range(4 + module.REACH + 1))]
    assert long[0]["x"][0] == 4
    assert joined(pixels(), used) == []


def steps(*given: tuple[int, int, int, int]) -> NDArray[Any]:
    out = np.zeros(len(given), PROPOSED_STEP)
    for name, values in zip(("integration", "frame", "y", "x"), zip(*given, strict=True), strict=True):
        out[name] = values
    return out


def test_of_groups_at_one_place_the_most_significant_one_stays() -> None:
    far, near = PIXELS + 1, PIXELS
    groups = [
        steps((0, 10, 20, 20), (0, 10, 20, 21)),
        steps((0, 10 + FRAMES, 20, 21 + near)),  # at the place of the first
        steps((0, 10, 20, 21 + near + far)),
        steps((0, 10 + FRAMES + 1, 20, 21)),  # later than the first, not than the second
        steps((1, 10, 20, 20)),
        steps((0, 10, 60, 60)),  # at the place of a line
    ]
    line = Proposals.of([steps((0, 11, 60, 61))], [5.5])
    assert distinct(line, groups, [4.0, 3.0, 2.0, 2.0, 1.0, 9.0]) == [0, 2, 3, 4]
    assert distinct(line, groups, [3.0, 4.0, 2.0, 2.0, 1.0, 9.0]) == [1, 2, 4]
    assert distinct(line, [], []) == []


@pytest.mark.parametrize("chunks", [(1, -1, 64, 176), (1, -1, 50, 70)])
def test_the_same_events_for_any_chunks_and_threads(
    blob: xr.DataArray, model: str, chunks: tuple[int, ...]
) -> None:
    given: dict[str, Any] = {"model": model, "model_confidence": 0.6}
    lines = fmbdask.ramps.detect(blob, **given)
    whole = fmbdask.ramps.detect(blob, model_everywhere=True, **given)
    with dask.config.set(scheduler="synchronous"):
        cut = fmbdask.ramps.detect(
            blob.copy(data=da.from_array(blob.values, chunks=chunks)), model_everywhere=True, **given
        )
    assert cut.events.equals(whole.events)
    assert np.array_equal(cut.maps["mask"], whole.maps["mask"])
    assert len(whole.events) > len(lines.events) > 0

    def at_blob(events: pd.DataFrame) -> pd.DataFrame:
        there = events["peak_y"].isin(ROWS) & events["peak_x"].isin(COLUMNS)
        return events[there & events["first_frame"].between(FRAME - 1, FRAME + 1)]

    assert at_blob(lines.events).empty
    (found,) = at_blob(whole.events)["found_by"]
    assert found == "network"
    assert (whole.maps["mask"].values[0, ROWS[2], COLUMNS] == 1).any()
    kept = whole.events[whole.events["found_by"] == "rules"].drop(columns="event_id").reset_index(drop=True)
    before = lines.events[lines.events["found_by"] == "rules"].drop(columns="event_id")
    assert kept.equals(before.reset_index(drop=True))


def test_memory_is_that_of_a_block(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = ModelHandle.of(saved(tmp_path / "never", wanted=1e3).path).load()
    largest = 0
    through = patches.segment

    def noted(*given: Any, **named: Any) -> NDArray[np.float32]:
        nonlocal largest
        made = through(*given, **named)
        largest = max(largest, made.size, given[1].size)
        return made

    monkeypatch.setattr(patches, "segment", noted)

    def peak(edge: int) -> int:
        ramp, _ = simulate({}, shape=(40, edge, edge), seed=2)
        p, none, read = prepared(ramp), np.zeros((1, edge, edge), bool), reader(ramp)
        tracemalloc.start()
        try:
            with dask.config.set(scheduler="synchronous"):
                found = propose_everywhere(NO_LINES, never, 1, [p], read, none, none, NOTHING)
            assert len(found) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    one = peak(8 + module.EDGE)
    # nine blocks, those inside with patches over their borders
    assert peak(8 + 3 * module.EDGE) < 1.7 * one
    assert largest <= max(4 * 39 * module.EDGE**2, 3 * 64 * (module.EDGE + 2 * PATCH[1]) ** 2)


def test_blocks_are_counted(blob: xr.DataArray, model: str) -> None:
    told: list[tuple[int, int, str]] = []
    looked(blob, model, progress=lambda *one: told.append(one))
    assert [one[:2] for one in told] == [(k, 4) for k in (1, 2, 3, 4)]


def test_without_a_network_nothing_looks_everywhere(
    blob: xr.DataArray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"model_everywhere .* needs a network: give a model"):
        fmbdask.ramps.detect(blob, model_everywhere=True)
    with pytest.raises(SystemExit) as ended:
        main(["ramps", "detect", str(tmp_path / "a.fits"), "-o", str(tmp_path / "out"), "--everywhere"])
    assert ended.value.code == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "needs a network: give a model as well, or leave --everywhere out" in said
