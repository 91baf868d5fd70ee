"""Settings and fixtures that all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# "ci" repeats the same examples on every run, so that a red build is red for everybody.
# "thorough" searches anew each time: HYPOTHESIS_PROFILE=thorough make pytest.
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "thorough",
    max_examples=500,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout, where the shipped documents lie."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of measured reference data, or skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the measured reference data (../shared/data) is absent")
    return SHARED_DATA
