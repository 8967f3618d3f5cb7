"""What a review of the fast start found outside its module."""

from __future__ import annotations

import pwd

import pytest

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "FILES|DATA_DIR"), ({"BATCHCALL_DATA_DIR": "/data"}, "FILES"), ({"BATCHCALL_FILES": "/lists"}, "DATA_DIR")],
)
def test_a_user_without_a_home_folder_gets_one_line_that_names_the_setting(
    given: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_DOCUMENTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("BATCHCALL_DATA_DIR", "BATCHCALL_FILES"):
        monkeypatch.delenv(name, raising=False)
        if name in given:
            monkeypatch.setenv(name, given[name])
    with pytest.raises(ConfigurationError, match=f"BATCHCALL_({missing}) is not set, and this user has no home folder"):
        Settings.load()
