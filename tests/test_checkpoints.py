"""Saved models: what is damaged, foreign or made to harm is refused in one sentence; nothing in it runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from fmbdask.anomaly import Detector, Mahalanobis, Residual, load
from fmbdask.checkpoints import ARRAYS, META, Checkpoint, load_checkpoint, save_checkpoint
from fmbdask.errors import InputError, OutputExistsError

from .anomaly.made import vectors


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.array([np.nan, -0.0]),
        "c": np.zeros((0, 3), np.float32),
        "d": np.array(3, np.int64),
        "e": np.arange(6).reshape(2, 3).T,
    }
    meta = {"text": "é", "list": [1, None], "deep": {"x": 1.5}}
    save_checkpoint(tmp_path / "x" / "model", Checkpoint("kind", arrays, meta))
    found = load_checkpoint(tmp_path / "x" / "model", "kind")
    assert (found.kind, found.meta) == ("kind", meta)
    for name, values in arrays.items():
        assert found.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(found.arrays[name], values)
    with pytest.raises(OutputExistsError):
        save_checkpoint(tmp_path / "x" / "model", Checkpoint("other"))
    save_checkpoint(tmp_path / "x" / "model", Checkpoint("other"), overwrite=True)
    assert load_checkpoint(tmp_path / "x" / "model").kind == "other"
    with pytest.raises(InputError, match="holds a model of kind other, not kind"):
        load_checkpoint(tmp_path / "x" / "model", "kind")
    with pytest.raises(InputError, match="holds a model of kind other, no detector"):
        load(tmp_path / "x" / "model")
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["model"]


def sealed(folder: Path, content: bytes | None = None, **head: Any) -> None:
    """Change a saved model as somebody would who knows its layout: the checksum agrees."""
    if content is not None:
        (folder / ARRAYS).write_bytes(content)
    old = json.loads((folder / META).read_text())
    digest = hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()
    (folder / META).write_text(json.dumps(old | {"sha256": digest} | head))


def with_array(folder: Path, name: str, values: np.ndarray | None) -> None:
    arrays = dict(load_arrays((folder / ARRAYS).read_bytes()))
    arrays.pop(name)
    sealed(folder, save_arrays(arrays if values is None else {**arrays, name: values}))


def with_meta(folder: Path, **meta: Any) -> None:
    sealed(folder, meta=json.loads((folder / META).read_text())["meta"] | meta)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Detector]:
    values = vectors(300, 6)
    return {"mahalanobis": Mahalanobis(span=3).fit(values), "residual": Residual(span=3).fit(values)}


class Harm:
    """Would be called by what unpickles."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


HEADER = {"x": {"dtype": "F64", "shape": [2**62], "data_offsets": [0, 8]}}
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no meta": (lambda f: (f / META).unlink(), "holds no saved model"),
    "no arrays": (lambda f: (f / ARRAYS).unlink(), "holds no saved model"),
    "empty meta": (lambda f: (f / META).write_text(""), "cannot be read"),
    "no JSON": (lambda f: (f / META).write_bytes(b"\xff\xfe{"), "cannot be read"),
    "deep JSON": (lambda f: (f / META).write_text("[" * 10**6), "cannot be read"),
    "a list": (lambda f: (f / META).write_text("[]"), "cannot be read"),
    "meta no object": (lambda f: sealed(f, meta=[1]), "cannot be read"),
    "kind no text": (lambda f: sealed(f, kind=["mahalanobis"]), "cannot be read"),
    "layout": (lambda f: sealed(f, layout=99), "another version of fmbdask"),
    "cut": (lambda f: (f / ARRAYS).write_bytes((f / ARRAYS).read_bytes()[:-1]), "is damaged"),
    "pickle": (lambda f: sealed(f, pickle.dumps(Harm())), "is damaged"),
    "huge header": (lambda f: sealed(f, struct.pack("<Q", 2**60) + b"{}"), "is damaged"),
    "huge array": (
        lambda f: sealed(
            f, struct.pack("<Q", len(json.dumps(HEADER))) + json.dumps(HEADER).encode() + bytes(8)
        ),
        "is damaged",
    ),
    "folds": (lambda f: with_meta(f, folds=10**9), "no .* model that can be used"),
    "no folds": (lambda f: with_meta(f, folds=None), "no .* model that can be used"),
    "widths": (lambda f: with_meta(f, widths={"feature": 7}), "no .* model that can be used"),
    "no widths": (lambda f: with_meta(f, widths=3), "no .* model that can be used"),
    "modalities": (lambda f: with_meta(f, modalities=["other"]), "no .* model that can be used"),
    "two": (
        lambda f: with_meta(f, modalities=["a", "b"], widths={"a": 6, "b": 6}),
        "no .* model that can be used",
    ),
    "own": (lambda f: with_meta(f, own={}), "no .* model that can be used"),
    "span": (lambda f: with_meta(f, own={"span": [1]}), "no .* model that can be used"),
    "no mean": (lambda f: with_array(f, "basis_mean", None), "no .* model that can be used"),
    "NaN": (lambda f: with_array(f, "basis_mean", np.full((5, 6), np.nan)), "no .* model that can be used"),
    "shape": (lambda f: with_array(f, "basis_values", np.ones((5, 7))), "no .* model that can be used"),
    "type": (lambda f: with_array(f, "basis_vectors", np.ones((5, 6, 3))), "no .* model that can be used"),
    "first": (lambda f: with_array(f, "basis_first", np.array([5])), "no .* model that can be used"),
    "no first": (
        lambda f: with_array(f, "basis_first", np.array([], np.int64)),
        "no .* model that can be used",
    ),
    "variances": (lambda f: with_array(f, "variances", np.zeros((5, 3))), "no .* model that can be used"),
    "calibration": (lambda f: with_array(f, "calibration", None), "no .* model that can be used"),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kind", ["mahalanobis", "residual"])
def test_damaged_models_are_refused(kind: str, how: str, fitted: dict[str, Detector], tmp_path: Path) -> None:
    folder = fitted[kind].save(tmp_path / "model")
    damage, words = DAMAGE[how]
    damage(folder)
    for read in (type(fitted[kind]).load, load):
        with pytest.raises(InputError, match=words) as caught:
            read(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_no_folder_or_another_kind(fitted: dict[str, Detector], tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, Path(__file__)):
        with pytest.raises(InputError, match="holds no saved model"):
            load(path)
    folder = fitted["residual"].save(tmp_path / "model")
    with pytest.raises(InputError, match="holds a model of kind residual, not mahalanobis"):
        Mahalanobis.load(folder)
    sealed(folder, kind="mahalanobis")
    with pytest.raises(InputError, match="holds no mahalanobis model that can be used"):
        load(folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), file=st.sampled_from([META, ARRAYS]))
def test_a_changed_byte_is_refused_or_harmless(
    place: int, value: int, file: str, fitted: dict[str, Detector], tmp_path: Path
) -> None:
    folder = fitted["mahalanobis"].save(tmp_path / "model", overwrite=True)
    content = bytearray((folder / file).read_bytes())
    content[place % len(content)] = value
    (folder / file).write_bytes(content)
    try:
        found = load(folder)
    except InputError:
        return
    assert isinstance(found, Mahalanobis)
    if file == ARRAYS:  # the byte was the same
        np.testing.assert_array_equal(
            found.score(vectors(20, 6)), fitted["mahalanobis"].score(vectors(20, 6))
        )
