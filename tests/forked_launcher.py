"""What a test sees as the process; see `forked`. Needs only the standard library."""

import json
import os
import resource
import signal
import socket
import sys

LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
NO_CHILD = 70


def main() -> None:
    """Until the child ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    # Made before it connects: nobody waits for it then.
    job = json.dumps(
        {
            "arguments": sys.argv[2:],
            "environment": dict(os.environ),
            "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import than all of this
            "limits": [[limit, *resource.getrlimit(limit)] for limit in LIMITS],
        }
    ).encode()
    forking = socket.socket(socket.AF_UNIX)
    try:
        forking.connect(sys.argv[1])
    except OSError as error:
        ended = "tests/forking.py has ended; its traceback is in what this test run has written"
        sys.stderr.write(f"{error}: {ended}\n")
        sys.exit(NO_CHILD)
    socket.send_fds(forking, [len(job).to_bytes(4, "big")], [0, 1, 2])
    forking.sendall(job)
    # From here on a pipe's end is the child's alone.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    said = forking.makefile("rb")
    child = int(said.readline() or 0)
    if not child:  # its traceback is there as well
        sys.exit(NO_CHILD)
    for number in PASSED_ON:
        signal.signal(number, lambda got, _frame: os.kill(child, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = int(said.readline() or NO_CHILD)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
