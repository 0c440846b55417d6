"""Saved models: arrays as safetensors and everything else as JSON, in one folder, without any code in it.

A model of anomaly scores and a network are kept alike: ``model.json`` says what it is (kind, settings,
provenance, and the checksum of the arrays), ``arrays.safetensors`` holds its numbers. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic
from .errors import InputError

META, ARRAYS = "model.json", "arrays.safetensors"
#: How folders of the states of a training begin.
STEP = "step-"
#: Version of the layout of these folders.
LAYOUT = 1
#: Most bytes of ``model.json``: what is larger is none.
MOST_META = 64 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """What is kept of a model.

    Attributes
    ----------
    kind : str
        What it is, ``mahalanobis`` say: decides who can read it.
    arrays : mapping
        Name -> array.
    meta : mapping
        JSON values.
    parts : mapping
        Name -> checkpoint of a model that this one is made of, which is kept in a folder of this name in its.
    """

    kind: str
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Checkpoint] = field(default_factory=dict)


def save_checkpoint(
    folder: str | os.PathLike[str], checkpoint: Checkpoint, *, overwrite: bool = False
) -> Path:
    """Write a model into a folder of its own, whole or not at all.

    Raises
    ------
    OutputExistsError
        If the folder exists and is not to be overwritten.
    """
    with atomic(Path(folder), overwrite=overwrite) as temporary:
        _write(temporary, checkpoint)
    return Path(folder)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    from safetensors.numpy import save

    content = save({name: np.asarray(values, order="C") for name, values in checkpoint.arrays.items()})
    head = {
        "kind": checkpoint.kind,
        "layout": LAYOUT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "meta": dict(checkpoint.meta),
        "parts": list(checkpoint.parts),
    }
    folder.mkdir(parents=True)
    (folder / ARRAYS).write_bytes(content)
    (folder / META).write_text(json.dumps(head, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, part in checkpoint.parts.items():
        _write(folder / name, part)


def checkpoint_digest(folder: str | os.PathLike[str]) -> str:
    """Sum over a saved model without parts: sha256 of its ``model.json``, which holds that of its arrays.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    return hashlib.sha256(_head_of(Path(folder))).hexdigest()


def load_checkpoint(
    folder: str | os.PathLike[str], kind: str | None = None, *, digest: str | None = None
) -> Checkpoint:
    """Read a model back.

    Parameters
    ----------
    folder : path
    kind : str, optional
        What it must be.
    digest : str, optional
        What :func:`checkpoint_digest` must say of it.

    Raises
    ------
    InputError
        If it is missing, damaged, of a later version, of another kind, or has another digest.
    """
    path = Path(folder)
    found, layout, sum_of_arrays, meta, names = _read_head(path, digest)
    if layout != LAYOUT:
        raise InputError(
            f"{path} was written by another version of fmbdask (layout {layout}): train it again"
        )
    if kind is not None and found != kind:
        raise InputError(f"{path} holds a model of kind {found}, not {kind}: give another folder")
    try:
        content = (path / ARRAYS).read_bytes()
    except FileNotFoundError:
        raise _absent(path) from None
    except OSError as error:
        raise InputError(f"{path / ARRAYS} cannot be read ({error.strerror}): check it") from None
    if hashlib.sha256(content).hexdigest() != sum_of_arrays:
        raise InputError(f"{path / ARRAYS} is damaged: train the model again or restore it from a copy")
    parts = {name: load_checkpoint(path / name) for name in names}
    return Checkpoint(found, _arrays(path, content), meta, parts)


def save_step(folder: str | os.PathLike[str], number: int, checkpoint: Checkpoint) -> Path:
    """Keep the state of a training after a step of it, in place of those before: at any time there is one.

    Parameters
    ----------
    folder : path
        Of this training alone.
    number : int
        Grows from step to step.
    checkpoint : Checkpoint
    """
    path = save_checkpoint(Path(folder) / f"{STEP}{number:06d}", checkpoint, overwrite=True)
    for other in Path(folder).iterdir():
        left = other.name.startswith(f".{STEP}") and other.name.endswith(".partial")
        if left or (other.name.startswith(STEP) and other != path):
            shutil.rmtree(other, ignore_errors=True)
    return path


def load_last_step(folder: str | os.PathLike[str], kind: str) -> Checkpoint | None:
    """Read the last state that :func:`save_step` kept; None if there is none.

    Raises
    ------
    InputError
        If it is damaged, or of another kind.
    """
    found = sorted(Path(folder).glob(f"{STEP}*"))
    return load_checkpoint(found[-1], kind) if found else None


def _head_of(path: Path) -> bytes:
    try:
        if (path / META).stat().st_size > MOST_META:
            raise InputError(f"{path / META} cannot be read (it is far too large): train the model again")
        return (path / META).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _absent(path) from None
    except OSError as error:
        raise InputError(f"{path / META} cannot be read ({error}): train the model again") from None


def _read_head(path: Path, wanted: str | None) -> tuple[str, int, str, dict[str, Any], list[str]]:
    """What ``model.json`` says, each of the type it must have."""
    content = _head_of(path)
    if wanted is not None and hashlib.sha256(content).hexdigest() != wanted:
        raise InputError(f"{path} holds another model than it did when it was chosen: choose it anew")
    try:
        head = json.loads(content)
        kind, layout, digest, meta = (head[key] for key in ("kind", "layout", "sha256", "meta"))
        for value, expected in ((kind, str), (layout, int), (digest, str), (meta, dict)):
            if not isinstance(value, expected):
                raise TypeError(f"{value!r:.40} is no {expected.__name__}")
        parts = head.get("parts", [])
        if not (isinstance(parts, list) and all(isinstance(p, str) and p.isidentifier() for p in parts)):
            raise TypeError(f"{parts!r:.40} are no names of parts")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path / META} cannot be read ({error}): train the model again") from None
    return kind, layout, digest, meta, parts


def _arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(content))
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        # a type that NumPy does not have, say
        raise InputError(f"{path / ARRAYS} is damaged ({error}): train the model again") from None


def _absent(path: Path) -> InputError:
    return InputError(f"{path} holds no saved model: give a folder with {META} and {ARRAYS}")
