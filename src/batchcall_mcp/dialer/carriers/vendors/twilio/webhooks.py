"""What Twilio sends by itself: a form with a signature over the address and all fields. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

from batchcall_mcp.dialer.carriers.base import KeyPress


def is_signed(given: str, token: str, body: bytes, url: str) -> bool:
    """Whether the signature was made with the token. Twilio signs the address with its port, or without."""
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    signed = "".join(f"{name}{value}" for name in sorted(fields) for value in sorted(set(fields[name])))
    own = (hmac.new(token.encode(), (one + signed).encode(), hashlib.sha1).digest() for one in _addresses(url))
    return any(hmac.compare_digest(base64.b64encode(one), given.encode()) for one in own)


def call_id_of(body: bytes) -> str | None:
    """The call that it is about."""
    return _field(body, "CallSid")


def key_press_of(body: bytes) -> KeyPress | None:
    """What a person pressed, who is at `To`: our calls are all outgoing."""
    call_id, keys = call_id_of(body), _field(body, "Digits")
    if call_id is None or keys is None:
        return None
    own, theirs = _field(body, "From") or "", _field(body, "To") or ""
    return KeyPress(call_id=call_id, from_number=own, to_number=theirs, keys=keys)


def _field(body: bytes, name: str) -> str | None:
    """None: it is not there, or empty."""
    found = parse_qs(body.decode("utf-8", "replace")).get(name)
    return found[0] if found else None


def _addresses(url: str) -> set[str]:
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(f":{parts.port}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {url, parts._replace(netloc=host).geturl(), parts._replace(netloc=f"{host}:{port}").geturl()}
