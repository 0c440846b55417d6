"""How anomalous objects are looked for: the section ``detect`` of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...anomaly.levels import KNOTS, Levels
from ...errors import ConfigError
from .stores import Known

Fusion = Literal["pvalue", "geo", "min", "avg"]


class LevelsConfig(BaseModel):
    """How p-values become levels from 0 to 1, and levels alerts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    knots: tuple[tuple[float, float], ...] = Field(KNOTS, description="p-value and level, falling and rising")
    warning: float = Field(0.3, description="level from which an alert is a warning")
    critical: float = Field(0.7, description="level from which it is critical")

    @model_validator(mode="after")
    def _check(self) -> LevelsConfig:
        try:
            self.made()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def made(self) -> Levels:
        """As detectors take them."""
        return Levels(self.knots, self.warning, self.critical)


class DetectConfig(BaseModel):
    """How anomalous objects are looked for; the section ``detect`` of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["coupling", "autoregressive"] = Field("coupling", description="kind of the flow")
    n_layers: int = Field(4, ge=1, le=64, description="layers of the flow")
    hidden_dim: int = Field(128, ge=1, le=8192, description="width of the networks of the flow")
    learning_rate: float = Field(5e-3, gt=0, description="of the training of the flow, at its begin")
    components: int = Field(100, ge=2, description="principal components that the flow sees")
    epochs: int | None = Field(None, ge=1, description="most passes over the sample; 1200 steps by default")
    batch: int = Field(512, ge=1, description="objects of one step")
    patience: int = Field(5, ge=1, description="passes without progress after which training ends")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where networks run")
    folds: int = Field(5, ge=1, le=100, description="models, each without the objects that it scores")
    seed: int = Field(0, ge=0, description="of what is random in training")
    group: str | None = Field(None, description="column whose equal values keep objects in one fold")
    labels: str | None = Field(None, description="column that is 1 for anomalous objects: not learnt from")
    modality: tuple[str, ...] | None = Field(None, description="modalities to take; all that fit by default")
    robust: bool = Field(False, description="moments once more without the objects that surprised")
    members: tuple[str, ...] | None = Field(None, description="families of an ensemble")
    weights: dict[str, float] | None = Field(None, description="how much each of them says")
    levels: LevelsConfig | None = Field(None, description="how p-values become levels and alerts")
    detectors: dict[str, dict[str, Any]] = Field({}, description="arguments of detectors, by their family")
    alignment: Literal["auto", "mlp", "ridge"] = Field(
        "auto", description="how the match of modalities is learned; auto: mlp where torch is installed"
    )
    fusion: Fusion = Field("pvalue", description="how scores become one: pvalue, geo, min or avg")
    top_k: int = Field(200, ge=1, description="objects of the ranked lists")
    fdr: float = Field(0.1, gt=0, lt=1, description="false discovery rate of the list of p-values")
    t_img: float | None = Field(None, ge=0, le=1, description="least share of the image's rank in filtered")
    t_spec: float | None = Field(None, ge=0, le=1, description="least share of the spectrum's rank")
    t_mis: float | None = Field(None, ge=0, le=1, description="least share of the mismatch's rank")

    @property
    def known(self) -> Known:
        """Columns that say something of the objects."""
        return Known(self.group, self.labels)

    @property
    def ensemble(self) -> tuple[str, ...] | None:
        """Members of an ensemble that are asked for: those that are named, or those that are weighed."""
        return self.members or (tuple(self.weights) if self.weights else None)
