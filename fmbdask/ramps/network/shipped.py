"""The networks that come with fmbdask, by name."""

from __future__ import annotations

import os
from pathlib import Path

#: Name of each, and its folder.
SHIPPED = {"small": Path(__file__).with_name("small")}


def network_folder(name: str | os.PathLike[str]) -> str:
    """Folder of a network: that of one that comes with fmbdask by its name, any other as it is given.

    Parameters
    ----------
    name : str or path
        ``small``, or a folder that ``fmbdask train unet`` made; a folder of the same name is ``./small``.

    Examples
    --------
    >>> network_folder("runs/unet/model")
    'runs/unet/model'
    >>> network_folder("small").endswith("small")
    True
    """
    given = os.fspath(name)
    return str(SHIPPED.get(given, given))
