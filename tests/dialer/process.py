"""A dialer in a process of its own, for tests that kill it: `-m tests.dialer.process DATA_DIR SPEED`.

Says `running` or `standby` on stdout at each change, and stops cleanly when stdin closes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from batchcall_mcp.dialer.app import EmbeddedDialer


async def main(data_dir: Path, speed: float) -> None:
    dialer = EmbeddedDialer(data_dir, simulated_speed=speed, poll_seconds=0.1)
    await dialer.start()
    closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    said = None
    while not closed.done():
        state = dialer._engine_state()
        if state != said:
            sys.stdout.write(state + "\n")
            sys.stdout.flush()
            said = state
        await asyncio.sleep(0.01)
    await dialer.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
