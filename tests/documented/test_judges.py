"""Each judge accepts what is right, and refuses the same block with one thing wrong in it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tests.documented import not_run
from tests.documented.judges import Around, Wrong, judge, said_by_nobody
from tests.documented.pages import JUDGED, check_entry
from tests.server.transports import ROOT

NGINX = """
server {
    listen 443 ssl;
    proxy_read_timeout 660s;
    location / { proxy_pass http://batchcall; proxy_set_header Host $host; }
}
"""
BACKEND = '[project.entry-points."batchcall_mcp.backends"]\nacme = "acme_backend:AcmeBackend"\n'
CARRIER = '[project.entry-points."batchcall_mcp.carriers"]\nacme = "acme_carrier:AcmeCarrier"\n'
AGENTS = '[reminder]\nsay = "Hello {{name}}."\n'
SQL = "UPDATE batch_calls SET status = 'paused', revision = revision + 1 WHERE status IN ('sent', 'scheduled');\n"
QUOTE = 'return HttpCall("POST", "/calls", json=body)\n'
CRONTAB = "BATCHCALL_ENV_FILE=/home/me/my.env\n0 14 * * 1-5  sh /home/me/job.sh >> /home/me/job.log 2>&1\n"
WRONG = [
    ("nginx", NGINX, "443 ssl", ""),
    ("nginx", NGINX, "proxy_read_timeout", "proxy_red_timeout"),
    ("nginx", NGINX, "660s;", "660s"),
    ("nginx", NGINX, "location / { proxy_pass", "location / { listen"),
    ("toml", BACKEND, "acme_backend:", "acme_backends:"),
    ("toml", BACKEND, "batchcall_mcp.backends", "batchcall_mcp.backend"),
    ("toml", CARRIER, ":AcmeCarrier", ":AcmeCarriers"),
    ("toml", AGENTS, "say", "says"),
    ("toml", AGENTS, "{{name}}", "{name}"),
    ("sql", SQL, "revision + 1", "revisions + 1"),
    ("python", QUOTE, '"/calls"', '"/call"'),
    ("python", "import json\njson.dumps({})\n", "dumps", "dump"),
    ("crontab", CRONTAB, "1-5", "1-9"),
    ("crontab", CRONTAB, "0 14 * ", "14 * "),
    ("crontab", CRONTAB, "job.sh", "jobs.sh"),
    ("crontab", CRONTAB, "my.env", "your.env"),
]


@pytest.fixture
def around(tmp_path: Path) -> Around:
    """A home folder with a job that needs its file of settings, and the command."""
    (tmp_path / "my.env").touch()
    (tmp_path / "job.sh").write_text('test -f "$BATCHCALL_ENV_FILE"\n')
    return Around(tmp_path)


@pytest.mark.parametrize(("language", "right"), sorted({(language, right) for language, right, _, _ in WRONG}))
def test_what_is_right_is_accepted(language: str, right: str, around: Around) -> None:
    judge(language, right, around)


@pytest.mark.parametrize(("language", "right", "part", "spoilt"), WRONG)
def test_what_is_wrong_is_refused(language: str, right: str, part: str, spoilt: str, around: Around) -> None:
    assert part in right
    with pytest.raises(Wrong):
        judge(language, right.replace(part, spoilt), around)


def test_every_language_has_a_judge_and_none_is_judged_without() -> None:
    """Prometheus's needs a dialer: docs/dialer.md."""
    assert {language for language, *_ in WRONG} | {"yaml"} == set(JUDGED)


@pytest.mark.parametrize(
    "text",
    [
        " 1 server/tools/results.py\n 2 server/tools/no_such.py\n",
        "MCP client ─► servers/ ─► batch_calls/\n",
        "batchcall-mcp approves [OPTIONS]\n",
        "batchcall-mcp approve  # answer\nbatchcall-mcp resolve  # settle\n",
        "A call that ended as no_answer is read as completed.\n",
    ],
)
async def test_a_text_that_nothing_says_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        await said_by_nobody(text)


def test_the_usage_of_a_command_is_what_its_help_says() -> None:
    assert not_run.usage(["batchcall-mcp", "approve"]) == "batchcall-mcp approve [OPTIONS] [QUESTION]"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("batchcall-mcp serve --port 8000", "batchcall-mcp serve --prt 8000"),
        ("batchcall-mcp serve --port 8000", "batchcall-mcp serve --port 80000"),
        ("batchcall-mcp verify --to +14155550123", "batchcall-mcp verify --to +14155550123 now"),
        (
            "BATCHCALL_PUBLIC_URL=https://x.example batchcall-mcp dialer",
            "BATCHCALL_URLS=https://x batchcall-mcp dialer",
        ),
        ("docker compose exec dialer batchcall-mcp stop", "docker compose exec dealer batchcall-mcp stop"),
        ("docker compose exec dialer batchcall-mcp stop", "docker compose exec dialer batchcall-mcp halt"),
        ("docker compose up --build --detach", "docker compose start --build"),
        ("claude plugin install batchcall@batchcall-mcp", "claude plugin install batchcalls@batchcall-mcp"),
        (
            "claude plugin install batchcall@batchcall-mcp --config backend=zudu",
            "claude plugin install batchcall@batchcall-mcp --config backends=zudu",
        ),
        ("claude plugin marketplace add ./batchcall-mcp", "claude plugin market add ./batchcall-mcp"),
        (
            "gemini extensions install ./batchcall-mcp/plugins/batchcall",
            "gemini extensions install ./batchcall-mcp/plugin",
        ),
        ("uv tool install dist/*.whl", "uv tool instal dist/*.whl"),
    ],
)
def test_a_line_that_is_not_run_is_checked(line: str, wrong: str) -> None:
    assert not_run.reason_for(line)
    not_run.check(line)
    with pytest.raises((AssertionError, click.UsageError)):
        not_run.check(wrong)


def test_a_target_that_make_does_not_know_is_refused() -> None:
    assert (ROOT / "Makefile").is_file()
    not_run.check("make dist")
    with pytest.raises(AssertionError, match="make distribution"):
        not_run.check("make distribution")


@pytest.mark.parametrize(
    ("words", "there"),
    [
        ("ledger resolve NUMBER made", True),
        ("verify --to", True),
        ("dialer keys", True),
        ("approve [OPTIONS] [QUESTION]", True),
        ("approve [OPTIONS] [NUMBER]", False),
        ("--version", True),
        ("serve --prt 8000", False),
        ("dialer key", False),
        ("stop now", False),
    ],
)
def test_a_command_in_a_sentence_needs_no_values(words: str, there: bool) -> None:
    assert not_run.exists(words.split()) is there


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "uvx"},
        {"command": "uvx", "args": [], "envs": {}},
        {"url": "http://127.0.0.1:8000/mcp"},
        {"type": "sse", "url": "http://127.0.0.1:8000/mcp"},
    ],
)
def test_an_entry_that_no_client_reads_is_refused(entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no client reads"):
        check_entry(entry)
