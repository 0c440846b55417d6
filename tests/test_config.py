"""Layered configuration: which layer wins, where values came from, and what mistakes sound like."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from fmbdask.cli.config import model_of
from fmbdask.config import SECTIONS, resolve
from fmbdask.errors import ConfigError
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.simulation.config import SimulationConfig
from fmbdask.survey.config import SurveyConfig
from fmbdask.survey.objects.settings import DetectConfig
from fmbdask.survey.patches.settings import UNetConfig


class Halo(BaseModel):
    model_config = ConfigDict(frozen=True)
    scale: float = 10.0
    ratio: float = Field(0.1, ge=0, le=1)


class Toy(BaseModel):
    model_config = ConfigDict(frozen=True)
    threshold: float = 5.0
    kind: Literal["all", "none"] = "all"
    span: tuple[float, float] = (0.0, 1.0)
    gains: dict[str, float] = {"a": 1.0}
    skip: Literal["auto"] | NonNegativeInt = "auto"
    halo: Halo = Halo()
    tail: Halo | None = Halo(scale=20.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FMBDASK_CONFIG", raising=False)
    return tmp_path


def test_defaults_alone(folder: Path) -> None:
    found = resolve(Toy, "toy")
    assert found.value == Toy()
    assert set(found.origins.values()) == {"default"}


def test_each_layer_wins_over_those_below(folder: Path) -> None:
    (folder / "fmbdask.yaml").write_text("toy: {threshold: 1, kind: none, halo: {scale: 1, ratio: 0.5}}\n")
    (folder / "task.yaml").write_text("threshold: 2\nhalo: {scale: 2}\n")
    found = resolve(Toy, "toy", "task.yaml", {"halo.scale": 3.0, "kind": None})
    assert (found.value.threshold, found.value.kind) == (2.0, "none")
    assert found.value.halo == Halo(scale=3.0, ratio=0.5)
    assert found.origins == {
        "threshold": "task.yaml",
        "kind": "fmbdask.yaml",
        "span": "default",
        "gains": "default",
        "skip": "default",
        "halo.scale": "--scale",
        "halo.ratio": "fmbdask.yaml",
        "tail.scale": "default",
        "tail.ratio": "default",
    }
    assert list(found.rows())[-3] == ("halo.ratio", 0.5, "fmbdask.yaml")


def test_sections_can_be_switched_off_and_on(folder: Path) -> None:
    (folder / "fmbdask.yaml").write_text("toy: {tail: false}\n")
    found = resolve(Toy, "toy")
    assert found.value.tail is None
    assert found.origins["tail"] == "fmbdask.yaml"
    (folder / "task.yaml").write_text("tail: true\n")
    found = resolve(Toy, "toy", "task.yaml")
    assert found.value.tail == Halo()
    assert found.origins["tail.scale"] == "task.yaml"


def test_part_of_a_section_keeps_the_defaults_of_the_rest(folder: Path) -> None:
    (folder / "task.yaml").write_text("tail: {ratio: 0.5}\n")
    assert resolve(Toy, "toy", "task.yaml").value.tail == Halo(scale=20.0, ratio=0.5)


def test_a_table_of_values_is_replaced_whole(folder: Path) -> None:
    (folder / "task.yaml").write_text("gains: {b: 2}\n")
    assert resolve(Toy, "toy", "task.yaml").value.gains == {"b": 2.0}


def test_local_file_of_this_folder_hides_the_personal_one(folder: Path) -> None:
    personal = folder / "home" / "fmbdask" / "fmbdask.yaml"
    personal.parent.mkdir(parents=True)
    personal.write_text("toy: {threshold: 7}\n")
    assert resolve(Toy, "toy").value.threshold == 7
    assert resolve(Toy, "toy").origins["threshold"] == str(personal)
    (folder / "fmbdask.yaml").write_text("toy: {threshold: 8}\n")
    assert resolve(Toy, "toy").value.threshold == 8


def test_environment_names_the_local_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fmbdask.yaml").write_text("toy: {threshold: 8}\n")
    (folder / "other.yaml").write_text("toy: {threshold: 9}\n")
    monkeypatch.setenv("FMBDASK_CONFIG", str(folder / "other.yaml"))
    assert resolve(Toy, "toy").value.threshold == 9
    monkeypatch.setenv("FMBDASK_CONFIG", str(folder / "missing.yaml"))
    with pytest.raises(ConfigError, match=r"FMBDASK_CONFIG names .*missing\.yaml, which is not a file"):
        resolve(Toy, "toy")


def test_sections_of_other_commands_are_allowed(folder: Path) -> None:
    (folder / "fmbdask.yaml").write_text("ramps: {detect: {anything: 1}}\n")
    assert resolve(Toy, "toy").value == Toy()


def test_numbers_in_scientific_notation(folder: Path) -> None:
    (folder / "task.yaml").write_text("threshold: 1e-5\n")
    assert resolve(Toy, "toy", "task.yaml").value.threshold == 1e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thresold: 2\n", "task.yaml: there is no setting thresold; the nearest is threshold"),
        ("halo: {scal: 2}\n", "task.yaml: there is no setting halo.scal; the nearest is halo.scale"),
        (
            "zzz: 2\n",
            "task.yaml: there is no setting zzz; known are threshold, kind, span, gains, skip, halo, tail",
        ),
        ("halo: 3\n", "task.yaml: halo must hold `key: value` lines, not 3"),
        ("- 1\n", "task.yaml: the top level must be `key: value` lines, not a list"),
        ("a: [1\n", "task.yaml, line 2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (
            "threshold: 1\nthreshold: 2\n",
            "task.yaml, line 2: not valid YAML: the key threshold is written twice",
        ),
        (
            "threshold: high\n",
            "task.yaml: threshold should be a valid number, not 'high'",
        ),
        ("skip: many\n", "task.yaml: skip should be 'auto' or should be a valid integer, not 'many'"),
        ("gains: {a: low}\n", "task.yaml: gains.a should be a valid number, not 'low'"),
        ("halo: {ratio: 2}\n", "task.yaml: halo.ratio should be less than or equal to 1, not 2"),
        ("kind: some\n", "task.yaml: kind should be 'all' or 'none', not 'some'"),
        (
            "span: [0, x]\n",
            "task.yaml: span.1 should be a valid number, not 'x'",
        ),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, text: str, message: str) -> None:
    (folder / "task.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(Toy, "toy", "task.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ramp: {detect: {}}\n",
            "fmbdask.yaml: there is no section ramp; known are detect, ramps.detect, ramps.simulate, "
            "survey, toy, train.unet",
        ),
        (
            "ramps: {detct: {}}\n",
            "fmbdask.yaml: there is no section ramps.detct; the nearest is ramps.detect",
        ),
        ("toy: 3\n", "fmbdask.yaml: the section toy must hold `key: value` lines, not 3"),
    ],
)
def test_unknown_sections_are_errors(folder: Path, text: str, message: str) -> None:
    (folder / "fmbdask.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(Toy, "toy")
    assert str(caught.value) == message


def test_mistakes_on_the_command_line_name_the_flag(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^--ratio: halo\.ratio should be greater than or equal to 0, not -1$"
    ):
        resolve(Toy, "toy", flags={"halo.ratio": -1})


def test_missing_task_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.yaml: there is no such configuration file$"):
        resolve(Toy, "toy", "nowhere.yaml")


@pytest.fixture(scope="module")
def templates() -> Path:
    """Folder of the configurations that travel with the package."""
    return Path(__file__).resolve().parent.parent / "configs" / "ramps"


def test_template_of_detection_holds_the_defaults(templates: Path) -> None:
    assert resolve(DetectionConfig, "ramps.detect", templates / "h2rg.yaml").value == DetectionConfig()


def test_template_of_ohana_sets_its_limits(templates: Path) -> None:
    found = resolve(DetectionConfig, "ramps.detect", templates / "ohana.yaml").value
    assert found.sigma_threshold == 5.0
    assert all(value is not None for value in found.limits.model_dump().values())


def test_sections_have_models() -> None:
    found = [model_of(section) for section in SECTIONS]
    assert found == [DetectionConfig, SimulationConfig, DetectConfig, UNetConfig, SurveyConfig]
