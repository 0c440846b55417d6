"""Whether data are what a detector was fitted to."""

from __future__ import annotations

import xarray as xr

from ..errors import InputError
from .objects import SEQUENCE, UNNAMED, Data, Objects
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
        own, other = detector.provenance.get(modality, {}), objects.provenance.get(modality, {})
        for key in SAME:
            if own.get(key) and other.get(key) and own[key] != other[key]:
                raise InputError(
                    f"vectors of {modality} have {key} {other[key]}, the model was fitted to {own[key]}: "
                    "fit it to this store"
                )
    return objects


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
