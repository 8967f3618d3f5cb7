"""Which carrier a dialer dials through, by its settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import SIMULATED, HasAccount
from batchcall_mcp.dialer.carriers.registry import BUILT_IN, carrier_of
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings

KEY = "AC" + 32 * "0"


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != SIMULATED])
def test_every_carrier_of_ours_is_what_it_says(name: str, tmp_path: Path) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[reminder]\nsay = "Hello."\n')
    settings = Settings(
        data_dir=tmp_path,
        carrier=name,
        carrier_key=SecretStr(KEY),
        carrier_secret=SecretStr("s3cr3t"),
        carrier_concurrency=3,
        carrier_calls_per_second=0.5,
        agents=agents,
    )
    carrier = carrier_of(settings)
    assert carrier is not None
    assert (carrier.name, carrier.places_real_calls, carrier.calls_outlive_us) == (name, True, True)
    assert (carrier.capacity, carrier.calls_per_second) == (3, 0.5)
    assert isinstance(carrier, HasAccount)
    assert "s3cr3t" not in carrier.payer + repr(carrier)
    assert KEY not in carrier.payer + repr(carrier)


def test_without_a_carrier_it_is_the_simulator_and_no_vendor_is_imported() -> None:
    code = (
        "import sys\n"
        "from batchcall_mcp.dialer.carriers.registry import carrier_of\n"
        "from batchcall_mcp.settings import Settings\n"
        "assert carrier_of(Settings()) is None and carrier_of(Settings(carrier='simulated')) is None\n"
        "assert not [name for name in sys.modules if 'carriers.vendors' in name or 'http_carrier' in name]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_carrier_next_to_a_backend_that_places_calls_itself_is_refused_by_the_dialer_too(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, backend="zudu", carrier="retell", carrier_key=SecretStr(KEY))
    with pytest.raises(ConfigurationError, match="BATCHCALL_CARRIER is set, and BATCHCALL_BACKEND is zudu"):
        carrier_of(settings)
    assert carrier_of(settings.model_copy(update={"backend": "dialer"})) is not None
