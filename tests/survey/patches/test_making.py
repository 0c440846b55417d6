"""Training sets: what their patches hold, the same bytes after a kill, and what is refused."""

from __future__ import annotations

import filecmp
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from fmbdask.errors import ConfigError, InputError
from fmbdask.models.voxels import IGNORED
from fmbdask.ramps.network.inputs import CHANNELS, channels
from fmbdask.ramps.network.truth import classes
from fmbdask.ramps.network.windows import PATCH
from fmbdask.regions import Region
from fmbdask.store.patches import PatchStore, join_patches, write_patches
from fmbdask.survey.config import SurveyConfig
from fmbdask.survey.patches.drawing import FRAMES, KINDS, OUTSIDE, draw, patches_of
from fmbdask.survey.patches.making import make_set
from fmbdask.survey.patches.recipes import SPLITS, Recipe, read_recipe, recipes, write_recipes
from fmbdask.survey.patches.settings import Grid, PatchSettings, UNetConfig
from fmbdask.survey.pipelines import make

from .made import CONFIG, config, made_here

COMMAND = [sys.executable, "-c", "from fmbdask.cli.app import main; main()", "train", "unet"]
#: Longest time of one process of a test [s].
PATIENCE = 600.0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training set."""
    folder = tmp_path_factory.mktemp("small") / "patches"
    made_here(config(), folder)
    return folder


@pytest.fixture
def store(small: Path) -> PatchStore:
    return make_set(config(), small)


def test_patches_are_what_the_network_sees_and_is_to_answer(store: PatchStore) -> None:
    assert OUTSIDE == IGNORED
    exposure, kind, corner = (store.column(name) for name in ("exposure", "kind", "corner"))
    assert set(exposure) == {0, 1, 2, 3}
    assert set(kind) == {0, 1, 2}
    assert store.arrays["values"].dtype == np.float16
    assert store.arrays["values"].shape[1:] == (len(CHANNELS), *PATCH)
    for number in (0, 2):
        drawn = draw(Recipe.model_validate(store.attrs["exposures"][str(number)]))
        for row in np.flatnonzero(exposure == number)[::9]:
            t0, y0, x0 = corner[row]
            region = Region(0, y0, y0 + PATCH[1], x0, x0 + PATCH[2])
            seen = channels(drawn.read(region), drawn.prepared, region, drawn.limits(region))
            cut = seen[:, t0 : t0 + PATCH[0]].astype(np.float16)
            found, told = store.row("values", row), store.row("classes", row)
            assert np.array_equal(found[:, : cut.shape[1]], cut)
            assert not found[:, cut.shape[1] :].any()
            truth = classes(drawn.truth, drawn.prepared, region)[t0 : t0 + PATCH[0]]
            assert np.array_equal(told[: len(truth)], truth)
            assert (told[len(truth) :] == IGNORED).all()
    assert (exposure == 0).sum() > 20


def test_exposures_are_split_and_never_patches(store: PatchStore) -> None:
    split, exposure = store.column("split"), store.column("exposure")
    wanted = [SPLITS.index(recipe.split) for recipe in recipes(config())]
    assert wanted == [1, 0, 1, 0]
    assert np.array_equal(split, np.array(wanted)[exposure])


def test_proposals_say_what_is_real(store: PatchStore) -> None:
    kind, real, read = (store.column(name) for name in ("kind", "real", "read"))
    proposed = kind == KINDS.index("proposal")
    assert ((real >= 0) == proposed).all()
    assert set(real) == {-1, 0, 1}
    group, told = store.column("group"), store.column("classes")
    assert (group.any(axis=(1, 2)) == proposed).all()
    assert (np.isfinite(store.column("score")) == proposed).all()
    for row in np.flatnonzero(real == 1):  # of a true hit within a few reads
        near = told[row, read[row] : read[row] + FRAMES + 1]
        assert (near[:, group[row]] == 1).any()


def test_events_of_all_types_are_drawn(store: PatchStore) -> None:
    told = store.column("classes")[store.column("kind") == KINDS.index("event")]
    present = [(told == code).any(axis=(1, 2, 3)).mean() for code in (1, 2, 3)]
    assert min(present) > 0.1


def test_a_grid_covers_an_exposure() -> None:
    recipe = Recipe(setting="dark", frames=30, shape=(48, 56), seed=20_001)
    found = patches_of(recipe, PatchSettings(grid=Grid(patch_frames=16, patch_size=(24, 32), overlap=8)))
    drawn = draw(recipe)
    rows, columns = drawn.prepared.detector.active
    seen = np.zeros((drawn.prepared.used.size - 1, 48, 56), int)
    for (t, y, x), values in zip(found["corner"], found["values"], strict=True):
        assert values.shape == (len(CHANNELS), 16, 24, 32)
        seen[t : t + 16, y : y + 24, x : x + 32] += 1
    assert (seen[:, rows, columns] >= 1).all()
    assert seen.sum() == 16 * 24 * 32 * len(found["corner"])  # none of them goes beyond
    assert not (found["classes"] == OUTSIDE).any()
    large = patches_of(recipe, PatchSettings(grid=Grid(patch_frames=64, patch_size=(64, 64))))
    assert large["values"].shape == (1, len(CHANNELS), 64, 64, 64)
    outside = large["classes"][0] == OUTSIDE
    assert 0 < (~outside).sum() == seen[:, rows, columns].size
    assert not large["values"][0][:, outside].any()


def test_killed_and_resumed(small: Path, tmp_path: Path) -> None:
    (tmp_path / "unet.yaml").write_text(yaml.safe_dump(CONFIG | {"cluster": "threads"}))
    words = [str(tmp_path / "unet.yaml"), "-o", str(tmp_path), "--only-set", "--workers", "1"]
    process = subprocess.Popen([*COMMAND, *words])
    until = time.monotonic() + PATIENCE
    products = tmp_path / "patches" / "products"
    while not (products.is_dir() and list(products.glob("0*"))) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(InputError, match="no store of training patches"):
        PatchStore.open(tmp_path / "patches" / "catalog" / "patches.zarr")
    settings = config(cluster="threads")
    made_of = {p: p.stat().st_mtime_ns for p in products.glob("0*/*/zarr.json")}
    assert made_of
    made = make_set(settings, tmp_path / "patches", workers=1)
    assert {p: p.stat().st_mtime_ns for p in made_of} == made_of  # not made again
    whole = small / "catalog" / "patches.zarr"
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(made.path) for p in made.path.rglob("*") if p.is_file())
    assert all(filecmp.cmp(whole / name, made.path / name, shallow=False) for name in names)


def test_sets_that_cannot_be_used(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was made of other exposures or patches"):
        make_set(config(first_seed=20_005), small)
    with pytest.raises(InputError, match="there is no training set"):
        make_set(config(), tmp_path / "absent.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match="no store of training patches"):
        make_set(config(), tmp_path / "empty.zarr")
    other = make_set(config(first_seed=20_005), small / "catalog" / "patches.zarr")  # as it is
    assert len(other) > 50


def test_stores_are_joined_in_any_size(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    parts, rows = [], []
    for number, count in enumerate((0, 70, 3, 130)):
        values = random.normal(size=(count, 1, 2, 3, 3)).astype(np.float16)
        told = random.integers(0, 4, (count, 2, 3, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.zarr"
        columns: dict[str, np.ndarray] = {
            "values": values, "classes": told, "group": told[:, 0] > 0, "kind": told[:, 0, 0, 0],
        }  # fmt: skip
        write_patches(path, columns, {"number": number})
        parts.append(path)
        rows.append(columns)
    join_patches(parts, [4, 5, 6, 9], tmp_path / "all.zarr", {"whole": True})
    joined = PatchStore.open(tmp_path / "all.zarr")
    assert len(joined) == 203
    assert joined.attrs["whole"]
    for name in rows[0]:
        assert np.array_equal(joined.column(name), np.concatenate([r[name] for r in rows]))
    assert np.array_equal(joined.row("values", 72), rows[2]["values"][2])
    assert np.bincount(joined.column("exposure")).tolist() == [0, 0, 0, 0, 0, 70, 3, 0, 0, 130]
    with pytest.raises(InputError, match="lacks the array real"):
        joined.column("real")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exposures": [{"setting": "dusk"}]}, "there is no setting dusk: give one of dark"),
        ({"first_seed": 7000}, "belong to exposures that judge"),
        ({"patches": {"proposals": False, "events": 0, "background": 0}}, "nothing is cut out"),
        ({"patches": {"grid": {"overlap": 300}}}, "overlap 300 must be smaller"),
        (
            {"exposures": [{"setting": "dark"}], "validation": 0.2},
            "1 of 1 exposures would train and 0 validate",
        ),
        ({"exposures": [{"setting": "dark", "simulation": {"exp_tim": 3}}]}, "simulation of the dark expo"),
    ],
)
def test_configurations_that_cannot_be_used(changes: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        recipes(config(**changes))


def test_some_exposures_may_only_train() -> None:
    exposures = [{"setting": "dark", "count": 2}, {"setting": "dark", "count": 4, "validates": False}]
    assert [r.split for r in recipes(config(exposures=exposures))] == ["validation", *["train"] * 5]


def test_recipes_say_all_that_decides(tmp_path: Path) -> None:
    wanted = recipes(
        config(exposures=[{"setting": "sky", "count": 4, "simulation": {"effects": {"sky": None}}}])
    )
    paths = write_recipes(tmp_path, wanted)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [read_recipe(str(path)) for path in paths] == wanted
    assert [path.stat().st_mtime_ns for path in write_recipes(tmp_path, wanted)] == before
    simulated = wanted[1].simulation_config()
    assert simulated.effects.sky is None
    assert simulated.effects.ipc is not None
    assert [recipe.seed for recipe in wanted] == [20_001, 20_002, 20_003, 20_004]
    (tmp_path / "bad.json").write_text(json.dumps({"setting": "dark"}))
    (tmp_path / "worse.json").write_text("{")
    pipeline = make(SurveyConfig(pipeline="patches"))
    items = pipeline.items([str(tmp_path / "bad.json"), str(tmp_path / "worse.json"), "absent.json"], 0)
    assert ["no recipe" in item.problem or "cannot be read" in item.problem for item in items] == [True] * 3
    with pytest.raises(ConfigError, match="event of the patches pipeline"):
        make(SurveyConfig(pipeline="patches", options={"event": 3}))


def test_templates_can_be_used() -> None:
    templates = Path(__file__).resolve().parents[3] / "configs" / "ramps"
    for name in ("unet.yaml", "unet_seed.yaml"):
        settings = UNetConfig.model_validate(yaml.safe_load((templates / name).read_text()))
        assert {recipe.split for recipe in recipes(settings)} == set(SPLITS)
