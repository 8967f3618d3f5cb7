"""The tiers of the tests, all of them in `make test`. A test is `fast` unless it stands in another one here.

fast: in this process, on loopback; `make fast` runs nothing else. process: starts processes of ours, or a browser.
`make coverage` measures these two. long: sweeps over every fault, state or size, what
is shown on SQLite again on PostgreSQL, and what is shown over HTTP again over stdio. foreign: other people's programs
are the client or the judge. kills: processes die at chosen lines; a seeded sample, of which `make torture` runs the
whole.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.server.transports import Way

TESTS = Path(__file__).parent
TIERS = {
    "fast": (),
    "long": (
        "backends/test_any_answer.py",
        "dialer/test_bodies.py",
        "dialer/test_one_harms_no_other.py",
        "faults",
        "golden/test_sentences.py",
        "large",
        "promises/test_refused_before_asking.py",
        "server/test_full_house.py",
        "server/test_sessions.py",
        "test_docs_questions.py",
    ),
    "process": (
        "batch_calls/report/test_in_a_browser.py",
        "deploy",
        "dialer/test_another_version.py",
        "dialer/test_connections.py",
        "dialer/test_copied_database.py",
        "dialer/test_ending.py",
        "dialer/test_processes.py",
        "dialer/test_replaced_files.py",
        "dialer/test_server.py",
        "documentation/test_site.py",
        "documented/test_pages.py",
        "documented/test_tutorial.py",
        "guard/test_replicas.py",
        "operator",
        "promises/test_review_of_the_all_clear.py",
        "promises/test_review_of_the_stop.py",
        "promises/test_review_of_the_stops_words.py",
        "promises/test_review_of_the_yes.py",
        "promises/test_stop_claims.py",
        "server/test_approval_page.py",
        "server/test_browser.py",
        "server/test_http_process.py",
        "server/test_malformed_answers.py",
        "server/test_odd_characters.py",
        "server/test_outside_the_client.py",
        "server/test_stdio.py",
        "test_benchmarks.py",
        "test_demo.py",
        "test_forks.py",
        "test_never_dials.py",
        "walks/test_three_clients.py",
        "walks/test_walk_11_a_list_uploaded_by_curl.py",
        "walks/test_walk_18_a_report_to_mail.py",
    ),
    "foreign": (
        "clients",
        "conformance",
        "dialer/test_schemathesis.py",
        "release/test_dist.py",
        "test_claude_desktop.py",
        "test_package.py",
    ),
    "kills": ("dialer_kills", "interleavings", "kills"),
}
"""The folders and files of each tier."""


def tier_of(item: pytest.Item) -> str:
    """By its own marker, then by its folder or file, then by how its client is connected and by its database."""
    own = next((marker.name for marker in item.iter_markers() if marker.name in TIERS), None)
    return own or place_of(item.path) or _by_parameters(_parameters(item))


@cache
def place_of(path: Path) -> str | None:
    """The tier in which a whole folder or file is."""
    inside = path.relative_to(TESTS)
    return next((tier for tier, places in TIERS.items() if any(inside.is_relative_to(place) for place in places)), None)


def _parameters(item: pytest.Item) -> list[Any]:
    called = getattr(item, "callspec", None)
    return list(called.params.values()) if called else []


def _by_parameters(values: list[Any]) -> str:
    again = any(value == "postgresql" if isinstance(value, str) else _spawns(value) for value in values)
    return "long" if again else "fast"


def _spawns(value: object) -> bool:
    return isinstance(value, Way) and value.transport == "stdio"
