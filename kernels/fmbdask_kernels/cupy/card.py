"""A GPU as the twins see it: arrays on it, and kernels that are started there."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import planes
from ..rate_tables import MIXED
from ..stepped import LEAST, TELLING

#: Kernels by name; each is the one function of its file.
KERNELS = ("temporal", "masked", "rates")
#: Types of a read that kernels are compiled for, as CUDA calls them.
READS = {"u2": "unsigned short", "i2": "short", "i4": "int", "f4": "float", "f8": "double"}
#: How many tables are kept on a card: those of the integrations of an exposure, and of the next one.
KEPT = 16


class Card(Protocol):
    """What the twins need of a GPU.

    Attributes
    ----------
    xp
        Module of array functions, as ``cupy``.
    per_block, per_processor : int
        Shared memory that a block of threads may have, and that all of a multiprocessor share [byte].
    """

    xp: Any
    per_block: int
    per_processor: int

    def launch(
        self,
        kernel: str,
        options: tuple[str, ...],
        grid: tuple[int, int],
        block: tuple[int, int],
        shared: int,
        arguments: Sequence[Any],
    ) -> None:
        """Start a kernel; arrays, numbers of NumPy, and None for a null pointer are its arguments."""

    def keep(self, made_of: Any, make: Callable[[], NDArray[Any]]) -> Any:
        """Return an array on the card that is made once for the array ``made_of``."""


class CupyCard:
    """The GPU of this thread, by CuPy; a :class:`Card`."""

    def __init__(self) -> None:
        import cupy

        self.xp: Any = cupy
        self._device = cupy.cuda.Device()
        self.number = int(self._device.id)
        limits = self._device.attributes
        self.per_block = int(limits["MaxSharedMemoryPerBlockOptin"])
        self.per_processor = int(limits["MaxSharedMemoryPerMultiprocessor"])
        self._functions: dict[tuple[str, ...], Any] = {}
        self._kept = Kept()

    def launch(
        self,
        kernel: str,
        options: tuple[str, ...],
        grid: tuple[int, int],
        block: tuple[int, int],
        shared: int,
        arguments: Sequence[Any],
    ) -> None:
        """Start a kernel on the current stream."""
        function = self._function(kernel, options)
        if shared > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, tuple(np.uintp(0) if a is None else a for a in arguments), shared_mem=shared)

    def _function(self, kernel: str, options: tuple[str, ...]) -> Any:
        key = (kernel, *options)
        if key not in self._functions:
            module = self.xp.RawModule(code=source(kernel), options=(STANDARD, *options))
            self._functions[key] = module.get_function(kernel)
        return self._functions[key]

    def keep(self, made_of: Any, make: Callable[[], NDArray[Any]]) -> Any:
        """Return an array on the card that is made once for the array ``made_of``."""

        def sent() -> Any:
            array = self.xp.asarray(make())
            # other streams will use it
            self.xp.cuda.get_current_stream().synchronize()
            return array

        return self._kept.get(made_of, sent)

    def stream(self) -> Any:
        """Return a new stream that waits for no other."""
        return self.xp.cuda.Stream(non_blocking=True)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory of this machine that the card copies by itself."""
        held = self.xp.cuda.alloc_pinned_memory(max(nbytes, 1))
        return np.frombuffer(held, np.uint8, nbytes)

    def send(self, source: NDArray[np.uint8], target: Any) -> None:
        """Begin to copy pinned memory to the card, on the current stream."""
        target.set(source, stream=self.xp.cuda.get_current_stream())

    def fetch(self, source: Any, target: NDArray[np.float32]) -> None:
        """Begin to copy from the card to pinned memory, on the current stream."""
        source.get(stream=self.xp.cuda.get_current_stream(), out=target, blocking=False)

    def active(self) -> AbstractContextManager[Any]:
        """Make this card the current one of the thread."""
        device: AbstractContextManager[Any] = self.xp.cuda.Device(self.number)
        return device


class Kept:
    """The last arrays that were made of others; these are kept, too, so that no other has their number."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, made_of: Any, make: Callable[[], Any]) -> Any:
        """Return what was made of an array, made now where it is new."""
        with self._lock:
            if id(made_of) not in self._arrays:
                self._arrays[id(made_of)] = made_of, make()
            self._arrays.move_to_end(id(made_of))
            while len(self._arrays) > KEPT:
                self._arrays.popitem(last=False)
            return self._arrays[id(made_of)][1]


#: What the sources are written in.
STANDARD = "-std=c++17"

_cards: dict[int, CupyCard] = {}
_making = threading.Lock()


def current() -> CupyCard:
    """Return the GPU that CuPy uses in this thread."""
    import cupy

    number = int(cupy.cuda.Device().id)
    with _making:
        if number not in _cards:
            _cards[number] = CupyCard()
    return _cards[number]


def missing() -> str | None:
    """Why there is no GPU to use here, None if there is one."""
    try:
        import cupy
    except ImportError as error:
        return "CuPy is not installed" if error.name == "cupy" else f"CuPy cannot be imported ({error})"
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no GPU"
    except cupy.cuda.runtime.CUDARuntimeError:
        return "CuPy sees no GPU"


@functools.cache
def source(kernel: str) -> str:
    """Source of a kernel: constants that it shares with the CPU, what kernels share, and itself."""
    here = Path(__file__).parent
    numbers = {
        "COUNT": str(planes.COUNT),
        "MAD_SIGMA_D": repr(planes.MAD_SIGMA),
        "MAD_SIGMA": _float(planes.MAD_SIGMA),
        "WINSOR_D": repr(planes.WINSOR),
        "WINSOR_REACH": _float(planes.WINSOR * planes.MAD_SIGMA),
        "MIXED": str(MIXED),
        "LEAST": _float(LEAST),
        "TELLING": _float(TELLING),
        "NAN_F": "__uint_as_float(0x7FC00000u)",
    }
    named = {name: str(getattr(planes, name)) for name in PLANE_NAMES} | numbers
    lines = [f"#define {name} {value}" for name, value in named.items()]
    parts = [(here / name).read_text() for name in ("common.cuh", f"{kernel}.cu")]
    return "\n".join([*lines, *parts])


def _float(value: float) -> str:
    return f"{float(np.float32(value))!r}f"


#: Numbers of planes, under their names in :mod:`fmbdask_kernels.planes`.
PLANE_NAMES = (
    "SLOPE", "MINIMUM", "MAXIMUM", "MEDIAN", "MAD", "LARGEST", "LARGEST_FRAME", "FIRST", "PERSISTENCE",
    "MAX_INTENSITY", "VARIANCE", "TRANSITIONS", "STEP_FRAME", "STEP_AMPLITUDE", "STEP_SIGNIFICANCE",
    "STEP_R2", "DROP_SIGNIFICANCE", "READ_VARIANCE", "NOISE", "ROUGHNESS", "RATE", "RHO_BIN", "READS",
)  # fmt: skip
