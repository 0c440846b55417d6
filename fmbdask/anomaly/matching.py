"""Whether data are what a detector was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from ..errors import InputError
from .objects import NAMES, SEQUENCE, UNNAMED, Data, Objects
from .protocol import Scorer

#: What must agree where both sides know it.
SAME = ("model", "weights_sha256", SEQUENCE)


def objects_for(detector: Scorer, data: Data) -> Objects:
    """Make data uniform, with the modalities and the groups that a detector was fitted to.

    Raises
    ------
    InputError
        If the detector is not fitted, modalities are absent, or vectors are of another width or model.
    """
    detector.calibrated()
    named = list(detector.modalities)
    if isinstance(data, xr.Dataset):
        objects = Objects.of(data, named, detector.group)
    elif detector.takes > 1:
        raise InputError(
            f"{detector.kind} takes {' and '.join(named)}, this is one array: give a Dataset that holds them"
        )
    else:
        objects = _one_array(data, named[0], detector.group)
    for modality, width in detector.widths.items():
        found = objects.widths[modality]
        if found != width:
            raise InputError(
                f"vectors of {modality} have {found} features, the model was fitted to {width}: "
                "give the store of the same model"
            )
        why = disagreement(objects.provenance.get(modality, {}), detector.provenance.get(modality, {}))
        if why is not None:
            raise InputError(
                f"vectors of {modality} have {why[0]}, the model was fitted to {why[1]}: fit it to this store"
            )
    return objects


def disagreement(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str] | None:
    """What vectors of two provenances do not have in common, in words; None if they go together.

    Examples
    --------
    >>> disagreement({"feature_names": ["volt", "amp"]}, {"feature_names": ["volt", "rpm"]})
    ('amp as feature 2', 'rpm')
    """
    for key in SAME:
        if one.get(key) and other.get(key) and one[key] != other[key]:
            return f"{key} {one[key]}", str(other[key])
    for place, (a, b) in enumerate(zip(one.get(NAMES) or (), other.get(NAMES) or (), strict=False), 1):
        if a != b:
            return f"{a} as feature {place}", str(b)
    return None


def _one_array(data: Data, name: str, group: str | None) -> Objects:
    """An array, which goes by any name if it has none of its own."""
    objects = Objects.of(data, group=group)
    (given,) = objects.modalities
    if given not in (name, UNNAMED) and name != UNNAMED:
        raise InputError(
            f"these vectors are called {given}, the model was fitted to {name}: fit one to them, or rename "
            "them if they are the same"
        )
    return objects.renamed(name)
