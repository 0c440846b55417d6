"""Networks: what they are built of, how they are trained, and where they run. Nothing here opens files."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import InputError


def need(what: str, *packages: str) -> None:
    """Say in one sentence what is to be installed, where torch or another package is absent.

    Parameters
    ----------
    what : str
        What wants them: ``"normalizing flows"``.
    *packages : str
        ``"torch"``, ``"zuko"``.

    Raises
    ------
    InputError
        If one of them is not installed.
    """
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise InputError(
            f"{what} need {' and '.join(absent)}: install the extra models (pip install 'fmbdask[models]')"
        )
