"""The miniature SDXL as it is: what its quantised forms are compared with."""

from __future__ import annotations

import pytest

from ltgc_local.backends.diffusers_sdxl import DiffusersSdxl
from ltgc_local.backends.protocols import LoadSettings
from tests.backends.sdxl_stock import FOLDER


@pytest.fixture(scope="module")
def whole() -> DiffusersSdxl:
    return DiffusersSdxl(FOLDER, LoadSettings())
