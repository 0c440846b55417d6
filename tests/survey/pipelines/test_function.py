"""Pipelines of users: the example of the documentation, several stages, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fmbdask.errors import ConfigError
from fmbdask.store.writer import RampWriter
from fmbdask.survey import pipeline
from fmbdask.survey.config import read_config
from fmbdask.survey.pipelines import make
from fmbdask.survey.pipelines.declare import Output
from fmbdask.survey.planning.inputs import find, make_items
from fmbdask.survey.planning.plan import plan

from .runner import run_all

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "pipelines.md"
SHAPE = (2, 6, 40, 50)


def blocks(language: str) -> dict[str, str]:
    """Code of the document by the name of its file."""
    found = re.findall(rf"```{language}\n# (\S+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return dict(found)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the document and five exposures, one of another shape."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (blocks("python") | blocks("yaml")).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "data").mkdir()
    for number in range(5):
        write(tmp_path / "data" / f"e{number}.fits", counts(number))
    write(tmp_path / "data" / "odd.fits", counts(9)[:, :, :30])
    return tmp_path


def counts(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 60000, SHAPE, dtype=np.uint16)


def write(path: Path, values: np.ndarray[Any, Any]) -> None:
    with RampWriter(path, values.shape, np.uint16, {}, file_format="fits") as writer:
        for integration in range(values.shape[0]):
            writer.write_rows(integration, 0, values[integration])


def run(work: Path, name: str, **options: Any) -> tuple[Any, list[Any]]:
    config = read_config({"inputs": ["data/*.fits"], "output": "runs/it", "pipeline": name, **options})
    chosen = make(config)
    found, _ = find(config.inputs)
    items = make_items(chosen, found)
    run_all(chosen, items, work / "runs" / "it")
    return chosen, items


def products(path: Path) -> xr.Dataset:
    found: xr.Dataset = xr.open_zarr(str(path / "products.zarr"), consolidated=False)
    return found.load()


@pytest.mark.parametrize("edge", [16, 64])
def test_the_example_of_the_document(work: Path, edge: int) -> None:
    _, items = run(work, "noise.py:noise", options={"scale": 2.0}, edge=edge)
    assert [bool(i.problem) for i in items] == [False, True]
    assert "odd.fits" in items[1].problem
    found = products(work / "runs/it/products/noise")
    last = np.stack([counts(n)[0, -1] for n in range(5)]).astype(np.float32)
    median = np.median(last, axis=0)
    np.testing.assert_array_equal(found["median"], median)
    np.testing.assert_array_equal(found["mad"], 2 * np.median(abs(last - median), axis=0))
    assert found["mad"].attrs["units"] == "DN"


def test_a_plan_of_the_example_measures_it(work: Path) -> None:
    made = plan("noise.yaml")
    made.check()
    assert made.calibration.samples
    assert made.projected.regions == 1
    assert made.projected.nbytes_in == 5 * 2 * 40 * 50 * 2
    assert [note for note in made.notes if "odd" in note]


def test_a_later_stage_gets_what_an_earlier_one_made(work: Path) -> None:
    _, items = run(work, "flatten.py:both", edge=32)
    assert [i.regions for i in items if not i.problem] == [(4, 0), *[(0, 8)] * 5]
    noise = products(work / "runs/it/products/noise/noise")
    for number in range(5):
        found = products(work / f"runs/it/products/excess/e{number}")["excess"]
        wanted = (counts(number)[:, -1] - noise["median"].values) / (noise["mad"].values + 1)
        np.testing.assert_array_equal(found, wanted.astype(np.float32))


def test_the_source_belongs_to_the_result(work: Path) -> None:
    config = read_config({"pipeline": "noise.py:noise"})
    before = make(config).fingerprint()
    assert make(config).fingerprint() == before
    (work / "noise.py").write_text((work / "noise.py").read_text() + "\n")
    assert make(config).fingerprint() != before


SHARDED = """
import fmbdask

@fmbdask.survey.pipeline(memory="1MB", outputs={"last": {"dims": ("integration", "y", "x"), "dtype": "uint16",
    "chunks": (16, 16), "shards": (32, 32)}})
def last(region):
    return {"last": region.isel(frame=-1)}
"""


def test_shards_must_be_whole_regions(work: Path) -> None:
    (work / "sharded.py").write_text(SHARDED)
    run(work, "sharded.py:last", edge=32)
    found = products(work / "runs/it/products/e0")["last"]
    np.testing.assert_array_equal(found, counts(0)[:, -1])
    refused = plan({"pipeline": "sharded.py:last", "inputs": ["data/*.fits"], "output": "runs/x", "edge": 48})
    assert ["shards of 32 pixels" in str(r) and "multiple of 32" in str(r) for r in refused.refusals] == [
        True
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("noise.py:nois", "the nearest is noise"),
        ("noise.py:np", "put @fmbdask.survey.pipeline"),
        ("nothing.py:f", "there is no such file"),
        ("no_such_module:f", "cannot be imported"),
    ],
)
def test_a_function_that_cannot_be_loaded(work: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(read_config({"pipeline": name}))


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("{'other': region.isel(frame=0)}", "declares"),
        ("{'last': region}", "with dims"),
        ("{'last': region.values[0, 0, :3]}", "of shape"),
        ("region", "return a mapping"),
        ("{'last': region.isel(frame=0) / 2}", "Cannot cast"),
    ],
)
def test_results_that_were_not_declared_are_errors(work: Path, returned: str, says: str) -> None:
    (work / "wrong.py").write_text(
        SHARDED.replace("{'last'", "{'last'").replace(
            'return {"last": region.isel(frame=-1)}', f"return {returned}"
        )
    )
    with pytest.raises((TypeError, ValueError), match=says):
        run(work, "wrong.py:last", edge=32)


def test_declarations_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="the last two must be y and x"):
        Output(dims=("x", "y"))
    with pytest.raises(ConfigError, match="axis moment"):
        Output(dims=("moment", "y", "x"))
    with pytest.raises(ConfigError, match="reduce integration and frame"):
        pipeline(over="exposures", memory="1MB", outputs={"a": Output(dims=("frame", "y", "x"))})
    with pytest.raises(ConfigError, match="no outputs"):
        pipeline(memory="1MB", outputs={})
    with pytest.raises(ConfigError, match="memory is 'much'"):
        pipeline(memory="much", outputs={"a": Output()})
