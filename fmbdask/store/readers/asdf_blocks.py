"""ASDF files: their tree, and the arrays that their blocks hold, without running any code a file asks for.

Source: ASDF standard 1.6.0, "Low-level file layout". Of it: inline tags are ignored (a mapping stays a
mapping), blocks are memory-mapped or, where they are compressed (zlib, bzp2, lz4), decoded once per process.
Arrays that lie in other files, and views with strides or masks, are refused.
"""

from __future__ import annotations

import bz2
import hashlib
import math
import struct
import threading
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ...errors import InputError
from .files import Stamp, reason
from .mapped import mapped

BLOCK = b"\xd3BLK"
#: One thread decodes, the others wait for it.
_DECODING = threading.Lock()
#: After magic and length: flags, compression, allocated, used and data size, checksum.
HEADER = struct.Struct(">I4sQQQ16s")
STREAMED = 1
#: Decoded blocks that a process keeps.
KEPT = 4
KINDS = {
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "float32": "f4",
    "float64": "f8",
}
#: The tree of a ramp is small; one that is not is no tree.
LARGEST_TREE = 2**25


@dataclass(frozen=True)
class Block:
    """Where the bytes of one block lie, how they are packed, and their checksum (MD5; zero if not stated)."""

    offset: int
    used: int
    size: int
    compression: bytes
    checksum: bytes


@dataclass(frozen=True)
class BlockArray:
    """An array in a block: small, pickles, and read window by window."""

    path: str
    stamp: Stamp
    block: Block
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def values(self) -> NDArray[Any]:
        """View the whole array, without reading it."""
        return np.ndarray(
            self.shape,
            np.dtype(self.dtype),
            buffer=_content(self.path, self.stamp, self.block),
            offset=self.offset,
        )


class _Loader(yaml.SafeLoader):
    """Builds mappings, lists and scalars, whatever their tags say."""


def _untagged(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


for _prefix in ("!", "tag:", "asdf:"):
    _Loader.add_multi_constructor(_prefix, _untagged)
for _kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "binary"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Loader.add_constructor(_tag, yaml.SafeLoader.yaml_constructors[_tag])


def read_tree(path: str, stamp: Stamp) -> tuple[dict[str, Any], list[Block]]:
    """Read the tree of a file and find its blocks.

    Raises
    ------
    InputError
        If the tree cannot be read, or a block ends behind the file.
    """
    content = mapped(path, stamp)
    start = bytes(content[:LARGEST_TREE])
    end = start.find(b"\n...")
    if end < 0:
        raise InputError(f"{path} has no end to its ASDF tree: get a fresh copy of it")
    try:
        tree = yaml.load(start[:end].decode("utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise InputError(
            f"{path} has an ASDF tree that cannot be read ({reason(error)}): get a fresh copy of it"
        ) from error
    if not isinstance(tree, dict):
        raise InputError(f"{path} has no mapping as its ASDF tree: get a fresh copy of it")
    return tree, _find_blocks(path, content, start.find(BLOCK, end))


def _find_blocks(path: str, content: NDArray[np.uint8], place: int) -> list[Block]:
    blocks: list[Block] = []
    while place >= 0 and bytes(content[place : place + 4]) == BLOCK:
        length = int.from_bytes(bytes(content[place + 4 : place + 6]), "big")
        header = bytes(content[place + 6 : place + 6 + HEADER.size])
        begin = place + 6 + length
        if length < HEADER.size or begin > content.size:
            raise _truncated(path, len(blocks))
        flags, compression, allocated, used, size, checksum = HEADER.unpack(header)
        if flags & STREAMED:
            used = size = allocated = content.size - begin
        if used > allocated or begin + used > content.size:
            raise _truncated(path, len(blocks))
        blocks.append(Block(begin, used, size, compression.strip(b"\0"), checksum))
        place = begin + allocated
    return blocks


def _truncated(path: str, index: int) -> InputError:
    return InputError(f"{path} ends within block {index} or that block is damaged: copy the file again")


def find_array(node: Any, where: str, path: str, stamp: Stamp, blocks: list[Block]) -> BlockArray:
    """Describe the array that a node of the tree stands for.

    Raises
    ------
    InputError
        If it is no array, lies elsewhere, or does not fit into its block.
    """
    if isinstance(node, dict) and "value" in node and "source" not in node:
        node = node["value"]  # a quantity: a value and its unit
    source = node.get("source") if isinstance(node, dict) else None
    if not isinstance(source, int) or isinstance(source, bool):
        raise InputError(f"{where} is no array in a block of this file: store it there")
    datatype, shape = node.get("datatype"), node.get("shape")
    offset = node.get("offset", 0)
    sound = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) and shape
    if datatype not in KINDS or not sound or type(offset) is not int or offset < 0:
        raise InputError(
            f"{where} has datatype {datatype!r}, shape {shape!r} and offset {offset!r}: store real numbers"
        )
    if node.get("strides") is not None or node.get("mask") is not None:
        raise InputError(f"{where} has strides or a mask: store it as a plain array")
    if not 0 <= source < len(blocks):
        raise InputError(f"{where} lies in block {source} of {len(blocks)}: copy the file again")
    block = blocks[source]
    order = "<" if node.get("byteorder", "big") == "little" else ">"
    dtype = order + KINDS[datatype]
    needed = offset + math.prod(shape) * np.dtype(dtype).itemsize
    if needed > (block.size if block.compression else block.used):
        raise InputError(
            f"{where} is truncated: its block has {block.size} bytes and its shape asks for {needed}, so "
            "copy "
            "the file again"
        )
    return BlockArray(path, stamp, block, offset, dtype, tuple(shape))


def _content(path: str, stamp: Stamp, block: Block) -> NDArray[np.uint8]:
    """Bytes of a block, decoded if it is compressed."""
    content = mapped(path, stamp)
    if not block.compression:
        return content[block.offset : block.offset + block.used]
    with _DECODING:
        return _decoded(path, stamp, block)


@lru_cache(maxsize=KEPT)
def _decoded(path: str, stamp: Stamp, block: Block) -> NDArray[np.uint8]:
    packed = mapped(path, stamp)[block.offset : block.offset + block.used]
    if any(block.checksum) and hashlib.md5(packed.data, usedforsecurity=False).digest() != block.checksum:
        raise InputError(f"{path} holds a block that differs from its checksum: copy the file again")
    try:
        out = np.empty(block.size, np.uint8)
        if block.compression == b"lz4":
            filled = _lz4(packed, out)
        elif block.compression in (b"zlib", b"bzp2"):
            unpacker: Any = zlib.decompressobj() if block.compression == b"zlib" else bz2.BZ2Decompressor()
            filled = _fill(out, unpacker.decompress(packed.data, block.size + 1))
        else:
            name = block.compression.decode("ascii", "replace")
            raise InputError(
                f"{path} holds a block compressed by {name!r}: store it with zlib, bzp2, lz4 or none"
            )
    except InputError:
        raise
    except Exception as error:  # codecs raise whatever they stumble over
        raise InputError(
            f"{path} holds a damaged compressed block ({reason(error)}): copy the file again"
        ) from error
    if filled != block.size:
        raise InputError(
            f"{path} holds a block of {filled} bytes where its header says {block.size}: copy the file again"
        )
    return out


def _fill(out: NDArray[np.uint8], content: bytes, place: int = 0) -> int:
    end = place + len(content)
    if end <= out.size:
        out[place:end] = np.frombuffer(content, np.uint8)
    return end


def _lz4(packed: NDArray[np.uint8], out: NDArray[np.uint8]) -> int:
    """Decode blocks of lz4, each after its length; each begins with the size that it decodes to."""
    from numcodecs.lz4 import decompress

    place = filled = 0
    data = memoryview(packed.data).cast("B")
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunk = data[place + 4 : place + 4 + length]
        if len(chunk) != length or int.from_bytes(chunk[:4], "little") > out.size - filled:
            raise ValueError("a part of it has the wrong length")
        filled = _fill(out, decompress(chunk), filled)
        place += 4 + length
    return filled
