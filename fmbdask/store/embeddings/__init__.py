"""Embedding stores: vectors of foundation models for many objects, in one or several modalities."""

from .describing import describe_store
from .exporting import export_embeddings
from .ids import read_ids, select_objects
from .importing import Imported, find_store, import_embeddings
from .joining import join_embeddings
from .layout import Modality
from .opening import open_embeddings
from .storing import write_embeddings
from .unfolding import sequences_of
from .windowed import import_windows
from .writer import EmbeddingWriter

__all__ = [
    "EmbeddingWriter",
    "Imported",
    "Modality",
    "describe_store",
    "export_embeddings",
    "find_store",
    "import_embeddings",
    "import_windows",
    "join_embeddings",
    "open_embeddings",
    "read_ids",
    "select_objects",
    "sequences_of",
    "write_embeddings",
]
