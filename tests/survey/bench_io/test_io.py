"""The benchmark of layouts: measured for real at small size, and its advice on made-up tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import InputError
from fmbdask.survey.bench.io import measuring
from fmbdask.survey.bench.io.cases import Layout, layouts
from fmbdask.survey.bench.io.measuring import across, measure, tiles
from fmbdask.survey.bench.io.report import advice


def test_quick_run_prints_tables_and_advice(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "io", "-o", str(tmp_path), "--quick"])
    assert done.exit_code == 0, done.output
    assert "ramps: " in done.output
    assert "vectors: " in done.output
    ramps = pd.read_csv(tmp_path / "io_ramps.csv")
    assert set(ramps["codec"]) >= {"none", "lz4 bitshuffle", "zstd 1"}
    assert (ramps[["write", "read_cold", "read", "read_threads", "window_ms", "ratio"]] > 0).all(axis=None)
    squares = ramps[ramps["chunks"] == "40x128x128"].set_index("codec")
    assert squares.loc["lz4 bitshuffle", "ratio"] > 1.2 * squares.loc["none", "ratio"]
    assert {p.name for p in tmp_path.iterdir()} == {"io.txt", "io_ramps.csv", "io_vectors.csv"}


def test_every_layout_holds_the_array(tmp_path: Path) -> None:
    values = {
        "ramps": np.arange(20 * 64 * 64, dtype=np.uint16).reshape(20, 64, 64),
        "vectors": np.ones((5000, 8), np.float32),
    }
    found = layouts(values["ramps"].shape, values["vectors"].shape)
    assert sum(layout.usual for layout in found) == 2
    for layout in found:
        row = measure(layout, values[layout.data], tmp_path, repeats=1)
        assert row["files"] >= 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "sync", lambda path: _spoil(path))
    values = np.ones((4, 16, 16), np.uint16)
    with pytest.raises(InputError, match="other values"):
        measure(Layout("ramps", (4, 16, 16), "none"), values, tmp_path, repeats=1)


def _spoil(path: Path) -> None:
    chunk = next(p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(b"\0" * chunk.stat().st_size)


def test_tiles_cover_all_once() -> None:
    seen = np.zeros((5, 7, 9), int)
    for region in tiles(seen.shape, (5, 3, 4)):
        seen[region] += 1
    assert (seen == 1).all()
    assert across((10, 512, 512)) == (slice(None), slice(170, 298), slice(170, 298))


def rows_of(*rows: tuple[str, float, float, float, bool]) -> pd.DataFrame:
    columns = ["codec", "read_cold", "ratio", "window_ms", "usual"]
    return pd.DataFrame(rows, columns=columns).assign(chunks="1x2", shards="")


def test_advice() -> None:
    ours = ("lz4", 2.0, 1.5, 3.0, True)
    assert "right here" in advice("ramps", rows_of(ours, ("none", 2.2, 1.0, 3.0, False)))
    assert "none is read 2.00 times as fast" in advice("ramps", rows_of(ours, ("none", 4.0, 1.0, 3.0, False)))
    # fast as a whole, but every window takes all of it
    assert "right here" in advice("ramps", rows_of(ours, ("planes", 9.0, 1.3, 90.0, False)))
    smaller = advice("ramps", rows_of(ours, ("zstd", 2.0, 3.0, 3.0, False)))
    assert "zstd is read 1.00 times" in smaller
    assert "at 0.50 of its size" in smaller


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    done = CliRunner().invoke(app, ["bench", "io", "-o", str(tmp_path), "--quick"])
    assert isinstance(done.exception, InputError)
    assert "make room" in str(done.exception)
