"""The miniature SDXL as it is: what its quantised forms are compared with."""

from __future__ import annotations

import pytest

from ltgc_local.backends.protocols import T2iOptions
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from tests.backends.sdxl_stock import FOLDER


@pytest.fixture(scope="module")
def whole() -> DiffusersSdxl:
    return DiffusersSdxl(FOLDER, T2iOptions())
