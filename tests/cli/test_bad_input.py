"""Exposures that cannot be used, and those that look so: one sentence, no warning, and the others done."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from fmbdask.cli.app import main
from fmbdask.store import catalog
from fmbdask.store.products import open_products

from ..ramps.made_up import counts

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

Case = tuple[NDArray[Any] | Callable[[Path], object], str]


def truncated(path: Path) -> None:
    fits.PrimaryHDU(counts()).writeto(path)
    os.truncate(path, 20000)


def no_image(path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def uneven_frames(path: Path) -> None:
    frames = [*counts(5), counts(1, 40, 39)[0]]
    fits.HDUList([fits.PrimaryHDU(), *map(fits.ImageHDU, frames)]).writeto(path)


def only_reference_pixels(path: Path) -> None:
    image = fits.PrimaryHDU(counts(12, 8, 8))
    image.header["REFBORD"] = 4
    image.writeto(path)


def no_gain(path: Path) -> None:
    image = fits.PrimaryHDU(counts())
    image.header["GAIN"] = 0.0
    image.writeto(path)


def saturated_behind_the_border(path: Path) -> None:
    data = np.full((12, 40, 40), 65535, np.uint16)
    data[:, :4] = counts(12, 4, 40)
    image = fits.PrimaryHDU(data)
    image.header["REFBORD"] = 4
    image.writeto(path)


def not_finite(share: float) -> NDArray[np.float32]:
    data = counts(dtype=np.float32)
    data[np.random.default_rng(1).random(data.shape) < share] = np.nan
    return data


def saturating(frame: int) -> NDArray[np.uint16]:
    data = counts()
    data[frame:] = 65535
    return data


#: Name of a file, what it holds, and what is said of it.
REFUSED: dict[str, Case] = {
    "truncated.fits": (truncated, "is truncated: the file has 20000 bytes"),
    "no_image.fits": (no_image, "has no image in any extension"),
    "uneven.fits": (uneven_frames, "has shape (40, 39) where"),
    "border.fits": (only_reference_pixels, "leaves no pixel of"),
    "gain.fits": (no_gain, "gives 0.0 as its gain (GAIN)"),
    "behind.fits": (saturated_behind_the_border, "is saturated in every pixel from the first frame"),
    "folder": (Path.mkdir, "is a folder without Zarr metadata"),
    "empty.fits": (Path.touch, "is empty: copy the file again"),
    "absent.fits": (lambda path: None, "does not exist: check the path"),
    "pipe": (os.mkfifo, "is not a file"),
    "text.txt": (lambda path: path.write_text("12, 13"), "is in no format that can be read"),
    "four.npy": (counts(4), "4 usable reads are too few to measure their noise: give read_noise"),
    "three.npy": (counts(3), "has 3 frames along the ramp"),
    "flat.npy": (counts()[0], "has 2 dimensions, shape (40, 40)"),
    "one_value.npy": (np.full((12, 40, 40), 7, np.uint16), "is 7 in every frame and pixel"),
    "full.npy": (np.full((12, 40, 40), 65535, np.uint16), "is 65535 in every frame and pixel"),
    "still.npy": (np.repeat(counts(1), 12, axis=0), "does not change from frame to frame"),
    "all_nan.npy": (np.full((12, 40, 40), np.nan, np.float32), "holds no finite value"),
    "all_infinite.npy": (np.full((12, 40, 40), np.inf), "holds no finite value"),
    "mostly_nan.npy": (not_finite(0.8), "no pixel has 12 reads that are finite"),
    "later_nan.npy": (
        np.where(np.arange(12)[:, None, None] > 0, np.nan, counts()),
        "1 frames are left of 12",
    ),
    "soon_full.npy": (saturating(4), "no pixel has 12 reads"),
    "words.npy": (np.full((12, 40, 40), "a"), "holds values of type"),
    "truth_values.npy": (counts() > 5000, "holds values of type bool"),
    "objects.npy": (np.array([{}, 1], object), "holds Python objects"),
}

some_nan = not_finite(0.002)
some_nan[4, 5, 5], some_nan[7, 8, 8], some_nan[:, 20, 20] = np.inf, -np.inf, np.nan
some_full = counts()
some_full[:, 5, 5], some_full[:, 9:30, 9] = 65535, 65535
still_pixels = counts()
still_pixels[:, 5:9, 5:9], still_pixels[:, 3] = 60000, 0
#: Exposures that work, however odd.
ACCEPTED: dict[str, NDArray[Any]] = {
    "some_nan": some_nan,
    "one_bad_frame": np.where(np.arange(12)[:, None, None] == 5, np.nan, counts()),
    "some_full": some_full,
    "half_full": np.where(np.arange(40)[:, None] % 2, 65535, counts()).astype(np.uint16),
    "still_pixels": still_pixels,
    "five_frames": counts(5),
    "odd": counts(13, 33, 47),
    "wide": counts(12, 20, 101),
    "row": counts(12, 1, 50),
    "column": counts(12, 50, 1),
    "tiny": counts(12, 5, 7),
    "pixel": counts(12, 1, 1),
    "pixel_of_five_frames": counts(5, 1, 1),
    "integrations": np.stack([counts(12, 20, 20), counts(12, 20, 20, seed=2)]),
    "below_zero": (counts().astype(np.int32) - 5000).astype(np.int16),
    "big_endian": counts().astype(">u2"),
    "big_endian_float": counts(dtype=np.float64).astype(">f8"),
    "bytes": (counts() // 40).astype(np.uint8),
    "large_whole": counts().astype(np.int64) * 1000,
    "column_major": np.asfortranarray(counts()),
    "faint": counts(dtype=np.float64) * 1e-9,
    "straight": (np.arange(12)[:, None, None] * 50 + counts(1)).astype(np.uint16),
}


def write(path: Path, content: NDArray[Any] | Callable[[Path], object]) -> Path:
    if callable(content):
        content(path)
    else:
        np.save(path, content, allow_pickle=content.dtype == object)
    return path


def run(*words: str | Path) -> int | str | None:
    """Exit status; a warning from NumPy is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(SystemExit) as caught:
            main(["ramps", "detect", *map(str, words)])
    return caught.value.code


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int | str | None, str, str]:
    """Everything at once, good exposures among bad: folder of results, status, and what was written."""
    folder = tmp_path_factory.mktemp("many")
    bad = [write(folder / name, content) for name, (content, _) in REFUSED.items()]
    good = [write(folder / f"{name}.npy", content) for name, content in ACCEPTED.items()]
    mixed = [*bad[:5], *good, *bad[5:]]
    with pytest.MonkeyPatch.context() as patch:
        out: list[str] = []
        err: list[str] = []
        patch.setattr(
            "typer.echo",
            lambda text="", err_=err, out_=out, **k: (err_ if k.get("err") else out_).append(str(text)),
        )
        status = run(*mixed, "-o", folder / "out", "--features")
    return folder, status, "\n".join(out), "\n".join(err)


def test_bad_exposures_fail_the_command_and_stop_no_other(many: tuple[Path, int, str, str]) -> None:
    folder, status, _, err = many
    assert status == 1
    assert err.splitlines()[-1] == (
        f"{len(ACCEPTED)} of {len(ACCEPTED) + len(REFUSED)} exposures done, {len(REFUSED)} failed"
    )
    assert {path.name for path in (folder / "out").iterdir()} == set(ACCEPTED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_one_sentence(many: tuple[Path, int, str, str], name: str) -> None:
    path = str(many[0] / name)
    lines = [line for line in many[3].splitlines() if path in line or f" of {name} " in line]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert REFUSED[name][1] in lines[0]
    assert "unexpected" not in lines[0]
    # the sentence ends with what to do
    assert any(mark in lines[0].split(name)[-1] for mark in (": ", ", so ")), lines[0]


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_exposures_work(many: tuple[Path, int, str, str], name: str) -> None:
    result = many[0] / "out" / name
    assert any(line.startswith(f"{result}: ") for line in many[2].splitlines())
    content = json.loads((result / "detections.json").read_text())
    # nothing but noise: at most a chance event
    assert len(content["detections"]) <= 1
    data = ACCEPTED[name]
    maps = open_products(result / "products.zarr")
    assert maps["rate"].shape[-2:] == data.shape[-2:]
    # a pixel without two good reads has no rate, and never a zero instead
    good = np.isfinite(data) & (data != 65535 if data.dtype == np.uint16 else True)
    first = good.reshape(-1, *data.shape[-3:])
    known = first[:, :2].all(axis=1) & (first.sum(axis=1) >= 4)
    rate = maps["rate"].values
    assert np.isfinite(rate[known]).all()
    assert np.isnan(rate[~first.any(axis=1)]).all()
    if name == "straight":
        np.testing.assert_allclose(rate, 50, rtol=1e-3)


def test_what_was_done_without_a_border_is_said(many: tuple[Path, int, str, str]) -> None:
    line = next(line for line in many[2].splitlines() if "/out/odd: " in line)
    assert "no reference pixels are known: offsets come from the pixels that see light" in line
    assert "no gain is known" in line


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--gain", "0"], 1, "gain is 0.0: give a number above 0"),
        (["--gain", "nan"], 1, "gain is nan: give a number above 0"),
        (["--read-noise", "-1"], 1, "read_noise is -1.0: give a number above 0"),
        (["--saturation", "100"], 1, "saturated in every pixel from the first frame"),
        (["--gain", "absent.npy"], 1, "absent.npy"),
        (["--amplifiers", "41"], 1, "41 amplifiers do not fit"),
        (["--reference-border", "20"], 1, "leaves no pixel of"),
        (["--reference-border", "four"], 2, "--reference-border takes one number"),
        (["--frame-time", "0"], 1, "frame_time is 0.0: give seconds above 0"),
        (["--skip-first", "9"], 1, "3 frames are left of 12: skip fewer"),
        (["--skip-last", "-2"], 1, "--skip-last"),
        (["--false-alarm-rate", "0"], 1, "--false-alarm-rate: false_alarm_rate should be greater than 0"),
        (["--threads", "0"], 2, "--threads"),
    ],
)
def test_options_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    exposure = write(tmp_path / "x.npy", counts())
    assert run(exposure, "-o", tmp_path / "out", *words) == status
    err = capsys.readouterr().err
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "x").exists()


@pytest.mark.parametrize(
    ("shape", "value", "option", "message"),
    [
        ((3, 3), 1.0, "--bad-pixels", "has shape (3, 3): give one of shape (40, 40)"),
        ((40, 40), 1.0, "--bad-pixels", "no pixel has 12 reads"),
        ((40, 40), 0.0, "--gain", "the gain map has no positive median"),
        ((40, 40), np.nan, "--gain", "the gain map has no positive median"),
        ((3, 40, 40), np.nan, "--linearity", "no pixel has 12 reads"),
    ],
)
def test_maps_that_cannot_be(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shape: tuple[int, ...],
    value: float,
    option: str,
    message: str,
) -> None:
    exposure = write(tmp_path / "x.npy", counts())
    a_map = write(tmp_path / "map.npy", np.full(shape, value, np.float32))
    assert run(exposure, "-o", tmp_path / "out", option, a_map) == 1
    assert message in capsys.readouterr().err


def test_equal_stems_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for night in ("a", "b"):
        (tmp_path / night).mkdir()
        paths.append(write(tmp_path / night / "x.npy", counts(seed=ord(night))))
    assert run(*paths, "-o", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a-x", "b-x"}


def test_one_exposure_given_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.npy", counts())
    assert run(path, path, "-o", tmp_path / "out") == 1
    assert "is given 2 times: name each exposure once" in capsys.readouterr().err


def test_a_file_in_the_way_of_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.npy", counts())
    (tmp_path / "out").write_text("a file")
    assert run(path, "-o", tmp_path / "out") == 1
    assert f"{tmp_path / 'out'} cannot be made" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.npy", counts())
    (tmp_path / "out").mkdir(mode=0o500)
    assert run(path, "-o", tmp_path / "out") == 1
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["write_events", "write_products"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = write(tmp_path / "x.npy", counts())

    def full(folder: Path, *_: Any, **__: Any) -> None:
        (Path(folder).parent / "half").write_text("half a result")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(f"fmbdask.survey.exposures.results.{broken}", full)
    assert run(path, "-o", tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name != "half"] == []


def test_an_interrupted_overwrite_keeps_the_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.npy", counts())
    assert run(path, "-o", tmp_path / "out") == 0
    old = (tmp_path / "out" / "x" / "detections.json").read_bytes()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fmbdask.survey.exposures.results.write_products", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(["ramps", "detect", str(path), "-o", str(tmp_path / "out"), "--overwrite"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]
    assert (tmp_path / "out" / "x" / "detections.json").read_bytes() == old
    assert catalog.read_table(tmp_path / "out" / "x" / "detections.parquet") is not None


def test_what_was_not_foreseen_is_one_sentence_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.npy", counts())

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("so\nwhat")

    monkeypatch.setattr("fmbdask.survey.exposures.work.detect", broken)
    assert run(path, "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "x.npy: unexpected ZeroDivisionError" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
