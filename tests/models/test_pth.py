"""Files of torch: read back whole, and refused in one sentence where they hold anything but weights."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fmbdask.errors import InputError  # noqa: E402
from fmbdask.models.handles import Saved  # noqa: E402
from fmbdask.models.pth import PTH_NAME, from_pth, to_pth  # noqa: E402

from .made import network  # noqa: E402


def packed(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_a_file_is_read_back() -> None:
    saved = Saved(network(), {"noise": "pixel"}, {"epochs": 3})
    content = to_pth(saved)
    found = from_pth(content, PTH_NAME)
    assert found.architecture == saved.architecture
    assert (found.normalisation, found.provenance) == (saved.normalisation, saved.provenance)
    own = found.network.state_dict()
    assert all(torch.equal(values, own[name]) for name, values in saved.network.state_dict().items())
    plain = torch.load(io.BytesIO(content), weights_only=True)
    assert set(plain) == {"model_state_dict", "meta"}
    alone = from_pth(packed(plain["model_state_dict"]), PTH_NAME, saved.architecture)
    assert torch.equal(alone.network.head.weight, saved.network.head.weight)


class Harm:
    """Makes a folder, where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (os.fspath(self.place),)


@pytest.mark.parametrize("way", ["zip", "pickle", "beside weights", "old layout"])
def test_a_file_that_is_made_to_harm_does_nothing(way: str, tmp_path: Path) -> None:
    harm = Harm(tmp_path / "harmed")
    content = {
        "zip": lambda: packed(harm),
        "pickle": lambda: pickle.dumps(harm),
        "beside weights": lambda: packed({"model_state_dict": network().state_dict(), "meta": harm}),
        "old layout": lambda: _old(harm),
    }[way]()
    with pytest.raises(InputError, match=f"^{PTH_NAME} cannot be read as weights of a network") as caught:
        from_pth(content, PTH_NAME)
    assert "\n" not in str(caught.value)
    assert not harm.place.exists()
    if way != "old layout":
        with suppress(RuntimeError):  # what comes after the harm
            torch.load(io.BytesIO(content), weights_only=False)
        assert harm.place.exists()  # the file is what it is said to be


def _old(harm: Harm) -> bytes:
    file = io.BytesIO()
    torch.save({"x": harm}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def cut() -> bytes:
    return to_pth(Saved(network()))[:-100]


def swapped() -> bytes:
    """The archive of a network with a foreign pickle in it."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(to_pth(Saved(network())))) as before,
        zipfile.ZipFile(made, "w") as after,
    ):
        for name in before.namelist():
            after.writestr(name, b"garbage" if name.endswith("data.pkl") else before.read(name))
    return made.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "cannot be read"),
    "text": (lambda: b"no weights at all", "cannot be read"),
    "cut": (cut, "cannot be read"),
    "swapped": (swapped, "cannot be read"),
    "a tensor": (lambda: packed(torch.zeros(3)), "holds no weights of a network by name"),
    "a list": (lambda: packed([torch.zeros(3)]), "holds no weights of a network by name"),
    "numbers": (lambda: packed({"a": 3.0}), "holds weights that are no tensors"),
    "bfloat16": (
        lambda: packed({"a": torch.zeros(3, dtype=torch.bfloat16)}), "holds weights that are no plain arrays",
    ),
    "no architecture": (lambda: packed(network().state_dict()), "'architecture' is missing"),
    "another network": (
        lambda: packed(
            {
                "model_state_dict": network(channels=1).state_dict(),
                "meta": {"architecture": network().architecture.as_dict()},
            }
        ),
        r"down\.0\.0\.weight have shape \(8, 1, 3, 3, 3\), its architecture \(8, 2, 3, 3, 3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_bad_files_are_refused(how: str) -> None:
    content, said = BAD[how]
    with pytest.raises(InputError, match=said) as caught:
        from_pth(content(), PTH_NAME)
    assert PTH_NAME in str(caught.value)
    assert "\n" not in str(caught.value)
