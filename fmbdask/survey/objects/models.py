"""Saved detectors in a folder, one below it each, opened once a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ...anomaly.detector import Detector
from ...anomaly.kinds import class_of
from ...anomaly.matching import disagreement
from ...checkpoints import META, load_checkpoint
from ...errors import InputError
from .stores import Kept


def check_belongs(detector: Detector, kept: Mapping[str, Kept], where: str) -> None:
    """Refuse vectors that a detector was not fitted to.

    Parameters
    ----------
    detector : Detector
    kept : mapping
        Modalities of the store.
    where : str
        The store, for the message.

    Raises
    ------
    InputError
        If the store lacks a modality, or its vectors are of another width or another model.
    """
    for modality, width in detector.widths.items():
        if modality not in kept:
            raise InputError(
                f"{where} has no vectors of {modality}, which the {detector.kind} model was fitted to: it "
                f"has {', '.join(kept)}"
            )
        found = kept[modality]
        if found.width != width:
            raise InputError(
                f"vectors of {modality} in {where} have {found.width} features, the {detector.kind} model "
                f"was fitted to {width}: give the store of the same model, or train another"
            )
        why = disagreement(found.provenance, detector.provenance.get(modality, {}))
        if why is not None:
            raise InputError(
                f"vectors of {modality} in {where} have {why[0]}, the {detector.kind} model was fitted to "
                f"{why[1]}: give the store of the same model, or train another"
            )


def save_models(detectors: Mapping[str, Detector], folder: Path, *, overwrite: bool = False) -> None:
    """Save detectors below a folder, each under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, detector in detectors.items():
        detector.save(folder / name, overwrite=overwrite)


def model_folders(folder: Path) -> dict[str, Path]:
    """Folders of saved models: this one itself, or those below it; empty if there are none."""
    if (folder / META).is_file():
        return {folder.absolute().name: folder}
    if not folder.is_dir():
        return {}
    return {p.name: p for p in sorted(folder.iterdir()) if (p / META).is_file()}


def load_models(folder: Path, *, fresh: bool = False, empty: bool = False) -> Mapping[str, Detector]:
    """Load all detectors of a folder, by name.

    Parameters
    ----------
    folder : Path
    fresh : bool
        Whether they are to be changed: then they are not those that others in this process use.
    empty : bool
        Whether there may be none.

    Raises
    ------
    InputError
        If there is none, or one cannot be used.
    """
    found = model_folders(folder)
    if not found and not empty:
        raise InputError(f"{folder} holds no saved models: train some with `fmbdask train`")
    if fresh:
        return _load(tuple((name, str(path)) for name, path in found.items()))
    stamps = tuple((path / META).stat().st_mtime_ns for path in found.values())
    return _loaded(tuple((name, str(path)) for name, path in found.items()), stamps)


@lru_cache(maxsize=4)
def _loaded(paths: tuple[tuple[str, str], ...], _: tuple[int, ...]) -> Mapping[str, Detector]:
    return _load(paths)


def _load(paths: tuple[tuple[str, str], ...]) -> Mapping[str, Detector]:
    loaded = {}
    for name, path in paths:
        saved = load_checkpoint(path)
        loaded[name] = class_of(saved.kind).restored(saved, path)
    return loaded
