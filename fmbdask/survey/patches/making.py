"""Training sets: simulated by a survey run that is begun, gone on with, or found complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError, RunError
from ...store.patches import PatchStore
from ...store.run.epochs import current_epoch
from ...store.run.folder import RunFolder
from ..config import SurveyConfig
from ..pipelines.patches import PATCHES
from ..planning.calibrate import Calibration, Sample
from ..planning.plan import plan
from ..running.run import resume, run
from .recipes import recipes, write_recipes
from .settings import UNetConfig

Report = Callable[[int, int, str], None]

#: What an exposure of 100 frames of 256 x 256 pixels takes on one core: measuring it would cost as much.
USUAL = Calibration(
    (
        Sample(
            stage=0, kind=".json uint16 4", nbytes=2 * 100 * 256**2, pixels=256**2, regions=1, prepare=0.0,
            region=8.0, reduce=0.5, memory=0, part=40 * 2**20, measured=0, nbytes_out=0, files=20,
        ),
    )
)  # fmt: skip
#: Longest time of one exposure [s].
DEADLINE = 7200.0
#: Folder of the recipes of exposures, beside that of the run that follows them.
RECIPES = "exposures"


def store_of(path: Path) -> Path:
    """The store of a training set: that of a run, or what was given."""
    return path if path.suffix == ".zarr" else path / "catalog" / PATCHES


def make_set(
    config: UNetConfig,
    path: Path,
    *,
    workers: int | None = None,
    calibration: Calibration | None = USUAL,
    progress: Report | None = None,
) -> PatchStore:
    """Open a training set; a run that is not there is begun, one that was interrupted goes on.

    Parameters
    ----------
    config : UNetConfig
    path : Path
        Folder of the run, or a store of patches (``.zarr``) that is there.
    workers : int, optional
        Worker processes; those of the cluster by default.
    calibration : Calibration, optional
        What exposures cost; None to measure it first.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    PatchStore

    Raises
    ------
    InputError
        If a store was named that is not there, or the set of a run was made with other settings.
    RunError
        If exposures failed, or the run was stopped.
    """
    place = path.absolute()
    store = store_of(place)
    if place.suffix == ".zarr":
        if not place.is_dir():
            raise InputError(
                f"there is no training set {path}: give one that is there, or a folder without .zarr, where "
                "one is made"
            )
        return PatchStore.open(store)
    wanted = recipes(config)
    if store.is_dir():
        return _checked(PatchStore.open(store), config, path)
    inputs = write_recipes(place / RECIPES, wanted)
    folder = RunFolder(place)
    if current_epoch(folder.epochs):
        made = resume(place, cluster=config.cluster, workers=workers, progress=progress)
    else:
        survey = SurveyConfig(
            name=place.name, pipeline="patches", inputs=tuple(map(str, inputs)), output=str(place),
            options=config.patches.model_dump(mode="json"), cluster=config.cluster, memory=config.memory,
            region_deadline=DEADLINE,
        )  # fmt: skip
        planned = plan(survey, workers=workers, calibration=calibration, progress=progress)
        made = run(planned, workers=workers, progress=progress)
    if not made.complete or made.failed:
        raise RunError(f"the training set is not complete: {'; '.join(made.describe().splitlines())}")
    return _checked(PatchStore.open(store), config, path)


def _checked(store: PatchStore, config: UNetConfig, path: Path) -> PatchStore:
    """Refuse a set that was made with other settings than those that are given."""
    found: Mapping[str, Any] = store.attrs["exposures"]
    asked = [recipe.model_dump(mode="json") for recipe in recipes(config)]
    same = list(found.values()) == asked and store.attrs["settings"] == config.patches.model_dump(mode="json")
    if not same:
        raise InputError(
            f"the training set in {path} was made of other exposures or patches than are asked for: give "
            f"another folder, or take it as it is by --set {store_of(path)}"
        )
    return store
