"""Whether a webhook is the vendor's."""

from __future__ import annotations

import hmac

from pydantic import SecretStr


def is_signed(secret: SecretStr | None, message: bytes, digest: str) -> bool:
    """Whether `digest` is the hex HMAC-SHA256 of the message. Without a secret nothing is signed."""
    if secret is None:
        return False
    expected = hmac.new(secret.get_secret_value().encode(), message, "sha256").hexdigest()
    return hmac.compare_digest(expected.encode(), digest.encode())
