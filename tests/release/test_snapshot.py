"""The snapshot that ships is what the real server answers, byte for byte, for every backend, mode and version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.fast_start.answers import FILE, Snapshot
from release.snapshot import MODES, answers_of, real_server, rendered_by, requests_of

RENEW = "The answers changed. If that is meant: python -m release.snapshot"
VERSIONS = (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS)


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves a stream at the end
@pytest.mark.parametrize("backend", BUILT_IN)
async def test_the_snapshot_is_what_the_real_server_answers(backend: str, tmp_path: Path) -> None:
    for mode in MODES:
        server = real_server(backend, mode, str(tmp_path))
        for version in VERSIONS:
            snapshot = Snapshot(backend, mode)
            for asked, line in zip(requests_of(version), (await answers_of(server, version)).values(), strict=True):
                answered = snapshot.answer(json.dumps(asked).encode() + b"\n")
                assert answered is not None, (RENEW, mode, version, asked["method"])
                assert answered[0] == line, (RENEW, mode, version, asked["method"])


def test_the_snapshot_holds_each_backend_and_version_and_no_other() -> None:
    with Path(FILE).open("rb") as file:
        index: Any = json.loads(file.readline())
    assert index["rendered_by"] == rendered_by(), RENEW
    assert tuple(index["backends"]) == BUILT_IN, RENEW
    assert index["versions"] == {
        "legacy": list(HANDSHAKE_PROTOCOL_VERSIONS),
        "modern": list(MODERN_PROTOCOL_VERSIONS),
    }, RENEW
