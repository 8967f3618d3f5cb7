"""/files over HTTP: a caller uploads lists for `tasks_file` and reads exports, with the pair that its tool calls have.

Nothing of a body is read before the backend has accepted the pair, so a stranger can fill no disk. Pure ASGI, in
front of what speaks JSON-RPC: its refusals are not for a person with curl.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from batchcall_mcp.errors import (
    AuthenticationFailed,
    BatchCallError,
    ConfigurationError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
)
from batchcall_mcp.guard.audit import Event
from batchcall_mcp.kept_files.caller_files import FILES_PATH, CallerFiles, incoming_folder, usable_disk
from batchcall_mcp.kept_files.records import LARGEST_BYTES, KeptFile, StoreFull, megabytes, plain_name
from batchcall_mcp.recipients.files.contents import count_rows
from batchcall_mcp.recipients.files.file_formats import ACCEPTED, kind_of
from batchcall_mcp.server.credentials import caller_credentials
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.transports.access import refusal
from batchcall_mcp.server.transports.pair_checks import PairChecks

logger = logging.getLogger(__name__)

_MOST_UPLOADS: Final = 8
_MOST_UPLOADS_PER_CALLER: Final = 2
_LONGEST_SILENCE_S: Final = 30.0
_LONGEST_UPLOAD_S: Final = 600.0
_WRITTEN_AT_ONCE: Final = 256 * 1024
_MEDIA_TYPES: Final = {
    ".csv": "text/csv; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".html": "text/html; charset=utf-8",
}
_ALWAYS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    # A report that is shown in a browser instead of saved is a page of no origin.
    "content-security-policy": "sandbox",
}
_STATUS_OF: Final[Mapping[type[BatchCallError], int]] = {
    AuthenticationFailed: 401,
    PermissionDenied: 403,
    NotFound: 404,
    StoreFull: 507,
    QuotaExceeded: 413,
    RateLimited: 429,
    InvalidInput: 400,
}
"""Of an error, by its class; every other one is 503."""


class _Refused(Exception):
    """An upload that goes no further, and the answer to it."""

    def __init__(self, status: int, text: str, code: str = "invalid_input") -> None:
        super().__init__(text)
        self.status, self.text, self.code = status, text, code


class FileRoutes:
    """Serves /files and what is below it; everything else passes.

    Args:
        app: what everything else goes to.
        service: keeps the files.
        checks: asks the backend about key pairs.
        largest_bytes: of one uploaded list.
        longest_silence_s: for which a sender may send nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        checks: PairChecks,
        largest_bytes: int = LARGEST_BYTES,
        longest_silence_s: float = _LONGEST_SILENCE_S,
    ) -> None:
        self._app = app
        self._service = service
        self._checks = checks
        self._largest = largest_bytes
        self._silence_s = longest_silence_s
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path != FILES_PATH and not path.startswith(FILES_PATH + "/"):
            await self._app(scope, receive, send)
            return
        response = await self._answered(Request(scope, receive), path[len(FILES_PATH) + 1 :])
        response.headers.update(_ALWAYS)
        await response(scope, receive, send)

    async def _answered(self, request: Request, name: str) -> Response:
        allowed = "GET, DELETE" if name else "GET, POST"
        if request.method not in allowed.split(", "):
            return refusal(405, f"Here only {allowed} are served.", allow=allowed)
        credentials = caller_credentials(
            request.headers, self._service.settings, needs_secret=self._service.capabilities.needs_secret
        )
        files = self._service.caller_files(credentials, request.headers)
        try:
            if request.method == "POST":
                return await self._upload(request, files)
            if request.scope["user"].username not in self._checks.accepted:
                await self._check_pair(request.scope)
            if request.method == "DELETE":
                return await self._remove(files, name)
            return _download(files, await files.find(name)) if name else _listing(await files.listed())
        except _Refused as refused:
            return refusal(refused.status, refused.text, refused.code)
        except BatchCallError as error:
            return _refusal_of(error)

    async def _check_pair(self, scope: Scope) -> None:
        if not await self._checks.accepts(scope):
            raise AuthenticationFailed(
                "The backend does not accept this key pair. Nothing was stored. Check the headers X-API-KEY and "
                "X-API-SECRET."
            )

    async def _remove(self, files: CallerFiles, name: str) -> Response:
        await files.remove(name)
        await self._note(files, "delete", "done")
        return JSONResponse({"removed": name})

    async def _upload(self, request: Request, files: CallerFiles) -> Response:
        written = _file_name(request, files)
        length = _declared_length(request.headers)
        self._check_size(length)
        await self._check_pair(request.scope)
        with self._counted(request.scope["user"].username):
            try:
                await files.check_room(length)
                kept = await self._kept(request, files, written)
            except (_Refused, BatchCallError) as error:
                await self._note(files, "upload", error.code)
                raise
        await self._note(files, "upload", "done")
        answer = {"tasks_file": kept.name, "bytes": kept.size_bytes, "rows": kept.rows, "kept_until": _at(kept)}
        return JSONResponse(answer, 201)

    async def _kept(self, request: Request, files: CallerFiles, written: Path) -> KeptFile:
        async with incoming_folder(files.data_dir) as folder:
            path = folder / plain_name(written.stem, written.suffix.lower())
            await self._receive(request, path)
            rows = await anyio.to_thread.run_sync(count_rows, path, limiter=files.reading)
            return await files.keep(written.stem, path.suffix, "list", _pieces(path), rows)

    async def _receive(self, request: Request, path: Path) -> None:
        """Write the body to a new file, in memory that does not grow with it."""
        held, size = bytearray(), 0
        try:
            with anyio.fail_after(_LONGEST_UPLOAD_S):
                async for piece in self._body(request):
                    held += piece
                    size += len(piece)
                    self._check_size(size)
                    if len(held) >= _WRITTEN_AT_ONCE:
                        await anyio.to_thread.run_sync(_append, path, bytes(held))
                        held.clear()
            await anyio.to_thread.run_sync(_append, path, bytes(held))
        except TimeoutError:
            raise _Refused(408, "The file did not arrive in time. Nothing was stored. Send it again.") from None
        except ClientDisconnect:
            raise _Refused(400, "The file did not arrive whole. Nothing was stored. Send it again.") from None
        if not size:
            raise _Refused(400, "The request has no body. Nothing was stored. Send the file itself as the body.")

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        stream = request.stream()
        while True:
            with anyio.fail_after(self._silence_s):
                try:
                    piece = await anext(stream)
                except StopAsyncIteration:
                    return
            yield piece

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._largest:
            text = (
                f"The file is larger than {megabytes(self._largest)}, the most that this server takes. Nothing was "
                "stored. Split it."
            )
            raise _Refused(413, text, QuotaExceeded.code)

    @contextmanager
    def _counted(self, caller: str) -> Iterator[None]:
        if self._under_way[caller] >= _MOST_UPLOADS_PER_CALLER or self._under_way.total() >= _MOST_UPLOADS:
            raise RateLimited(
                f"{_MOST_UPLOADS_PER_CALLER} uploads of one key pair, and {_MOST_UPLOADS} of all, may go on at once. "
                "Nothing was stored. Try again later."
            )
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    async def _note(self, files: CallerFiles, operation: str, outcome: str) -> None:
        """One line in the audit record, without the file's name: somebody chose it."""
        try:
            _, owner = await files.opened()
        except ConfigurationError:
            return  # then the refusal says so, and whose it was cannot be named
        event = Event(event="file", caller=owner, tool="files", operation=operation, outcome=outcome)
        await anyio.to_thread.run_sync(self._service.guard.audit.note, event)


def _file_name(request: Request, files: CallerFiles) -> Path:
    """What the caller calls the file: its extension says what it is; no path is made of it."""
    how = f"For example: {files.how_to_upload()}"
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise _Refused(415, f"Send the file itself as the body, not a form. Nothing was stored. {how}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Refused(415, f"Send the file as it is, without a Content-Encoding. Nothing was stored. {how}")
    written = request.query_params.get("name", "")
    if not written.strip():
        raise _Refused(400, f"Name the file in the query. Nothing was stored. {how}")
    name = Path(written.replace("\0", "").replace("\\", "/").rpartition("/")[2])
    if kind_of(name) is None:
        raise _Refused(
            415, f"The name must end as one of {ACCEPTED}: its ending says what the file is. Nothing was stored. {how}"
        )
    return name


def _declared_length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0  # noqa: PLR2004


def _append(path: Path, content: bytes) -> None:
    with usable_disk(), path.open("ab") as file:
        file.write(content)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_WRITTEN_AT_ONCE):
            yield piece


def _download(files: CallerFiles, file: KeptFile) -> Response:
    return StreamingResponse(
        files.parts(file),
        media_type=_MEDIA_TYPES.get(Path(file.name).suffix, "application/octet-stream"),
        headers={
            "content-disposition": f'attachment; filename="{file.name}"',
            "content-length": str(file.size_bytes),
        },
    )


def _listing(kept: Iterable[KeptFile]) -> Response:
    described = [
        {"name": one.name, "kind": one.kind, "bytes": one.size_bytes, "rows": one.rows, "kept_until": _at(one)}
        for one in kept
    ]
    return JSONResponse({"files": described})


def _at(file: KeptFile) -> str:
    return file.kept_until.isoformat(timespec="seconds").replace("+00:00", "Z")


def _refusal_of(error: BatchCallError) -> JSONResponse:
    status = next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), 503)
    if status == 503:  # noqa: PLR2004 - HTTP
        logger.warning("A request for a kept file was refused: %s", error)
    return refusal(status, str(error), error.code)
