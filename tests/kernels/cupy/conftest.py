"""A card made of this processor, for the tests of this folder."""

from __future__ import annotations

import pytest

from . import host


@pytest.fixture(scope="session")
def host_card() -> host.HostCard:
    """The kernels compiled as C++, once for all tests."""
    return host.host_card()
