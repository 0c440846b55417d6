"""Which modalities of a store a detector takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...anomaly.kinds import class_of
from ...errors import InputError
from .stores import Kept

#: Modalities that are compared, and those that are made of both.
IMAGE, SPECTRUM, JOINT = "image", "spectrum", "joint"
#: Families that want sequences.
OF_SEQUENCES = ("lstm",)


def named(kept: Mapping[str, Kept], names: Sequence[str] | None, where: str) -> dict[str, Kept]:
    """The modalities that are named, or all.

    Raises
    ------
    InputError
        If there is no such modality.
    """
    unknown = [m for m in names or () if m not in kept]
    if unknown:
        raise InputError(f"{where} has no modality {unknown[0]}: it has {', '.join(kept)}")
    return {m: k for m, k in kept.items() if names is None or m in names}


def suited(kind: str, kept: Mapping[str, Kept], names: Sequence[str] | None, where: str) -> list[str]:
    """Modalities for the detectors of a family that takes one: those that are named, or all that fit.

    Raises
    ------
    InputError
        If there is none.
    """
    own = named(kept, names, where)
    if names is not None and kind not in OF_SEQUENCES:
        return list(own)
    found = [m for m, k in own.items() if k.sequences == (kind in OF_SEQUENCES)]
    if found:
        return found
    if kind in OF_SEQUENCES:
        raise InputError(
            f"{where} holds no sequences ({', '.join(own)}): cut series into windows with `fmbdask "
            "embeddings import SERIES --window LENGTH`, or make them of ramps with `fmbdask ramps sequences`"
        )
    raise InputError(
        f"{where} holds sequences only ({', '.join(own)}): use `fmbdask train lstm` or `fmbdask detect "
        f"ensemble`, or take them as vectors with --modality {next(iter(own))}"
    )


def groups(
    kind: str, kept: Mapping[str, Kept], names: Sequence[str] | None, where: str
) -> list[tuple[str, ...]]:
    """Modalities of each detector of a family that a store gives: one, or a pair.

    Raises
    ------
    InputError
        If there are none.
    """
    if class_of(kind).takes == 1:
        return [(m,) for m in suited(kind, kept, names, where)]
    found = pairs(named(kept, names, where))
    if not found:
        raise InputError(
            f"{where} holds no two modalities of one model ({', '.join(kept)}): {kind} takes two"
        )
    return [*found]


def by_model(kept: Mapping[str, Kept]) -> dict[str, list[str]]:
    """Modalities by the model that made them."""
    found: dict[str, list[str]] = {}
    for modality, one in kept.items():
        found.setdefault(one.model, []).append(modality)
    return found


def pairs(kept: Mapping[str, Kept]) -> list[tuple[str, str]]:
    """Modalities that are compared: image and spectrum of each model, else its first two but joint ones
    and sequences."""
    found = []
    for modalities in by_model(kept).values():
        single = [m for m in modalities if JOINT not in m and not kept[m].sequences]
        images = [m for m in single if IMAGE in m]
        spectra = [m for m in single if SPECTRUM in m]
        if images and spectra:
            found.append((images[0], spectra[0]))
        elif len(single) > 1:
            found.append((single[0], single[1]))
    return found
