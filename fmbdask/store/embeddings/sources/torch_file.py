"""The `.pt` files of the benchmark, lists of dicts with vectors, read without torch and without their code.

A `.pt` file is a zip archive: ``data.pkl`` is a pickle of the records in which tensors stand for entries
``data/N``, which are the bytes of their storages, uncompressed. The pickle is read by an unpickler that knows
the few names such a file needs and refuses every other, so that no code of the file runs; the vectors are
copied out of a memory map block by block. Source of the layout: PyTorch, "Serialization semantics", and
``torch/serialization.py``; of NumPy's scalars: NEP 52 renamed ``numpy.core`` to ``numpy._core``, both occur.
"""

from __future__ import annotations

import gc
import io
import mmap
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...readers.files import reason, stamp_of
from ..columns import Column, plain_scalar
from ..layout import readable
from .protocol import ID_NAMES, Block, Found, choose, split_columns

#: Memory of one tensor and its zip entry, and of one byte of the pickle with the values it makes, measured.
TENSOR_BYTES, PICKLE_FACTOR = 900, 12
STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Tensor:
    """A tensor that is still in the file: kind of numbers, storage, shape, offset and strides [items]."""

    __slots__ = ("kind", "offset", "shape", "storage", "strides")

    def __init__(self, stored: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> None:
        self.kind, self.storage = stored
        self.offset = int(offset)
        self.shape, self.strides = tuple(map(int, shape)), tuple(map(int, strides))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or len(self.shape) != len(self.strides):
            raise pickle.UnpicklingError("a tensor of no shape")

    @property
    def length(self) -> int | None:
        """Length of a vector, also of one with leading axes of one; None for other shapes."""
        if not self.shape or any(n != 1 for n in self.shape[:-1]):
            return None
        return int(self.shape[-1])


class _Dtype:
    """A NumPy dtype as pickled: a code, then a state whose second item is the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        found = np.dtype(self.code)
        if found.kind not in "biufUS":
            raise pickle.UnpicklingError(f"values of type {found}")
        return found.newbyteorder(">" if self.order == ">" else "<")


def _scalar(kind: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as pickles of protocol 2 hold them."""
    return text.encode("latin1")


def _parameter(data: Any, *_: Any) -> Any:
    return data


#: All that a file may name; none of it does more than make a value.
NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Reads records whose tensors stay in the file; refuses every name that is not in :data:`NAMES`."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return partial(NAMES[module, name])  # a new one each time: what the file does to it stays with it

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        what, kind, key, *_ = pid
        if what != "storage" or not isinstance(kind, str):
            raise pickle.UnpicklingError("a storage of unknown type")
        return kind, str(key)


class TorchRecords:
    """A list of dicts: ``object_id``, vectors by key, and single values such as ``redshift``, ``targetid``.

    The records are held in memory without their vectors, about 4 kB an object of two vectors.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Key by modality.

    Raises
    ------
    InputError
        If the file is damaged, names code, needs more memory than there is, or holds something else.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str] | None = None) -> None:
        self.path = str(path)
        self._places: dict[str, tuple[int, int]] = {}
        self._bytes = stamp_of(path).size
        records = self._load()
        keys: dict[str, None] = {}
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                raise InputError(
                    f"{path}: record {number} is a {type(record).__name__}: give a list of dictionaries"
                )
            keys.update(dict.fromkeys(record))
        if not all(isinstance(key, str) for key in keys):
            raise InputError(f"{path}: keys of its records are no text: give `embedding_images` and the like")
        vectors = [k for k in keys if any(_is_vector(record.get(k)) for record in records)]
        chosen = choose(vectors, wanted, self.path)
        if not any(key.lower() in ID_NAMES for key in keys):
            raise InputError(f"{path}: its records have no object_id: give each one")
        single = self._single_values(records, [k for k in keys if k not in vectors])
        self.ids: Column
        self.ids, self.columns, self.notes = split_columns(single, len(records), self.path)
        self.notes += [
            f"{path}: {k} was not chosen and was left out" for k in vectors if k not in chosen.values()
        ]
        self._tensors = {name: [_vector(r.get(key)) for r in records] for name, key in chosen.items()}
        self.modalities = [Found(n, key, self._width(n, key)) for n, key in chosen.items()]

    def _single_values(
        self, records: Sequence[Mapping[str, Any]], keys: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Numbers and text of the records; tensors of one number are read."""
        single = {}
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for key in keys:
                values = np.empty(len(records), object)
                for number, record in enumerate(records):
                    value = record.get(key)
                    if isinstance(value, Tensor):
                        value = self._values(data, value)[0].item() if value.length in (None, 1) else None
                    values[number] = plain_scalar(value)
                single[key] = values
        return single

    def _width(self, name: str, key: str) -> int:
        """Length of the vectors of a modality, the same for all."""
        widths: dict[int, int] = {}
        for number, tensor in enumerate(self._tensors[name]):
            if tensor is None:
                continue
            length = tensor.length
            if length is None:
                raise InputError(
                    f"{self.path}: {key} of object {self.ids[number]} has shape {tensor.shape}: give a vector"
                )
            if length > self._bytes:
                raise InputError(f"{self.path}: a vector lies outside its file: get a fresh copy of it")
            widths.setdefault(length, number)
            if len(widths) > 1:
                usual = next(iter(widths))
                raise InputError(
                    f"{self.path}: {key} of object {self.ids[number]} has {length} numbers, those before it "
                    f"{usual}: give vectors of one length"
                )
        return next(iter(widths))

    def blocks(self, size: int) -> Iterator[Block]:
        """Copy the vectors of ``size`` objects at a time out of the file."""
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start in range(0, len(self.ids), size):
                n = min(size, len(self.ids) - start)
                vectors, present = {}, {}
                for found in self.modalities:
                    block = np.full((n, found.features), np.nan, np.float32)
                    there = np.zeros(n, bool)
                    for i, tensor in enumerate(self._tensors[found.name][start : start + n]):
                        if tensor is not None:
                            block[i] = self._values(data, tensor)
                            there[i] = True
                    vectors[found.name], present[found.name] = block, there
                yield Block(vectors, present)

    def _values(self, data: mmap.mmap, tensor: Tensor) -> NDArray[Any]:
        """The numbers of a vector."""
        first, size = self._places.get(tensor.storage, (0, -1))
        kind = np.dtype("u2" if tensor.kind == "bfloat16" else tensor.kind)
        length = tensor.shape[-1] if tensor.shape else 1
        stride = tensor.strides[-1] if length > 1 else 1
        items = (length - 1) * stride + 1
        if (tensor.offset + items) * kind.itemsize > size or first + size > len(data):
            raise InputError(f"{self.path}: a vector lies outside its file: get a fresh copy of it")
        values = np.frombuffer(data, kind, items, first + tensor.offset * kind.itemsize)
        values = values[::stride] if stride else np.repeat(values, length)
        if tensor.kind == "bfloat16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values

    def _load(self) -> Sequence[dict[str, Any]]:
        """Read the records, and find where their storages lie."""
        path = self.path
        content = self._pickled()
        collecting = gc.isenabled()
        gc.disable()  # millions of small objects, none of them garbage
        try:
            records = _Unpickler(io.BytesIO(content)).load()
        except Exception as error:  # damaged pickles raise anything
            raise InputError(
                f"{path} cannot be read without running what it contains ({reason(error)}): save a list of "
                "dictionaries of tensors, numbers and text with torch.save"
            ) from error
        finally:
            if collecting:
                gc.enable()
        if not isinstance(records, list):
            raise InputError(
                f"{path} holds a {type(records).__name__}: save a list of dictionaries, one an object"
            )
        if not records:
            raise InputError(f"{path} holds no objects: give at least one")
        return records

    def _pickled(self) -> bytes:
        """The pickled records; the directory of the archive is read, and its storages located."""
        path = self.path
        try:
            with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
                entries = archive.infolist()
                pickled = next((e for e in entries if e.filename.endswith("data.pkl")), None)
                if pickled is None:
                    raise InputError(f"{path} holds no records: save a list of dictionaries with torch.save")
                self._check_memory(len(entries), pickled.file_size)
                order = next((e for e in entries if e.filename.endswith("byteorder")), None)
                if order is not None and archive.read(order) != sys.byteorder.encode():
                    raise InputError(f"{path} was saved on a machine of another byte order: save it here")
                self._locate(entries, file)
                return archive.read(pickled)
        except InputError:
            raise
        except Exception as error:  # damaged archives raise anything
            raise InputError(
                f"{path} is no complete .pt file of PyTorch 1.6 or later ({reason(error)}): get a fresh "
                "copy, or save an old one again with torch.save"
            ) from error

    def _locate(self, entries: Sequence[zipfile.ZipInfo], file: Any) -> None:
        """Find where each storage begins: after its local header, which is of its own length."""
        for entry in entries:
            folder, _, key = entry.filename.rpartition("/")
            if not folder.endswith("/data") and folder != "data":
                continue
            if entry.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"{self.path} is compressed: save it again with torch.save")
            file.seek(entry.header_offset + 26)
            name, extra = np.frombuffer(file.read(4), "<u2").tolist()
            self._places[key] = (entry.header_offset + 30 + name + extra, entry.file_size)

    def _check_memory(self, tensors: int, pickled: int) -> None:
        """Refuse a file whose records would not fit into memory."""
        import psutil

        needed = tensors * TENSOR_BYTES + PICKLE_FACTOR * pickled
        free = psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"{self.path} needs {readable(needed)} of memory for its {tensors} tensors and "
                f"{readable(free)} are free: split it, and append the parts with --append"
            )


def _is_vector(value: Any) -> bool:
    return isinstance(value, Tensor) and (len(value.shape) > 0) and value.shape != (1,)


def _vector(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
