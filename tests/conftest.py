"""What all tests share: where real files are, and settings that keep runs repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Figures are drawn without a display, whatever the machine has.
os.environ.setdefault("MPLBACKEND", "Agg")
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Kernels compile on first use, which says nothing about the code under test: no deadlines.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def no_personal_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the configuration of whoever runs the tests away from them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        patch.delenv("FMBDASK_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real exposures kept beside a checkout, in `../shared/data`."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real files are not on this machine (looked for shared/data beside the checkout)")
    return folder
