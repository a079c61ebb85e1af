"""For all tests: where real logs lie, hypothesis without a clock, and signals as a terminal has them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

collect_ignore = ["preloaded.py"]  # for forks of programs: what it loads need not be loaded to look for examples
CHECKOUT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it starts in the background ignore Ctrl-C, and a program inherits that: a test that interrupts one would wait.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.pluginmanager.hasplugin("hypothesispytest"):  # Airflow's environment has none
        from hypothesis import HealthCheck, settings

        # How long an example takes says what else the machine does.
        settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)  # after the order was drawn
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def real_data(request: pytest.FixtureRequest) -> Path:
    """The folder of ``data`` that the marker ``real_data`` names; skips the test where there is none.

    ``data`` is beside the checkout, in a folder beside it, or where the variable CTR_KD_DATA says.
    """
    marker = request.node.get_closest_marker("real_data")
    named = os.environ.get("CTR_KD_DATA")
    places = [Path(named)] if named else [CHECKOUT.parent / "data", *sorted(CHECKOUT.parent.glob("*/data"))]
    found = next((place / marker.args[0] for place in places if (place / marker.args[0]).is_dir()), None)
    if found is None:
        pytest.skip(f"needs the folder {marker.args[0]} in {places[0]}, or in $CTR_KD_DATA")
    return found
