"""Damage to files of every format, made at random: cards, structure, lengths, data, compression, metadata."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from fmbdask.store.ramps import ingest

from .made_up import ramp, write_frames, write_hdf5, write_hst, write_jwst, write_roman, write_target_pixels

SHAPE = (6, 40, 36)
BLOCK = 2880
JUNK = (None, -1, 0, 1e300, 2**40, "", "NaN", "x" * 60, True, [], {}, 3, 65536)
CARDS = ("T", "-1", "0", "1E400", "99999999999", "'text'", "3.5", "NaN", "(1,2)", "", "8", "16", "-32", "4")


@dataclass(frozen=True)
class Damage:
    """What was done, and how many values may differ: 0, some, or any number (None)."""

    what: str
    limit: int | None


def rng_of(case: int) -> np.random.Generator:
    return np.random.default_rng([20, case])


# --- originals ---------------------------------------------------------------------------------------------


def cube(folder: Path) -> Path:
    image = fits.PrimaryHDU(ramp(SHAPE))
    keywords = {"GAIN": 1.8, "RDNOISE": 14.0, "NOUTPUTS": 4, "FRAMETIM": 2.5, "NFRAMES": 4, "GROUPGAP": 1}
    image.header.update({**keywords, "REFBORD": "4,4,2,2", "INSTRUME": "TEST", "BUNIT": "DN"})
    fits.HDUList([image, fits.ImageHDU(ramp((9, 9)), name="OTHER")]).writeto(folder / "x.fits")
    return folder / "x.fits"


def frames(folder: Path) -> Path:
    return write_frames(folder / "x.fits", list(ramp(SHAPE)))


def jwst(folder: Path) -> Path:
    # flags that mean nothing here, for zeros must not come from another extension
    groups = np.full((1, *SHAPE), 8, np.uint8)
    extra = {"GROUPDQ": groups, "PIXELDQ": np.full(SHAPE[1:], 0x40404040, np.uint32)}
    header = {"NINTS": 1, "NGROUPS": 6, "NFRAMES": 8, "GROUPGAP": 2, "TFRAME": 10.0, "TGROUP": 100.0}
    place = {"INSTRUME": "NIRCAM", "SUBSTRT1": 1, "SUBSTRT2": 1}
    return write_jwst(folder / "x.fits", ramp((1, *SHAPE)), extra, **header, **place)


def hst(folder: Path) -> Path:
    times = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    return write_hst(folder / "x.fits", ramp(SHAPE).astype(np.float32), times, "ELECTRONS")


def tiles(folder: Path, checksum: bool = False, compression: str = "RICE_1") -> Path:
    image = fits.CompImageHDU(ramp(SHAPE), compression_type=compression)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / "x.fits", checksum=checksum)
    return folder / "x.fits"


def guarded_tiles(folder: Path) -> Path:
    return tiles(folder, True, "GZIP_2")


def gzipped(folder: Path) -> Path:
    plain = cube(folder)
    (folder / "x.fits.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
    plain.unlink()
    return folder / "x.fits.gz"


def npy(folder: Path) -> Path:
    np.save(folder / "x.npy", ramp(SHAPE))
    return folder / "x.npy"


def store(folder: Path) -> Path:
    ingest(cube(folder), folder / "x.zarr")
    return folder / "x.zarr"


def hdf5(folder: Path) -> Path:
    return write_hdf5(folder / "x.h5", ramp(SHAPE), chunks=(6, 16, 16), compression="gzip")


def roman(folder: Path) -> Path:
    return write_roman(folder / "x.asdf", ramp(SHAPE))


def packed_roman(folder: Path) -> Path:
    return write_roman(folder / "x.asdf", ramp(SHAPE), "lz4")


def target(folder: Path) -> Path:
    flux = ramp((30, 7, 6)).astype(np.float32)
    days = 2668.0 + 0.02 * np.arange(30)
    return write_target_pixels(
        folder / "x.fits", flux, ramp((30, 7, 6), np.int32), days, np.zeros(30, np.int32)
    )


# --- damage to bytes ---------------------------------------------------------------------------------------


def flip(content: bytearray, rng: np.random.Generator, first: int = 0, last: int | None = None) -> int:
    """Change some bytes; returns how many."""
    last = len(content) if last is None else last
    places = rng.integers(first, max(first + 1, last), rng.integers(1, 9))
    for place in places:
        content[place] ^= int(rng.integers(1, 256))
    return len(places)


def anywhere(content: bytearray, rng: np.random.Generator) -> str:
    """Damage to structure: the file is cut, or a piece of it is lost, doubled, exchanged or overwritten."""
    kind = rng.choice(["cut", "lose", "double", "exchange", "overwrite"])
    size = int(rng.choice([1, 16, 512, BLOCK]))
    first, second = sorted(rng.integers(0, max(1, len(content) - size), 2).tolist())
    if kind == "cut":
        del content[int(rng.integers(0, len(content))) :]
    elif kind == "lose":
        del content[first : first + size]
    elif kind == "double":
        content[first:first] = content[first : first + size]
    elif kind == "exchange":
        one, other = content[first : first + size], content[second : second + size]
        content[first : first + size], content[second : second + size] = other, one
    else:
        content[first : first + size] = rng.integers(1, 256, size, np.uint8).tobytes()
    return f"{kind} {size} bytes at {first} and {second}"


# --- damage by format --------------------------------------------------------------------------------------


def parts(content: bytes) -> list[tuple[int, int, int]]:
    """Begin of the header, begin of the data and end of each HDU."""
    with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
        return [
            (info["hdrLoc"], info["datLoc"], info["datLoc"] + info["datSpan"])
            for info in (hdu.fileinfo() for hdu in hdus)
        ]


def damage_fits(path: Path, rng: np.random.Generator, guarded: bool = False, plain: bool = True) -> Damage:
    """Cards, HDUs, lengths or data of a FITS file."""
    content = bytearray(path.read_bytes())
    places = parts(content)
    begin, data, end = places[int(rng.integers(len(places)))]
    kind = rng.choice(["card", "value", "garble", "swap", "hdu", "structure", "data", "tail", "comment"])
    limit: int | None = None
    if kind in ("card", "value", "garble", "swap", "comment"):
        cards = [bytes(content[i : i + 80]) for i in range(begin, data, 80)]
        count = next(i for i, card in enumerate(cards) if card.startswith(b"END"))
        n = int(rng.integers(count))
        what = f"{kind} of {cards[n][:30]!r}"
        if kind == "card":
            cards[n : n + 1] = []
            cards.append(b" " * 80)
        elif kind == "value":
            value = f"{rng.choice(CARDS):>20}".encode()
            cards[n] = (cards[n][:10] + value).ljust(80)[:80]
        elif kind == "garble":
            card = bytearray(cards[n])
            flip(card, rng)
            cards[n] = bytes(card)
        elif kind == "swap":
            m = int(rng.integers(count))
            cards[n], cards[m] = cards[m][:8] + cards[n][8:], cards[n][:8] + cards[m][8:]
            what += f" with {cards[m][:30]!r}"
        else:
            cards[n] = cards[n][:31] + b"/ another comment".ljust(49) if cards[n][8:9] == b"=" else cards[n]
            long_text = b"'" in cards[n][:31] or b"CONTINUE" in cards[n]
            limit = None if long_text else 0
        content[begin:data] = b"".join(cards)
    elif kind == "hdu":
        what = f"HDU at {begin}"
        whole = content[begin:end]
        if rng.random() < 0.5:
            del content[begin:end]
            what += " lost"
        else:
            content[end:end] = whole
            what += " doubled"
    elif kind == "structure":
        what = anywhere(content, rng)
    elif kind == "data" and end > data:
        limit = flip(content, rng, data, end)
        what = f"{limit} bytes of data"
        limit = 0 if guarded else (limit if plain else None)
    else:
        what = "junk at the end"
        content += bytes(rng.integers(1, 256, int(rng.integers(1, 5000)), np.uint8))
        limit = None
    path.write_bytes(content)
    return Damage(what, limit)


def damage_tiles(path: Path, rng: np.random.Generator) -> Damage:
    return damage_fits(path, rng, plain=False)


def damage_guarded_tiles(path: Path, rng: np.random.Generator) -> Damage:
    return damage_fits(path, rng, guarded=True)


def damage_gzip(path: Path, rng: np.random.Generator) -> Damage:
    """The stream, or the file inside it."""
    if rng.random() < 0.5:
        content = bytearray(path.read_bytes())
        what = (
            f"stream: {flip(content, rng)} bytes"
            if rng.random() < 0.6
            else f"stream: {anywhere(content, rng)}"
        )
        path.write_bytes(content)
        return Damage(what, 0)
    inside = path.with_name("inside.fits")
    inside.write_bytes(gzip.decompress(path.read_bytes()))
    done = damage_fits(inside, rng)
    path.write_bytes(gzip.compress(inside.read_bytes(), 1))
    inside.unlink()
    return Damage(f"inside: {done.what}", done.limit)


def damage_npy(path: Path, rng: np.random.Generator) -> Damage:
    content = bytearray(path.read_bytes())
    kind = rng.choice(["header", "word", "data", "structure"])
    limit = None
    if kind == "header":
        what = f"{flip(content, rng, 0, 128)} bytes of the header"
    elif kind == "word":
        words = [b"<u2", b"False", b"(6, 40, 36)", b"descr", b"fortran_order", b"shape", b"6", b"{", b"}"]
        others = [b">u2", b"|O", b"(6, 40, -36)", b"True", b"99999999999", b"()", b"<f8", b"", b"[]", b"<U9"]
        old, new = words[int(rng.integers(len(words)))], others[int(rng.integers(len(others)))]
        header = bytes(content[:128]).replace(old, new, 1)
        what, content[:128] = f"{old!r} becomes {new!r}", header[:128].ljust(128)
    elif kind == "data":
        limit = flip(content, rng, 128)
        what = f"{limit} bytes of data"
    else:
        what = anywhere(content, rng)
    path.write_bytes(content)
    return Damage(what, limit)


def damage_store(path: Path, rng: np.random.Generator) -> Damage:
    """Metadata, chunks and names of a Zarr store."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    metadata = [p for p in files if p.name == "zarr.json"]
    chunks = [p for p in files if p.name != "zarr.json"]
    kind = rng.choice(["edit", "edit", "remove", "cut", "rename", "flip", "text", "extra"])
    limit: int | None = None
    if kind == "edit":
        chosen = metadata[int(rng.integers(len(metadata)))]
        tree = json.loads(chosen.read_text())
        what = f"{chosen.relative_to(path)}: {edit(tree, rng)}"
        chosen.write_text(json.dumps(tree))
    elif kind == "text":
        chosen = metadata[int(rng.integers(len(metadata)))]
        content = bytearray(chosen.read_bytes())
        what = f"{chosen.relative_to(path)}: {flip(content, rng)} bytes"
        chosen.write_bytes(content)
    elif kind == "extra":
        (path / "notes.txt").write_text("taken in the rain")
        what, limit = "a file more", 0
    else:
        among = chunks if rng.random() < 0.7 else metadata
        chosen = among[int(rng.integers(len(among)))]
        what = f"{chosen.relative_to(path)}: {kind}"
        if kind == "remove":
            chosen.unlink()
        elif kind == "rename":
            chosen.rename(chosen.with_name(f"{chosen.name}9"))
        else:
            content = bytearray(chosen.read_bytes())
            if kind == "cut":
                del content[int(rng.integers(len(content))) :]
            else:
                flip(content, rng)
            chosen.write_bytes(content)
    return Damage(what, limit)


def edit(tree: Any, rng: np.random.Generator) -> str:
    """Remove or replace one entry, anywhere in a tree."""
    place: list[Any] = []
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[int(rng.integers(len(keys)))]
        place.append(key)
        deeper = isinstance(tree[key], dict | list) and tree[key]
        if deeper and rng.random() < 0.8:
            tree = tree[key]
            continue
        if rng.random() < 0.4:
            del tree[key]
            return f"{place} removed"
        tree[key] = JUNK[int(rng.integers(len(JUNK)))]
        return f"{place} = {tree[key]!r}"


def damage_bytes(path: Path, rng: np.random.Generator) -> Damage:
    """Bytes anywhere, most of them where the structure is."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.7:
        last = len(content) if rng.random() < 0.5 else min(6000, len(content))
        what = f"{flip(content, rng, 0, last)} bytes before {last}"
    else:
        what = anywhere(content, rng)
    path.write_bytes(content)
    return Damage(what, None)


def damage_roman(path: Path, rng: np.random.Generator, guarded: bool = False) -> Damage:
    """The tree of an ASDF file, the headers of its blocks, or their data."""
    content = bytearray(path.read_bytes())
    end = content.index(b"\n...") + 5
    block = content.index(b"\xd3BLK")
    kind = rng.choice(["line", "number", "tree", "block", "data", "structure"])
    limit: int | None = None
    if kind in ("line", "number"):
        lines = bytes(content[:end]).split(b"\n")
        n = int(rng.integers(1, len(lines) - 2))
        what = f"{kind} {lines[n]!r}"
        if kind == "line":
            lines[n : n + 1] = [] if rng.random() < 0.5 else [lines[n], lines[n]]
        else:
            head, _, _ = lines[n].partition(b":")
            lines[n] = head + b": " + str(JUNK[int(rng.integers(len(JUNK)))]).encode()
        content[:end] = b"\n".join(lines)
    elif kind == "tree":
        what = f"{flip(content, rng, 0, end)} bytes of the tree"
    elif kind == "block":
        what = f"{flip(content, rng, block, block + 54)} bytes of a block header"
    elif kind == "data":
        limit = flip(content, rng, block + 54, block + 54 + 2 * int(np.prod(SHAPE)) // 2)
        what = f"{limit} bytes of data"
        limit = 0 if guarded else limit
    else:
        what = anywhere(content, rng)
    path.write_bytes(content)
    return Damage(what, limit)


def damage_packed_roman(path: Path, rng: np.random.Generator) -> Damage:
    return damage_roman(path, rng, guarded=True)


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path, np.random.Generator], Damage]]] = {
    "fits": (cube, damage_fits),
    "frames": (frames, damage_fits),
    "jwst": (jwst, damage_fits),
    "hst": (hst, damage_fits),
    "target": (target, damage_fits),
    "tiles": (tiles, damage_tiles),
    "guarded_tiles": (guarded_tiles, damage_guarded_tiles),
    "gzip": (gzipped, damage_gzip),
    "npy": (npy, damage_npy),
    "zarr": (store, damage_store),
    "hdf5": (hdf5, damage_bytes),
    "asdf": (roman, damage_roman),
    "packed_asdf": (packed_roman, damage_packed_roman),
}
