"""The benchmark of a GPU: its arithmetic, what it streams, and what it says where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.cupy import card
from fmbdask_kernels.rate_tables import make_rates
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.survey.bench.kernels.gpu import Times, enlarged, rows_of, streamed
from fmbdask.survey.bench.kernels.measure import make_problem
from fmbdask.survey.bench.kernels.roofline import (
    LOOKS,
    PASSES,
    Limits,
    bytes_per_value,
    exposures_per_second,
    instructions_per_value,
    looks_of_warps,
    roofline,
)

from ..kernels.cupy.host import StreamingHost, host_card

CARD = Limits("a card", 100, 1e9, 2e12)


def test_roofline() -> None:
    assert CARD.issued == 100 * 128 * 1e9
    assert bytes_per_value(92) == 3
    one = sum(PASSES.values()) + 2 * LOOKS["median"] + 3 * LOOKS["deviation"]
    assert instructions_per_value((2, 3)) == pytest.approx(one)
    found = roofline(CARD, 92, (2, 3))
    assert found.memory == pytest.approx(1.5e-12)
    assert found.instructions == pytest.approx(one / 12.8e12)
    assert (found.limit, found.best) == ("instructions", found.instructions)
    slow = roofline(Limits("slow memory", 100, 1e9, 1e11), 92, (2, 3))
    assert (slow.limit, slow.best) == ("memory", pytest.approx(3e-11))
    assert exposures_per_second(1e-12, 450) == pytest.approx(1 / (450 * 2048 * 2048 * 1e-12))


def test_a_warp_takes_the_looks_of_its_slowest_pixel() -> None:
    seen = np.full((2, 40), 2 | 3 << 8, np.int32)
    assert looks_of_warps(seen) == (2, 3)
    seen[0, 5], seen[1, 39] = 4 | 3 << 8, 2 | 7 << 8
    assert looks_of_warps(seen) == ((4 + 2 + 2 + 2) / 4, (3 + 3 + 3 + 7) / 4)


def test_rows_are_shares_of_what_was_measured() -> None:
    times = Times(
        CARD,
        92,
        1000,
        kernel=92e-3 * 1e-9 * 1e3,
        looks=(2, 3),
        transfer=4e-6,
        decode=3e-6,
        whole=5e-6,
        threads=8,
    )
    rows = {(row.name, row.unit): row.value for row in rows_of(times)}
    each = times.kernel / 92_000
    best = roofline(CARD, 92, (2, 3))
    assert rows["resident", "ps per pixel and frame"] == pytest.approx(each * 1e12)
    assert rows["bandwidth reached", "%"] == pytest.approx(100 * best.memory / each)
    assert rows["reached", "%"] == rows["instructions reached", "%"]
    assert rows["transfer", "GB/s"] == pytest.approx(184e3 / 4e-6 / 1e9)
    assert rows["end to end", "GB/s"] == pytest.approx(184e3 / 5e-6 / 1e9)
    assert rows["end to end", "%"] == pytest.approx(80)
    assert rows["decode alone", "%"] == pytest.approx(60)
    assert len(rows) == len(rows_of(times))


def test_blocks_are_enlarged_by_copies() -> None:
    problem = make_problem(9, 16)
    large = enlarged(problem, 40)
    assert large.data.shape == (9, 40, 40)
    np.testing.assert_array_equal(large.data[:, 32:, 16:32], problem.data[:, :8])
    assert large.offsets.row.shape == (8, 40)
    assert large.hit.shape == (40, 40)


def test_chunks_are_streamed_from_zarr(tmp_path: Path) -> None:
    host = StreamingHost(host_card())
    problem = enlarged(make_problem(9, 64), 140)
    parts = make_rates(problem.pattern, problem.tables, 0.0)
    decode, whole, threads = streamed(host, problem, parts, str(tmp_path), 1)
    assert decode > 0
    assert whole > 0
    assert threads >= 1
    # four chunks, in the run that warms up and in the one that counts
    assert [name for name, _, _ in host.launched].count("temporal") == 8
    assert host.sent > 2 * problem.data.nbytes


@pytest.mark.parametrize("command", [["bench", "kernels"], ["ramps", "detect", "x.fits", "-o", "out"]])
def test_without_a_gpu_one_sentence(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "missing", lambda: "CuPy is not installed")
    result = CliRunner().invoke(app, [*command, "--device", "gpu"])
    assert result.exit_code == 1
    said: Any = result.exception
    text = result.output + str(said)
    assert "device gpu was asked for and CuPy is not installed here: install fmbdask[cuda12]" in text


def test_rows_become_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmbdask.survey.bench.kernels import gpu

    times = Times(CARD, 92, 1000, 1e-6, (2, 3), 4e-6, 3e-6, 5e-6, 8)
    asked: list[tuple[int, int]] = []

    def measured(frames: int, size: int, repeats: int) -> Times:
        asked.append((frames, size))
        return times

    monkeypatch.setattr(gpu, "measured", measured)
    monkeypatch.setattr(gpu, "find_device", lambda name: name)
    result = CliRunner().invoke(app, ["bench", "kernels", "--device", "gpu", "--frames", "92", "--json"])
    assert result.exit_code == 0, result.output
    assert asked == [(92, 1024)]
    assert json.loads(result.output)[0]["note"] == "a card"
