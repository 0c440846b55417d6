"""Configuration of a survey run: what is done to which inputs, where results go, and how much may be used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..cluster.config import Size
from ..config import read_yaml, resolve, suggestion
from ..errors import ConfigError
from ..ramps.config import DetectionConfig

#: File that maps names of places to folders, and names in braces, as in ``{data}/x.fits``.
PATHS_NAME = "paths.yaml"
_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Pipelines by name; all others are functions of the user.
PIPELINES = ("ramps", "embeddings", "patches", "synthetic")


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | os.PathLike) else value


def _plain_name(value: str) -> str:
    if "/" in value or value in (".", "..") or not value.isprintable():
        raise ValueError(f"{value!r} is no plain name: give one without slashes")
    return value


Name = Annotated[str, AfterValidator(_plain_name)]


class ExposureConfig(BaseModel):
    """What is said about every exposure, over what its file says; see :func:`fmbdask.open_ramp`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extension: int | str | None = Field(None, description="which of several ramps in a file")
    accumulate: bool = Field(False, description="integrate the fluxes of target pixel files over time")
    gain: float | str | None = Field(None, description="number or map [electron/DN]")
    read_noise: float | str | None = Field(None, description="noise of one read, number or map [electron]")
    saturation: float | str | None = Field(None, description="level of a full pixel, number or map [DN]")
    bad_pixels: str | None = Field(None, description="map that is not zero where a pixel is never used")
    linearity: str | None = Field(None, description="coefficients that make counts linear")
    reference_border: int | tuple[int, int, int, int] | None = Field(
        None, description="reference pixels at the edges [pixel]"
    )
    amplifiers: int | None = Field(None, ge=1, description="output amplifiers along a row")
    amplifier_layout: Literal["contiguous", "interleaved"] | None = Field(
        None, description="amplifiers side by side, or taking turns"
    )
    frame_time: float | None = Field(None, gt=0, description="time from one frame to the next [s]")

    def given(self) -> dict[str, Any]:
        """What was said, as :func:`fmbdask.open_ramp` takes it."""
        return {k: v for k, v in self.model_dump().items() if v is not None and v is not False}


class SurveyConfig(BaseModel):
    """A survey run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field("survey", min_length=1, description="name of the run")
    pipeline: str = Field("ramps", description="ramps, embeddings, patches, or a function: file.py:function")
    inputs: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        (), description="paths, patterns such as data/*.fits, or manifests (.csv, .parquet)"
    )
    output: str | None = Field(None, description="folder of the run")
    detection: DetectionConfig = Field(
        default_factory=DetectionConfig, description="how ramps are searched, as for `ramps detect`"
    )
    exposure: ExposureConfig = Field(
        default_factory=ExposureConfig, description="what is said about every exposure"
    )
    history: str | None = Field(None, description="folder of detector histories to search with")
    detector: str | None = Field(None, description="name of the detector where headers have none or another")
    features: bool = Field(False, description="keep every temporal feature of ramps")
    device: Literal["cpu", "gpu", "auto"] = Field(
        "cpu", description="where the first pass over ramps runs: cpu, gpu, or auto for what a worker has"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="of the embeddings pipeline, or arguments of a function of yours"
    )
    cluster: str | None = Field(None, description="local, threads, tcp://..., runner, or a YAML file")
    span_seconds: float = Field(5.0, gt=0, le=600, description="work of one task [s]")
    attempts: int = Field(3, ge=1, le=20, description="how often a region is tried that a file system failed")
    region_deadline: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="longest time of a region [s]; auto: 30 times what was measured, at least 60 s"
    )
    memory: Size | None = Field(None, description="anonymous memory of one worker process, such as 2GB")
    edge: int | None = Field(None, ge=16, description="rows and columns of a region [pixel]")

    def as_json(self) -> dict[str, Any]:
        """Plain values, which :meth:`pydantic.BaseModel.model_validate` takes back."""
        return self.model_dump(mode="json")

    @property
    def folder(self) -> Path:
        """Folder of the run.

        Raises
        ------
        ConfigError
            If none is given.
        """
        if not self.output:
            raise ConfigError("the survey has no output: give the folder of the run (output: runs/name)")
        return Path(self.output)


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | SurveyConfig,
    flags: Mapping[str, Any] | None = None,
) -> SurveyConfig:
    """Read the configuration of a run, with names of places and relative paths resolved.

    Parameters
    ----------
    source : path, mapping or SurveyConfig
        YAML file, or its content.
    flags : mapping, optional
        Values from the command line by dotted key.

    Returns
    -------
    SurveyConfig
        All paths absolute; relative ones begin in the working folder.

    Raises
    ------
    ConfigError
        If a key is unknown, a value cannot be used, or a place has no name.
    """
    file = None
    if isinstance(source, SurveyConfig):
        config = source.model_copy(update=dict(flags or {}))
    elif isinstance(source, Mapping):
        config = resolve(SurveyConfig, "survey", source, flags).value
    else:
        file = Path(source)
        config = resolve(SurveyConfig, "survey", file, flags).value
    places = Places.near(file)
    exposure = config.exposure.model_dump()
    for key in ("gain", "read_noise", "saturation", "bad_pixels", "linearity"):
        if isinstance(exposure[key], str):
            number = _number(exposure[key])
            exposure[key] = places.absolute(exposure[key]) if number is None else number
    cluster = config.cluster
    if cluster is not None and cluster.endswith((".yaml", ".yml")):
        cluster = places.absolute(cluster)
    return config.model_copy(
        update={
            "pipeline": _pipeline(config.pipeline, places),
            "inputs": tuple(places.absolute(path) for path in config.inputs),
            "output": None if config.output is None else places.absolute(config.output),
            "exposure": ExposureConfig(**exposure),
            "history": None if config.history is None else places.absolute(config.history),
            "cluster": cluster,
        }
    )


def _pipeline(name: str, places: Places) -> str:
    """Check the name of a pipeline, and make the file of a function absolute."""
    if name in PIPELINES:
        return name
    place, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        near = suggestion(name, list(PIPELINES))
        raise ConfigError(
            f"there is no pipeline {name}{near}; a function of yours is file.py:function or module:function"
        )
    return f"{places.absolute(place)}:{function}" if place.endswith(".py") else name


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class Places:
    """Names of places, from ``paths.yaml``.

    Parameters
    ----------
    names : mapping
        Name -> folder.
    origin : Path, optional
        The file they come from.
    """

    def __init__(self, names: Mapping[str, Any], origin: Path | None = None) -> None:
        self.names = {str(key): str(value) for key, value in names.items()}
        self.origin = origin

    @staticmethod
    def near(file: Path | None) -> Places:
        """Find the file: in the working folder, or in the two folders above the configuration."""
        folders = [Path.cwd()]
        if file is not None:
            folders += [*file.absolute().parents][:2]
        for folder in folders:
            if (folder / PATHS_NAME).is_file():
                return Places(read_yaml(folder / PATHS_NAME), folder / PATHS_NAME)
        return Places({})

    def absolute(self, text: str) -> str:
        """Put folders in the place of names in braces, and begin relative paths in the working folder."""
        return os.path.abspath(os.path.expanduser(_NAMED.sub(self._place, text)))

    def _place(self, found: re.Match[str]) -> str:
        name = found[1]
        if name not in self.names:
            where = f"{self.origin} has no name {name}" if self.origin else f"there is no {PATHS_NAME}"
            known = suggestion(name, sorted(self.names)) if self.names else ""
            raise ConfigError(
                f"{found[0]} names a place, but {where}{known}: write `{name}: folder` into {PATHS_NAME}"
            )
        place = os.path.expanduser(os.path.expandvars(self.names[name]))
        return place if self.origin is None else str(self.origin.parent / place)


def given_inputs(config: SurveyConfig, inputs: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Make inputs that are named on the command line absolute, as those of the configuration are."""
    places = Places.near(None)
    return tuple(places.absolute(os.fspath(path)) for path in inputs)
