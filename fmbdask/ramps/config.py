"""Options of the ramp detector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Rate = Annotated[float, Field(gt=0, lt=0.1)]
Skip = Literal["auto"] | Annotated[int, Field(ge=0)]


class Limits(BaseModel):
    """Hard limits on events, on top of the false-alarm rate; null is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_anomaly_pixels: int | None = Field(None, ge=1, description="fewest pixels of any event [pixel]")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="smallest confidence of any event; .35 trades a hundredth of completeness for purity",
    )
    cosmic_ray_min_intensity: float | None = Field(
        None, description="smallest step of the brightest pixel of a cosmic ray [DN]"
    )
    cosmic_ray_max_spatial_extent: int | None = Field(
        None, ge=1, description="most pixels of a cosmic ray [pixel]"
    )
    cosmic_ray_min_step: float | None = Field(None, description="smallest mean step of a cosmic ray [DN]")
    rtn_min_transitions: int | None = Field(None, ge=1, description="fewest transitions of a telegraph pixel")
    rtn_max_transitions: int | None = Field(None, ge=1, description="most transitions of a telegraph pixel")
    rtn_amplitude_range: tuple[float, float] | None = Field(
        None, description="level difference of a telegraph pixel [DN]"
    )
    rtn_frequency_range: tuple[float, float] | None = Field(
        None, description="transitions per frame of a telegraph pixel, divided by two [1/frame]"
    )
    rtn_fit_quality_threshold: float | None = Field(None, description="smallest R^2 of the two-level model")
    rtn_min_confidence: float | None = Field(None, ge=0, le=1, description="smallest confidence")
    snowball_min_confidence: float | None = Field(None, ge=0, le=1, description="smallest confidence")
    snowball_min_intensity: float | None = Field(None, description="smallest step of the core [DN]")
    snowball_max_intensity: float | None = Field(None, description="largest step of the core [DN]")
    snowball_min_radius: float | None = Field(None, description="smallest radius [pixel]")
    snowball_max_radius: float | None = Field(None, description="largest radius [pixel]")
    snowball_circularity_threshold: float | None = Field(None, description="smallest axis ratio")
    snowball_expansion_rate: float | None = Field(
        None, description="fastest growth of the radius after the first frame [pixel/frame]"
    )
    snowball_min_area: float | None = Field(None, description="smallest area [pixel]")
    snowball_max_area: float | None = Field(None, description="largest area [pixel]")


class DetectionConfig(BaseModel):
    """How a ramp is searched.

    Thresholds follow from a false-alarm rate that is calibrated on each exposure. ``limits`` cut the
    catalogue further, for those who want fixed numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    false_alarm_rate: Rate = Field(
        1e-5, description="stated probability that a ramp without an event shows an isolated step"
    )
    sigma_threshold: float | None = Field(
        None, gt=0, description="fixed threshold instead of the false-alarm rate [sigma]"
    )
    weak_sigma: float = Field(
        3.5, gt=0, description="steps from this significance on may join a stronger neighbour [sigma]"
    )
    skip_first: Skip = Field("auto", description="frames left out at the start; auto: those that settle")
    skip_last: Skip = Field("auto", description="frames left out at the end; auto: those that stand out")
    reference_pixels: bool = Field(True, description="subtract the offsets of the reference pixels")
    common_mode: bool = Field(True, description="subtract what all pixels of an amplifier share in a read")
    row_noise: bool = Field(True, description="subtract what all pixels of a row share in a read")
    rho_floor: float = Field(
        5e-3, gt=0, le=1, description="smallest Poisson-to-read variance ratio; bounds the memory for drifts"
    )
    max_steps: int = Field(12, ge=1, le=64, description="most steps fitted to one pixel")
    telegraph: bool = Field(True, description="fit telegraph noise to candidate pixels")
    telegraph_evidence: float = Field(
        4.0, description="log-likelihood by which two levels must beat every simpler model"
    )
    snowball_min_pixels: int = Field(30, ge=4, description="fewest pixels of an unsaturated snowball [pixel]")
    appearance_sigma: float = Field(
        5.0, gt=0, description="rise over the first read at which a pixel counts as appeared [sigma]"
    )
    model: str | None = Field(
        None, description="network that is asked about what the rules propose: its folder, or small"
    )
    model_sha256: str | None = Field(None, description="its checksum; another one is refused")
    model_confidence: float = Field(
        0.9, ge=0, le=1, description="confidence from which a proposal becomes an event"
    )
    model_everywhere: bool = Field(
        False, description="whether the network looks at the whole exposure and proposes as well"
    )
    model_device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network runs")
    model_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "float32", description="numbers that the network computes with"
    )
    limits: Limits = Field(default_factory=Limits, description="hard limits on events")

    @field_validator("model_everywhere")
    @classmethod
    def _has_a_model(cls, everywhere: bool, others: ValidationInfo) -> bool:
        if everywhere and others.data.get("model") is None:
            raise ValueError("needs a network: give a model as well, or leave --everywhere out")
        return everywhere
