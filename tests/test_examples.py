"""Every example that a reader may copy runs: those of the docstrings, and those of the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import fmbdask_kernels
import numpy as np
import pytest

import fmbdask
from fmbdask.cli import ramps as ramps_commands
from fmbdask.cli.templates import write_templates
from fmbdask.config import read_yaml
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.store.embeddings import EmbeddingWriter, Modality
from fmbdask.survey.exposures.simulate import simulate_survey

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def modules_with_examples() -> Iterator[str]:
    """Names of the modules whose source holds a doctest."""
    for package in (fmbdask, fmbdask_kernels):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = found.module_finder.find_spec(found.name, None)
            if spec and spec.origin and ">>> " in Path(spec.origin).read_text():
                yield found.name


def blocks(language: str) -> list[str]:
    """Code blocks of the README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a simulated exposure, `data/h2rg_0000.fits`, a store of embeddings, `astropt.zarr`, and a
    table one of whose rows is far from the others, `table.csv`."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(1)
    with EmbeddingWriter(folder / "astropt.zarr", [Modality(n, 8) for n in ("image", "spectrum")]) as writer:
        vectors = {n: random.standard_normal((600, 8), np.float32) for n in ("image", "spectrum")}
        writer.write(np.arange(600), vectors)
    rows = random.standard_normal((400, 4))
    rows[7] += 20.0
    lines = [f"{i}," + ",".join(f"{v:.6f}" for v in row) for i, row in enumerate(rows)]
    (folder / "table.csv").write_text("\n".join(["object_id,volt,amp,rpm,temperature", *lines, ""]))
    simulate_survey(SimulationConfig().resized(20, 64, 64), folder / "data", seed=1, workers=1)
    return folder


@pytest.mark.parametrize("name", sorted(modules_with_examples()))
def test_docstrings(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_python(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    write_templates(data, overwrite=True)
    names: dict[str, object] = {}
    for example in blocks("python"):
        exec(compile(example, "README.md", "exec"), names)
    assert {"ramp", "found", "maps", "plan", "run", "detector", "scores", "labels"} <= set(names)


def test_readme_settings(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    path = tmp_path / "fmbdask.yaml"
    path.write_text(example)
    settings = {"false_alarm_rate": 1e-5, "limits": {"min_confidence": 0.35}}
    assert read_yaml(path) == {"ramps": {"detect": settings}}


def test_readme_names_commands_that_exist() -> None:
    named = set(re.findall(r"fmbdask ramps (\w+)", README))
    assert named == {command.callback.__name__ for command in ramps_commands.app.registered_commands}
