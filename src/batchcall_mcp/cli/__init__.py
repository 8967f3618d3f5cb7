"""The command line: `batchcall-mcp` alone speaks MCP over stdio; its commands are for people.

A command that has a module of its own is a plain click command there; the end of this module puts it on the group.
So no command's module imports this one, and each imports what is heavy only when it runs.
"""

from __future__ import annotations

from typing import Literal

import click

import batchcall_mcp
from batchcall_mcp.cli import adopt, approve, audit, call, forget, keys, ledger, remove_gate, stop
from batchcall_mcp.cli.account import doctor, verify
from batchcall_mcp.cli.setup import init
from batchcall_mcp.server.startup import collect_garbage_again, load_settings, without_colours

_PORT = click.IntRange(0, 65535)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(batchcall_mcp.__version__, prog_name="batchcall-mcp", message="%(prog)s %(version)s")
def cli() -> None:
    """Let AI agents run outbound batch calls. Without a command: MCP over stdin and stdout, as MCP clients start it.

    All settings are environment variables that begin with BATCHCALL_.
    """
    collect_garbage_again()


@cli.command()
@click.option(
    "--transport",
    type=click.Choice(["http", "sse", "both"]),
    default="http",
    show_default=True,
    help="SSE is deprecated: for clients that know nothing else.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=_PORT, default=8000, show_default=True, help="0 picks a free one.")
@click.option("--stateless", is_flag=True, help="Keep no sessions at /mcp; clients of 2025 cannot be asked then.")
@click.option("--metrics-port", type=_PORT, help="Show totals at /metrics on this port of 127.0.0.1.  [default: off]")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 3600),
    default=25,
    show_default=True,
    help="How long answers that are under way may take when it is stopped; a second signal cuts them off.",
)
def serve(
    transport: Literal["http", "sse", "both"],
    host: str,
    port: int,
    *,
    stateless: bool,
    metrics_port: int | None,
    drain_seconds: float,
) -> None:
    """Serve MCP over HTTP: /mcp (streamable HTTP), /sse (deprecated), /files (lists and exports), /healthz, /readyz.

    Every request carries its caller's X-API-KEY and X-API-SECRET. Host names other than localhost go into
    BATCHCALL_ALLOWED_HOSTS.
    """
    settings = load_settings()
    with without_colours():
        from batchcall_mcp.server.app import build_server
        from batchcall_mcp.server.transports.http import run_http

        server = build_server(settings, transport="http")
    run_http(
        server,
        settings,
        host=host,
        port=port,
        transport=transport,
        stateless=stateless,
        metrics_port=metrics_port,
        drain_seconds=drain_seconds,
        authenticate=server.authenticate,
        service=server.service,
    )


@cli.group(invoke_without_command=True, short_help="Run the dialer as a REST server of its own; make keys for it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=_PORT, default=8080, show_default=True, help="0 picks a free one.")
@keys.database_url
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes; with PostgreSQL.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 3600),
    default=60,
    show_default=True,
    help="How long calls in progress may go on when it is stopped; a second signal cuts them off.",
)
@click.pass_context
def dialer(
    context: click.Context, host: str, port: int, database_url: str | None, workers: int, drain_seconds: float
) -> None:
    """Run the dialer that comes with batchcall-mcp as a REST server of its own.

    Its first start makes a key pair and shows it once. Without BATCHCALL_CARRIER its carrier is simulated: no phone
    rings. Any number of processes, on any number of machines, may dial from one PostgreSQL database.
    """
    if context.invoked_subcommand is None:
        settings = load_settings()
        if database_url is not None:
            settings = settings.with_database(database_url)
        from batchcall_mcp.dialer.server import serve as serve_dialer
        from batchcall_mcp.server import log

        serve_dialer(settings, log.configure, host=host, port=port, workers=workers, drain_seconds=drain_seconds)


@cli.command()
def demo() -> None:
    """Watch a simulated batch call from draft to report; no phone rings."""
    from batchcall_mcp.cli.demo import main

    main()


dialer.add_command(keys.keys)
dialer.add_command(adopt.adopt)
dialer.add_command(remove_gate.remove_gate)
for command in (
    approve.approve,
    audit.audit,
    call.call,
    doctor.doctor,
    forget.forget,
    init.init,
    ledger.ledger,
    stop.stop,
    verify.verify,
):
    cli.add_command(command)
