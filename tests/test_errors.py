"""Exit codes are a contract with scripts."""

from __future__ import annotations

import pytest

from ltgc_local import errors
from ltgc_local.errors import ArtefactError, BackendError, DataError, LtgcError, ModelError, RecipeError, TryAgain


@pytest.mark.parametrize(
    ("kind", "code"),
    [(RecipeError, 2), (ModelError, 3), (DataError, 4), (ArtefactError, 5), (BackendError, 6), (TryAgain, 75)],
)
def test_every_kind_of_error_has_its_exit_code(kind: type[LtgcError], code: int) -> None:
    assert issubclass(kind, LtgcError)
    assert kind("what is wrong").exit_code == code
    assert str(kind("what is wrong")) == "what is wrong"


def test_no_two_kinds_share_an_exit_code_and_none_means_done() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LtgcError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(kinds) == 7
    assert len(set(codes)) == 7
    assert 0 not in codes
