"""The page on detectors runs as it is shown: its commands, its Python and its settings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fmbdask.anomaly.kinds import KINDS
from fmbdask.cli import train
from fmbdask.cli.app import main
from fmbdask.survey.objects.settings import DetectConfig

from ..survey.objects.made import FAMILIES, QUICK, sequences, store

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "detectors.md").read_text()


def blocks(language: str) -> list[str]:
    """Code blocks of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a table, windows of series, an embedding store, and settings that make training quick."""
    made = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(size=(400, 4)), columns=["volt", "amp", "rpm", "temp"])
    table["label"] = (np.arange(400) % 40 == 0).astype(int)
    table.to_csv(made / "table.csv", index=False)
    sequences(made / "windows.zarr", 300, beside=3)
    store(made / "EMB.zarr", 600, {"image": 8, "spectrum": 8})
    (made / "fmbdask.yaml").write_text(yaml.safe_dump({"detect": {"detectors": FAMILIES, **QUICK}}))
    return made


def test_commands_and_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wanted in ("torch", "zuko", "sklearn"):
        pytest.importorskip(wanted)
    monkeypatch.chdir(folder)
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("fmbdask ")]
    assert len(lines) == 8
    for line in lines:
        with pytest.raises(SystemExit) as caught:
            main(shlex.split(line, comments=True)[1:])
        assert caught.value.code == 0, (line, capsys.readouterr().err)
    names: dict[str, object] = {}
    for example in blocks("python"):
        exec(compile(example, "detectors.md", "exec"), names)
    assert {"scores", "labels", "models", "found", "listed"} <= set(names)


def test_columns_families_and_settings() -> None:
    said = set(re.findall(r"^\| `([a-z_]+)` \| `[A-Z]", PAGE, flags=re.MULTILINE))
    commands = {c.name or c.callback.__name__ for c in train.app.registered_commands if c.callback}
    assert set(KINDS) & commands <= said
    levels = yaml.safe_load(re.findall(r"`(levels: .*?)`", PAGE)[0])
    assert DetectConfig(**levels).levels is not None
    assert DetectConfig(**yaml.safe_load(re.findall(r"`(detectors: .*?)`", PAGE)[0])).detectors
