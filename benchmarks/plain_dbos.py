"""One DBOS workflow a call on a queue, and nothing else: what the dialer's own SQL is measured against.

Run: `python benchmarks/plain_dbos.py URL RECORD SECONDS COUNT`. Enqueues COUNT calls (0: goes on with those that are
there), each of which is a line in RECORD and then takes SECONDS; ends when its stdin closes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

from dbos import DBOS, DBOSClient

QUEUE = "calls"
LINES = 50
"""As many calls at once as a dialling process has."""
RECORD = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
SECONDS = float(sys.argv[3])


@DBOS.step()
async def dial(to_number: str) -> str:
    """Place the call, and wait for its end."""
    os.write(RECORD, f"{time.time():.4f} {to_number}\n".encode())
    await asyncio.sleep(SECONDS)
    return "completed"


@DBOS.workflow(name="call")
async def call(to_number: str) -> str:
    """One call."""
    return await dial(to_number)


def main() -> None:
    """Enqueue, then run until nobody reads any more."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    url = sys.argv[1]
    DBOS.migrate(url)
    client = DBOSClient(system_database_url=url)
    # Polled often: what a queue costs when it is idle is not asked here.
    client.register_queue(QUEUE, worker_concurrency=LINES, polling_interval_sec=0.05)
    for number in range(int(sys.argv[4])):
        client.enqueue({"queue_name": QUEUE, "workflow_name": "call", "app_version": "1"}, f"+1213{2_000_000 + number}")
    client.destroy()
    DBOS(
        config={
            "name": "plain",
            "system_database_url": url,
            "sys_db_pool_size": 20,
            "application_version": "1",
            "executor_id": "one",
            "log_level": "CRITICAL",
        }
    )
    DBOS.launch()
    print("running", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
