"""Small stores and files of embeddings for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbdask.store.embeddings import EmbeddingWriter, Modality


def vectors(n: int, features: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors that are all valid."""
    return np.random.default_rng(seed).standard_normal((n, features), dtype=np.float32)


def write(
    path: Path,
    ids: Any,
    blocks: dict[str, NDArray[np.float32]],
    columns: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A store of some objects."""
    modalities = [Modality(name, block.shape[1], **options) for name, block in blocks.items()]
    with EmbeddingWriter(path, modalities) as writer:
        writer.write(ids, blocks, columns)
    return path


def save_records(
    path: Path, n: int = 5, keys: Sequence[str] = ("embedding_images", "embedding_spectra")
) -> Path:
    """A `.pt` file as the benchmark writes it."""
    import torch

    images, spectra = vectors(n, 4, 1), vectors(n, 3, 2)
    records = [
        {
            "object_id": f"o{i}",
            "targetid": np.int64(39627000000000000 + i),
            "redshift": np.float32(0.5 * i),
            keys[0]: torch.from_numpy(images[i]),
            keys[1]: torch.from_numpy(spectra[i].copy()),
        }
        for i in range(n)
    ]
    torch.save(records, path)
    return path
