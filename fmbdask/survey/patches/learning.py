"""A 3D U-Net trained on a set of patches, judged by events, and kept with its history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import atomic, check_free
from ...errors import ConfigError, OutputExistsError
from ...ramps.network.evidence import Confidence, average_precision, best_f1, odds
from ...ramps.network.inputs import CHANNELS, MOST, SOFT
from ...ramps.reduce import CODES
from ...store.catalog import versions
from ...store.patches import PatchStore
from .data import Judged, PatchData, rows_of
from .making import make_set, store_of
from .settings import UNetConfig

Report = Callable[[int, int, str], None]

#: What a training leaves in its folder.
MODEL, HISTORY, CURVES, STATE, SET = (
    "model", "training_history_unet3d.json", "training_curves_unet3d.png", "training", "patches",
)  # fmt: skip


@dataclass(frozen=True)
class TrainedUNet:
    """What a training left.

    Attributes
    ----------
    model : Path
        Folder of the network.
    history, curves : Path
    pth : Path or None
    summary : str
        How good it is, in a sentence.
    """

    model: Path
    history: Path
    curves: Path
    pth: Path | None
    summary: str


def train_unet_on_ramps(
    config: UNetConfig,
    *,
    out: str | Path | None = None,
    patches: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    pth: bool = False,
    gpus: int | None = None,
    workers: int | None = None,
    progress: Report | None = None,
) -> TrainedUNet | None:
    """Train a 3D U-Net on simulated exposures.

    Parameters
    ----------
    config : UNetConfig
    out : path, optional
        Folder of everything that is made; that of the configuration by default.
    patches : path, optional
        Training set: the folder of a run, made if it is not there, or a store; ``patches`` in the folder by
        default.
    resume : bool
        Go on with a training that was interrupted.
    overwrite : bool
        Replace what an earlier training left; the training set stays.
    pth : bool
        Also write ``best_model_unet3d.pth``.
    gpus : int, optional
        Train on several GPUs of this machine in step.
    workers : int, optional
        Processes that simulate exposures.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    TrainedUNet or None
        None in all processes in step but the first.

    Raises
    ------
    ConfigError
        If the configuration cannot be used.
    OutputExistsError
        If a training is there, and is neither to be resumed nor replaced.
    InputError
        If the training set cannot be used, or belongs to another configuration.
    """
    from ...models import need

    need("U-Nets", "torch")
    from ...models.parallel import join, rank_of, run_in_step

    folder = Path(out) if out is not None else config.folder
    place = Path(patches) if patches is not None else folder / SET
    joined = join()
    try:
        if joined and not store_of(place).is_dir():
            raise ConfigError(
                f"there is no training set {place} yet: make it by --only-set before several processes train"
            )
        if rank_of() == 0:
            _make_way(folder, resume, overwrite, pth)
        store = make_set(config, place, workers=workers, progress=progress)
        if gpus is not None and gpus > 1:
            if joined:
                raise ConfigError("--gpus is for one machine without torchrun: leave it out")
            run_in_step(_learn, (config, folder, store.path, resume, overwrite, pth), gpus)
        else:
            _learn(config, folder, store.path, resume, overwrite, pth, progress)
        return _left(folder, pth) if rank_of() == 0 else None
    finally:
        if joined:
            import torch.distributed

            torch.distributed.destroy_process_group()


def _make_way(folder: Path, resume: bool, overwrite: bool, pth: bool) -> None:
    """Refuse to replace what is there, or remove what is to be replaced."""
    from ...models.pth import PTH_NAME

    if (folder / STATE).exists() and not resume:
        if not overwrite:
            raise OutputExistsError(
                f"a training is in {folder} already: go on with it by --resume, replace it by --overwrite, "
                "or choose another folder"
            )
        shutil.rmtree(folder / STATE)
    for name in (MODEL, HISTORY, CURVES, *([PTH_NAME] if pth else [])):
        check_free(folder / name, resume or overwrite)


def _learn(
    config: UNetConfig,
    folder: Path,
    patches: Path,
    resume: bool,
    overwrite: bool,
    pth: bool,
    progress: Report | None = None,
) -> None:
    """Train on a set that is there, and write what the training made; in each of the processes in step."""
    from ...models.handles import OpenNetwork, Saved, save_network
    from ...models.parallel import rank_of, world_of
    from ...models.pth import PTH_NAME, to_pth
    from ...models.segmenting import SegmentTraining, train_unet
    from ...models.unet import Architecture

    store = PatchStore.open(patches)
    own = config.training
    options = SegmentTraining(**{f.name: getattr(own, f.name) for f in fields(SegmentTraining)})
    architecture = Architecture(
        len(CHANNELS), tuple(sorted(CODES, key=lambda name: CODES[name])),
        config.network.widths, config.network.pool_time,
    )  # fmt: skip
    share = world_of()
    data, validation = (PatchData(store, rows_of(store, s), share) for s in ("train", "validation"))
    judged = Judged.of(store, share)
    trained = train_unet(
        architecture, data, validation, options, seed=config.seed, device=own.device,
        score=judged.figures if judged.usable else None, proposed=CODES["cosmic_ray"], folder=folder / STATE,
        resume=resume, progress=progress,
    )  # fmt: skip
    if rank_of() != 0:
        return
    found: dict[str, Any] = {"score": "event_f1" if judged.usable else "mean_iou"}
    best = trained.history["best"] - 1
    if judged.usable:
        # as `ramps detect` runs it, whatever the training was done in
        evidence = judged.evidence(OpenNetwork(Saved(trained.network), device="cpu"))
        f1, threshold = best_f1(odds(evidence, judged.score), judged.real)
        found |= {"event_f1": f1, "threshold": threshold}
        found["average_precision"] = average_precision(odds(evidence, judged.score), judged.real)
        found["confidence"] = Confidence.fit(evidence, judged.score, judged.real).as_dict()
    history = trained.history | found | {"train_patches": len(data), "val_patches": len(validation)}
    provenance = found | {
        "configuration": config.model_dump(mode="json"), "patches": _told(store), "versions": versions(),
        "epochs": trained.history["best"], "val_loss": trained.history["val_loss"][best],
        "val_iou": {name: each[best] for name, each in trained.history["val_iou"].items()},
    }  # fmt: skip
    normalisation = {
        "inputs": "fmbdask.ramps.network.inputs.channels", "channels": list(CHANNELS), "soft": SOFT,
        "most": MOST, "patch": list(store.arrays["classes"].shape[1:]),
    }  # fmt: skip
    again = resume or overwrite
    save_network(
        folder / MODEL, trained.network, normalisation=normalisation, provenance=provenance, overwrite=again
    )
    if pth:
        content = to_pth(Saved(trained.network, normalisation, provenance))
        with atomic(folder / PTH_NAME, overwrite=again) as temporary:
            temporary.write_bytes(content)
    with atomic(folder / HISTORY, overwrite=again) as temporary:
        temporary.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    _draw(history, folder / CURVES)


def _told(store: PatchStore) -> dict[str, Any]:
    """How many patches of each kind and split a training saw."""
    kinds, splits = store.attrs["kinds"], store.attrs["splits"]
    pairs = store.column("split").astype(np.int64) * len(kinds) + store.column("kind")
    counts = np.bincount(pairs, minlength=len(kinds) * len(splits)).reshape(len(splits), len(kinds))
    return {
        split: dict(zip(kinds, row, strict=True)) for split, row in zip(splits, counts.tolist(), strict=True)
    }


def _draw(history: dict[str, Any], path: Path) -> None:
    from ...viz.training import training_curves

    with atomic(path, overwrite=True) as temporary:
        training_curves(history).savefig(temporary, format="png")


def _left(folder: Path, pth: bool) -> TrainedUNet:
    from ...models.pth import PTH_NAME

    history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    best = history["best"]
    epochs, loss = len(history["val_score"]), history["val_loss"][best - 1]
    text = f"best after epoch {best} of {epochs}: validation loss {loss:.4g}"
    if "event_f1" in history:
        told = history["confidence"]
        text += (
            f", F1 {history['event_f1']:.3f} on {told['proposals']} proposals, {told['real']} of them real"
        )
    return TrainedUNet(
        folder / MODEL, folder / HISTORY, folder / CURVES, folder / PTH_NAME if pth else None, text
    )
