"""Layered configuration: flags over task file over local file over defaults, and where each value came from.

A configuration is a pydantic model; this module reads YAML, finds the files, merges the layers key by key and
turns every mistake into one sentence that names the key, the file and what to write instead.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fmbdask.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

#: Sections that a local file may hold: dotted names of the command that reads each.
SECTIONS = ("ramps.detect", "ramps.simulate", "detect", "train.unet", "survey")
LOCAL_NAME = "fmbdask.yaml"
ENVIRONMENT = "FMBDASK_CONFIG"


@dataclass(frozen=True)
class Layer:
    """Values from one place, nested as in the model."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved(Generic[M]):
    """A configuration and, for each dotted key, the place its value came from."""

    value: M
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Each setting as (dotted key, value, origin), in the order of the model."""
        for key, value in leaves(self.value):
            yield key, value, self.origins[key]


def resolve(
    model: type[M],
    section: str,
    task_file: str | Path | Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Resolved[M]:
    """Merge all layers of one section into a validated configuration.

    Parameters
    ----------
    model
        Pydantic model of the section; fields that are models themselves are merged key by key.
    section
        Dotted name of the section in a local file, such as ``ramps.detect``.
    task_file
        YAML file that holds the fields of this section at its top level, or its content.
    flags
        Values from the command line by dotted key; None means that the flag was not given.

    Returns
    -------
    Resolved
        The configuration and the origin of each value.

    Raises
    ------
    ConfigError
        For a file that is missing or is not YAML, an unknown key, or a value of the wrong type.
    """
    layers = []
    local = local_file()
    if local is not None:
        layers.append(Layer(str(local), section_of(read_yaml(local), section, local)))
    if isinstance(task_file, Mapping):
        layers.append(Layer("the configuration", task_file))
    elif task_file is not None:
        layers.append(Layer(str(task_file), read_yaml(Path(task_file))))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    layers += [Layer(flag_name(key), nested(key, value)) for key, value in given.items()]

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        check_keys(model, layer.values, layer.origin)
        merge(model, merged, layer, origins)
    try:
        value = model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(error, origins, merged)) from None
    return Resolved(value, {key: origin_of(key, origins) for key, _ in leaves(value)})


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Place that a value came from: that of the key itself, or of the section it was switched on with."""
    while key not in origins and "." in key:
        key = key.rpartition(".")[0]
    return origins.get(key, "default")


def local_file() -> Path | None:
    """File of the user's own settings: `FMBDASK_CONFIG`, else `fmbdask.yaml` here, else the personal one."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        if not Path(named).is_file():
            raise ConfigError(
                f"{ENVIRONMENT} names {named}, which is not a file: correct or unset the variable"
            )
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME")
    personal = Path(folder) if folder else Path.home() / ".config"
    for candidate in (Path(LOCAL_NAME), personal / "fmbdask" / LOCAL_NAME):
        if candidate.is_file():
            return candidate
    return None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as usual, but a key that is written twice is an error: YAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a table of settings; an empty file is an empty table."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: the configuration file cannot be read: {reason}") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{place}: not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the top level must be `key: value` lines, not a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def section_of(content: Mapping[str, Any], section: str, path: Path) -> Mapping[str, Any]:
    """Values of one section of a local file, after a check that all its sections are known."""
    known = {*SECTIONS, section}
    check_sections(content, known, path, "")
    values: Any = content
    for part in section.split("."):
        values = values.get(part) or {}
    return dict(values)


def check_sections(content: Mapping[str, Any], known: set[str], path: Path, prefix: str) -> None:
    """Refuse a section that no command reads."""
    for key, values in content.items():
        name = f"{prefix}{key}"
        inner = any(section.startswith(f"{name}.") for section in known)
        if not inner and name not in known:
            raise ConfigError(f"{path}: there is no section {name}{suggestion(name, sorted(known))}")
        if values is not None and not isinstance(values, dict):
            raise ConfigError(f"{path}: the section {name} must hold `key: value` lines, not {values!r}")
        if inner:
            check_sections(values or {}, known, path, f"{name}.")


def submodel(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Model of a field that is itself a section (or a section that can be switched off), else None."""
    annotation = model.model_fields[key].annotation
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def optional(model: type[BaseModel], key: str) -> bool:
    """Whether a section can be switched off."""
    return type(None) in get_args(model.model_fields[key].annotation)


def check_keys(model: type[BaseModel], values: Mapping[str, Any], origin: str, prefix: str = "") -> None:
    """Refuse keys that the model does not have, naming the nearest that it has."""
    for key, value in values.items():
        if key not in model.model_fields:
            known = [f"{prefix}{name}" for name in model.model_fields]
            raise ConfigError(
                f"{origin}: there is no setting {prefix}{key}{suggestion(f'{prefix}{key}', known)}"
            )
        inner = submodel(model, key)
        if inner is not None and not (optional(model, key) and (value is None or isinstance(value, bool))):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{origin}: {prefix}{key} must hold `key: value` lines, not {value!r}")
            check_keys(inner, value, origin, f"{prefix}{key}.")


def suggestion(key: str, known: list[str]) -> str:
    """End of a sentence that names the nearest known key, or all of them when none is near."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; the nearest is {near[0]}" if near else f"; known are {', '.join(known)}"


def merge(
    model: type[BaseModel], merged: dict[str, Any], layer: Layer, origins: dict[str, str], prefix: str = ""
) -> None:
    """Lay the values of a layer over those below it, remembering where each came from.

    A section that can be switched off takes null or false for off and true for its defaults.
    """
    for key, value in layer.values.items():
        name = f"{prefix}{key}"
        inner = submodel(model, key)
        if inner is None:
            merged[key] = value
            origins[name] = layer.origin
        elif not isinstance(value, Mapping):
            merged[key] = {} if value else None
            for known in [known for known in origins if known.startswith(f"{name}.")]:
                del origins[known]
            origins[name] = layer.origin
        else:
            below = merged.get(key)
            if below is None:
                default = model.model_fields[key].get_default(call_default_factory=True)
                below = default.model_dump() if isinstance(default, BaseModel) else {}
            merged[key] = below
            merge(inner, below, Layer(layer.origin, value), origins, f"{name}.")


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as `{"a": {"b": value}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def flag_name(key: str) -> str:
    """The flag of a key, as the user typed it."""
    return "--" + key.rsplit(".", 1)[-1].replace("_", "-")


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a configuration as (dotted key, value)."""
    for key in type(model).model_fields:
        value = getattr(model, key)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def explain(error: ValidationError, origins: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """All mistakes of a configuration in one sentence, each with the place of the value."""
    wants: dict[tuple[str, str], list[str]] = {}
    for detail in error.errors():
        place = (
            place_of(detail["loc"], values) if detail["type"] != "missing" else list(map(str, detail["loc"]))
        )
        owner = next(
            (key for key in (".".join(place[:n]) for n in range(len(place), 0, -1)) if key in origins), None
        )
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        shown = ""
        if owner and detail["type"] != "value_error":
            message, shown = message.split(", ")[0], f", not {detail['input']!r}"
        where = f"{origins[owner]}: " if owner else ""
        wants.setdefault((f"{where}{'.'.join(place)}", shown), []).append(message)
    return "; ".join(f"{what} {' or '.join(words)}{shown}".strip() for (what, shown), words in wants.items())


def place_of(loc: tuple[Any, ...], values: Any) -> list[str]:
    """Keys and positions that lead to a value; alternatives that pydantic names between are left out."""
    found = []
    for part in loc:
        if (isinstance(values, Mapping) and part in values) or (
            isinstance(values, list | tuple) and isinstance(part, int)
        ):
            values = values[part]
            found.append(str(part))
    return found
