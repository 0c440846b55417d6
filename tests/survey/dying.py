"""The command line in a process that kills itself at a place: `dying.py PLACE N ARGUMENTS...`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fmbdask.cli.app import main
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.parts import PartWriter
from fmbdask.survey.worker import doing
from fmbdask.survey.worker.book import Book


class Place:
    """Where the process kills itself: before or after a call, when what it is called with is meant."""

    def __init__(self, owner: Any, name: str, when: Callable[..., bool], *, after: bool) -> None:
        self.original, self.when, self.after = getattr(owner, name), when, after
        self.left = int(sys.argv[2])
        place = self

        def wrapper(*arguments: Any, **more: Any) -> Any:
            place.look(not after, arguments)
            result = place.original(*arguments, **more)
            place.look(after, arguments)
            return result

        setattr(owner, name, wrapper)

    def look(self, here: bool, arguments: tuple[Any, ...]) -> None:
        if here and self.when(*arguments):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def always(*_: Any) -> bool:
    return True


def is_catalog(_: Any, target: Any) -> bool:
    return bool(target.name == "catalog")


def marks(_: Any, record: Any) -> bool:
    return bool(record.kind == "ended")


def arm(place: str) -> None:
    """Put the trap where it belongs."""
    import fmbdask.survey.planning.plan  # noqa: F401

    plan = sys.modules["fmbdask.survey.planning.plan"]
    places: dict[str, tuple[Any, str, Callable[..., bool], bool]] = {
        "in planning": (plan, "write_items", always, True),
        "between result and mark": (PartWriter, "write", always, True),
        "between mark and answer": (Book, "write", marks, True),
        "in a reduction": (doing, "publish", lambda *a: not is_catalog(*a), False),
        "between product and mark": (doing, "publish", lambda *a: not is_catalog(*a), True),
        "in the index": (Ledger, "commit", always, False),
        "in the catalogue": (doing, "publish", is_catalog, False),
        "between catalogue and mark": (doing, "publish", is_catalog, True),
    }
    owner, name, when, after = places[place]
    Place(owner, name, when, after=after)


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.argv[1:] = sys.argv[3:]
    main()
