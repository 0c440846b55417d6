"""Declaration of a user's own pipeline: a function of a labelled region, its outputs and its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ...cluster.config import Size
from ...errors import ConfigError

#: A function of a region: (frame, y, x) and more, to one array an output.
Function = Callable[..., Mapping[str, Any]]
#: Axes that an output may have without saying how long they are.
AXES = ("integration", "frame", "y", "x")
#: What a declaration is kept under on the function.
ATTRIBUTE = "__fmbdask_declaration__"


@dataclass(frozen=True)
class Output:
    """One array that a pipeline makes.

    Attributes
    ----------
    dims : sequence of str
        Its axes; the last two are ``y`` and ``x``. ``integration`` and ``frame`` are as long as those of the
        exposures, every other axis needs a size.
    dtype : str
    unit : str
        ``DN``, say; ``1`` for none.
    sizes : mapping, optional
        Length of other axes.
    chunks, shards : (int, int), optional
        Rows and columns of its chunks and shards; a region must be a whole number of them. By default a chunk
        is a region.
    fill : float
        Value where nothing was written.
    """

    dims: Sequence[str] = ("y", "x")
    dtype: str = "float32"
    unit: str = "1"
    sizes: Mapping[str, int] = field(default_factory=dict)
    chunks: tuple[int, int] | None = None
    shards: tuple[int, int] | None = None
    fill: float = 0.0

    def __post_init__(self) -> None:
        if tuple(self.dims)[-2:] != ("y", "x"):
            raise ConfigError(f"an output has dims {tuple(self.dims)}: the last two must be y and x")
        for name in self.dims:
            if name not in AXES and name not in self.sizes:
                raise ConfigError(
                    f"an output has the axis {name} of unknown length: give sizes={{'{name}': n}}"
                )
        try:
            np.dtype(self.dtype)
        except TypeError:
            raise ConfigError(f"an output has dtype {self.dtype!r}: give one that NumPy knows") from None


@dataclass(frozen=True)
class Declaration:
    """One stage of a user's pipeline.

    Attributes
    ----------
    function : callable
    name : str
    outputs : mapping of Output
    over : {"exposure", "exposures"}
    memory : int
        Largest memory of one call beside its region [byte].
    frames : tuple of int, optional
        Frames that are read; all of them by default. Negative ones count from the end.
    resources : mapping
    """

    function: Function
    name: str
    outputs: Mapping[str, Output]
    over: Literal["exposure", "exposures"]
    memory: int
    frames: tuple[int, ...] | None
    resources: Mapping[str, float]


def pipeline(
    *,
    outputs: Mapping[str, Output | Mapping[str, Any]],
    memory: int | str,
    over: Literal["exposure", "exposures"] = "exposure",
    frames: int | Sequence[int] | None = None,
    resources: Mapping[str, float] | None = None,
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Declare a function as a pipeline of survey runs, or as one stage of a list of such functions.

    Parameters
    ----------
    outputs : mapping
        Name -> :class:`Output`, or its fields.
    memory : int or str
        Largest memory of one call beside its region, ``"200MB"``.
    over : {"exposure", "exposures"}
        Whether the function is called with regions of each exposure by itself, dims (integration, frame, y,
        x) with one integration; or with regions of the stack of all exposures, dims (exposure, integration,
        frame, y, x).
    frames : int or sequence of int, optional
        Frames that are wanted, the last one: -1. All by default.
    resources : mapping, optional
        What a worker must offer, ``{"GPU": 1}``.
    name : str, optional
        Name of the stage; that of the function by default.

    Returns
    -------
    callable
        Decorator; the function stays what it is.

    Raises
    ------
    ConfigError
        If an output cannot be.

    Examples
    --------
    >>> import fmbdask
    >>> @fmbdask.survey.pipeline(outputs={"peak": {"dims": ("y", "x"), "unit": "DN"}}, memory="1MB")
    ... def peak(region):
    ...     return {"peak": region.max(["integration", "frame"])}
    """
    made = {}
    for key, value in outputs.items():
        try:
            made[key] = value if isinstance(value, Output) else Output(**value)
        except TypeError as error:
            raise ConfigError(f"the output {key} cannot be: {error}") from None
    if not made:
        raise ConfigError("a pipeline has no outputs: declare at least one")
    if over not in ("exposure", "exposures"):
        raise ConfigError(f"over is {over!r}: give exposure or exposures")
    for key, output in made.items():
        if over == "exposures" and {"integration", "frame"} & set(output.dims):
            raise ConfigError(
                f"the output {key} over exposures has dims {tuple(output.dims)}: exposures may differ there, "
                "so reduce integration and frame, or give the axis another name and a size"
            )
    try:
        nbytes = TypeAdapter(Size).validate_python(memory)
    except ValidationError as error:
        raise ConfigError(f"memory is {memory!r}: {error.errors()[0]['msg']}") from None
    wanted = None if frames is None else (frames,) if isinstance(frames, int) else tuple(frames)

    def declare(function: Function) -> Function:
        called = name or str(getattr(function, "__name__", "pipeline"))
        declaration = Declaration(function, called, made, over, nbytes, wanted, dict(resources or {}))
        setattr(function, ATTRIBUTE, declaration)
        return function

    return declare


def declaration_of(function: Any) -> Declaration | None:
    """Declaration of a function, None where it has none."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else None
