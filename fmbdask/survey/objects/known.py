"""What is known of trained models: of which store, in which state, and whether they can be used again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...atomic import atomic
from ...checkpoints import META
from ...errors import InputError
from ..planning.inputs import identity_of
from .stores import plain

NAME = "store.json"


@dataclass(frozen=True)
class Origin:
    """The store that models were trained on: its path, and what tells one state of it from another."""

    store: str
    size: int
    mtime_ns: int
    header: str

    @staticmethod
    def of(store: str | os.PathLike[str]) -> Origin:
        """That of a store as it is now."""
        path = os.path.abspath(store)
        found = identity_of(path)
        return Origin(path, found.size, found.mtime_ns, found.header)

    @staticmethod
    def read(folder: Path) -> Origin | None:
        """That of models; None where it is not known.

        Raises
        ------
        InputError
            If what is kept is damaged.
        """
        try:
            return Origin(**json.loads((folder / NAME).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{folder / NAME} cannot be read ({error}): train the models again") from None

    def write(self, folder: Path) -> None:
        """Keep it beside models."""
        with atomic(folder / NAME, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def other_settings(folder: Path, asked: Mapping[str, Any]) -> str:
    """How a saved model differs from the settings that a user asked for; empty if it does not.

    Parameters
    ----------
    folder : Path
        Of one model.
    asked : mapping
        Only what was asked for; what a model does not say does not differ. An ensemble may have more
        ``members``, and ``detectors`` holds what was asked of each.
    """
    try:
        head = json.loads((folder / META).read_text(encoding="utf-8"))
        said = head["meta"] | head["meta"]["own"].get("options", {})
        parts = list(head.get("parts", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""  # whoever loads it says what is wrong
    differ = [
        f"{k} {said[k]}, not {value}"
        for k, value in asked.items()
        if plain(said.get(k, value)) != plain(value)
    ]
    absent = [name for name in asked.get("members") or () if parts and name not in parts]
    if absent:
        differ.append(f"members {', '.join(parts)}, not {', '.join(asked['members'])}")
    others = [m for m in said.get("modalities", ()) if m not in (asked.get("modality") or (m,))]
    if parts and others:
        differ.append(f"modality {', '.join(said['modalities'])}, not {', '.join(asked['modality'])}")
    for part, options in (asked.get("detectors") or {}).items():
        if part in parts:
            other = other_settings(folder / part, options)
            differ += [f"{part}: {other}"] if other else []
    return ", ".join(differ)
