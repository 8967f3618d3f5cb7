"""What a test sees as the process; see `forked`. Thousands are started: it needs only what starts in 15 ms.

`json`, `signal` and `socket` would take 25 ms more of a processor each time: enumerations and regular expressions.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import os
import resource
import sys

LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
PASSED_ON = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
NO_CHILD = 70


def main() -> None:
    """Until the child ends."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)
    # Made before it connects: nobody waits for it then.
    job = marshal.dumps(
        {
            "arguments": sys.argv[2:],
            "environment": dict(os.environ),
            "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import than all of this
            "limits": [[limit, *resource.getrlimit(limit)] for limit in LIMITS],
        }
    )
    forking = _socket.socket(_socket.AF_UNIX)
    try:
        forking.connect(sys.argv[1])
    except OSError as error:
        ended = "tests/forking.py has ended; its traceback is in what this test run has written"
        sys.stderr.write(f"{error}: {ended}\n")
        sys.exit(NO_CHILD)
    streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
    forking.sendmsg([len(job).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    forking.sendall(job)
    # From here on a pipe's end is the child's alone.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    child = heard(forking) or 0
    if not child:  # its traceback is there as well
        sys.exit(NO_CHILD)
    for number in PASSED_ON:
        _signal.signal(number, lambda got, _frame: os.kill(child, got))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, PASSED_ON)
    code = heard(forking)
    code = NO_CHILD if code is None else code
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _signal.signal(-code, _signal.SIG_DFL) if -code != _signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def heard(forking: _socket.socket) -> int | None:
    """A number, which ends with its line; the next one may follow at once."""
    line = b""
    while not line.endswith(b"\n"):
        part = forking.recv(1)
        if not part:
            return None
        line += part
    return int(line)


main()
