"""`fmbdask ramps`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmbdask.cli.app import main

SMALL = """
image_shape: [48, 64]
num_frames: 16
exp_time: 800
patch_size: [32, 32]
overlap: 8
cosmic_ray_per_exp_range: [6, 6]
rtn_per_exp_range: [4, 4]
snowballs_per_exp_range: [0, 0]
"""


def status(*words: str | Path) -> int | str | None:
    """Exit status of a call."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two simulated exposures."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "small.yaml").write_text(SMALL)
    words = ["simulate", folder / "small.yaml", "-o", folder / "data", "--end-index", "1", "--workers", "1"]
    assert status("ramps", *words) == 0
    return folder / "data"


def test_simulate_writes_exposures_and_truth(simulated: Path) -> None:
    names = {path.name for path in simulated.iterdir()}
    assert names == {
        f"h2rg_000{index}{end}"
        for index in range(2)
        for end in (".fits", "_truth.parquet", "_truth_pixels.parquet")
    }


def test_simulate_names_the_file_and_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(SMALL.replace("num_frames: 16", "num_frames: 2"))
    assert status("ramps", "simulate", config, "-o", tmp_path / "out") == 1
    expected = f"Error: {config}: num_frames should be greater than or equal to 4, not 2\n"
    assert capsys.readouterr().err == expected


def test_simulate_refuses_a_range_that_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    assert status("ramps", "simulate", tmp_path / "small.yaml", "--start-index", "3") == 2
    assert "--end-index" in capsys.readouterr().err
