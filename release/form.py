"""The fields of the form that a client shows for a bundle or a plug-in: what people fill in, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Field:
    """One setting that a person may fill in. None is required: without any, the simulated dialer runs."""

    variable: str
    """Without BATCHCALL_."""
    title: str
    description: str
    type: Literal["string", "number", "directory", "file"] = "string"
    sensitive: bool = False

    @property
    def key(self) -> str:
        """Its name in a manifest."""
        return self.variable.lower()

    @property
    def environment(self) -> tuple[str, str]:
        """The variable, and how the client fills it."""
        return f"BATCHCALL_{self.variable}", f"${{user_config.{self.key}}}"


FORM = (
    Field(
        "BACKEND",
        "Backend",
        "Who places the calls: zudu, magpipe, elevenlabs, vapi, retell, bland, bolna, dograh, cartesia, speechify or "
        "batchcall. Empty without a key: the built-in dialer, on which no phone rings.",
    ),
    Field("API_KEY", "API key", "The key of your account at the backend.", sensitive=True),
    Field("API_SECRET", "API secret", "Only for zudu and batchcall, which have two keys.", sensitive=True),
    Field("URL", "Address of the backend", "Only for a batch-call REST API of your own: https://…"),
    Field(
        "CARRIER",
        "Carrier",
        "Instead of a backend: the account through which the built-in dialer rings real phones. twilio, retell, vapi, "
        "elevenlabs or bland.",
    ),
    Field("CARRIER_KEY", "Key of the carrier", "The key of that account (Twilio: the account SID).", sensitive=True),
    Field("CARRIER_SECRET", "Secret of the carrier", "Only for some carriers; see their pages.", sensitive=True),
    Field(
        "FILES",
        "Folder with your lists",
        "Only lists in this folder can be called. Empty: the folder batchcall in your documents.",
        type="directory",
    ),
    Field("DO_NOT_CALL", "Do-not-call list", "A text file with one number a line: never called.", type="file"),
    Field("DEFAULT_REGION", "Country of your numbers", "Two letters such as US, for numbers without +."),
    Field("MAX_CALLS_PER_LAUNCH", "Most people of one launch", "A launch of more people is refused.", type="number"),
    Field("MODE", "Mode", "Empty: everything. draft: nothing that dials. read-only: nothing that changes."),
)
"""In the order in which a person fills them in."""


def user_config() -> dict[str, Any]:
    """The form as MCPB and Claude Code describe one."""
    return {
        field.key: {
            "type": field.type,
            "title": field.title,
            "description": field.description,
            "required": False,
            **({"sensitive": True} if field.sensitive else {}),
        }
        for field in FORM
    }


def environment() -> dict[str, str]:
    """Where the client puts what was filled in; `start.py` removes what was not."""
    return dict(field.environment for field in FORM)
