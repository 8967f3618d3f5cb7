"""Every BATCHCALL_* variable, in one class. Nothing else reads the environment."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.money import Money, parse_money

PREFIX = "BATCHCALL_"
STOP_FILE = "STOP"
"""In the data folder: while it is there, nothing is launched or dialled. Who can write there can stop everything."""
_FEWEST_KEY_BYTES = 24
"""Of a key that signs, by the Standard Webhooks scheme."""
_ENV_FILE = PREFIX + "ENV_FILE"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_WRITTEN_AS = {
    "default_region": 'must be a country\'s two letters, such as "US"',
    "calling_hours": 'must be the first and the last time of day, such as "08:00-21:00"',
}
"""What a pattern means, for people."""
_OF_A_CARRIER = (
    "carrier_url",
    "carrier_key",
    "carrier_secret",
    "carrier_concurrency",
    "carrier_calls_per_second",
    "agents",
    "public_url",
    "countries",
)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_AMOUNTS = ("cost_per_minute", "max_cost_per_launch", "max_cost_per_day")
Mode: TypeAlias = Literal["full", "draft", "read-only"]
Confirm: TypeAlias = Literal["auto", "person", "code", "off"]


def _documents_folder() -> tuple[Path, ...]:
    try:
        return (Path(platformdirs.user_documents_dir()) / "batchcall",)
    except RuntimeError:
        raise _no_home("FILES") from None


def _data_folder() -> Path:
    try:
        return Path(platformdirs.user_data_dir("batchcall-mcp", appauthor=False))
    except RuntimeError:
        raise _no_home("DATA_DIR") from None


def _no_home(name: str) -> ConfigurationError:
    """For a user whom the system does not know, as in some containers."""
    return ConfigurationError(
        f"Invalid settings. {PREFIX}{name} is not set, and this user has no home folder. Nothing was started. "
        f"Set {PREFIX}{name} or HOME."
    )


class Settings(BaseSettings):
    """The operator's settings. Read with `Settings.load()`, which turns a bad value into a ConfigurationError.

    What stands below a field is what docs/settings.md says of it (`python -m documentation`).
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    backend: str | None = None
    """A name in [backends](backends.md), or one that another package adds. If it is not set: `batchcall` if a key
    or URL is set, else `dialer`.
    """
    url: str | None = None
    """Base URL; the backend's paths are appended. If it is not set: the backend's own."""
    api_key: SecretStr | None = None
    """The key of the account, over stdio."""
    api_secret: SecretStr | None = None
    """The secret of the account, over stdio, for backends that have two keys."""
    mode: Mode = "full"
    """`draft`: nothing that dials. `read-only`: nothing that changes. Over HTTP a request may ask for less:
    `X-BATCHCALL-MODE`.
    """
    confirm: Confirm = "auto"
    """[Who asks](questions.md#who-asks) before phones ring."""
    approval_page: Literal["auto", "off"] = "auto"
    """`off`: no approval page; a client that cannot ask needs `batchcall-mcp approve`."""
    max_calls_per_launch: Annotated[int | None, Field(ge=1)] = None
    """A launch of more people is refused, and so is an addition that makes a list longer than this."""
    max_calls_per_day: Annotated[int | None, Field(ge=1)] = None
    """Launches of more people in total, on one day (UTC), are refused."""
    cost_per_minute: Annotated[Money | None, NoDecode] = None
    """What a minute of a call costs: questions and checks say [about what a launch costs](how-to/what-it-costs.md).
    If it is not set: the backend's own, where it reports one.
    """
    max_cost_per_launch: Annotated[Money | None, NoDecode] = None
    """A launch that may cost more, all retries counted, is refused; one whose cost is not known, too. All three
    amounts are in one currency.
    """
    max_cost_per_day: Annotated[Money | None, NoDecode] = None
    """The same for the launches of one day (UTC) together."""
    skip_people_max: Annotated[float, Field(ge=0, le=100)] = 10
    """With `BATCHCALL_CONFIRM=off`: a launch that would skip more people is refused."""
    accept_no_stop: bool = False
    """With `BATCHCALL_CONFIRM=off`: `true` launches on a backend that cannot stop calls."""
    default_region: Annotated[str | None, Field(pattern="^[A-Z]{2}$")] = None
    """Country of numbers without `+`, such as `US` or `us`. If it is not set, they are invalid."""
    files: Annotated[tuple[Path, ...], NoDecode] = Field(default_factory=_documents_folder)
    """Folders that `tasks_file` may name. The first is created with a sample list if it does not exist; exports go
    to its folder `exports`, which is never read as a list.
    """
    do_not_call: Annotated[tuple[Path, ...], NoDecode] = ()
    """Files of numbers that are never called, one number per line. A number of an earlier numbering plan (Mexico,
    Brazil, Benin) also blocks today's number; lines with numbers that nobody has are reported at start and in each
    preflight.
    """
    require_consent: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Column of a list (variable of a task) that must say `yes`, `true`, `y` or `1`; other rows are skipped
    ([opt-outs and consent](how-to/opt-outs.md)).
    """
    calling_hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")] = (
        "08:00-21:00"
    )
    """In the called person's own time zone ([calling rules](calling-rules.md))."""
    data_dir: Path = Field(default_factory=_data_folder)
    """The ledger, `audit.jsonl`, `STOP`; the dialer's database and `carrier.jsonl`."""
    database_url: SecretStr | None = None
    """For the ledger and the dialer, where several processes serve; needs the extra `batchcall-mcp[postgres]`. If
    it is not set: SQLite in the data folder.
    """
    request_timeout_s: Annotated[float, Field(gt=0, le=300)] = 15
    """Time limit in seconds for one try as a whole."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names over HTTP in addition to localhost."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of the log on stderr; numbers are masked in it."""
    log_format: Literal["text", "json"] = "text"
    """`json`: one object a line, masked alike."""
    retention_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """How many days after their batch call people are kept ([privacy](privacy.md)). If it is not set: until somebody
    has them erased.
    """
    fast_start: Literal["on", "off"] = "on"
    """`off`: over stdio the handshake and the lists are not answered from a snapshot while the server starts."""
    late_start_minutes: Annotated[int, Field(ge=0, le=525_600)] = 60
    """A batch call that was due for longer while no dialer ran is paused and asks. `0`: it dials on."""
    min_gap_minutes: Annotated[float, Field(ge=0, le=1440, allow_inf_nan=False)] = 15
    """Between dials of one number by different batch calls; `0`: none. The simulated carrier ignores it."""
    undo_seconds: Annotated[int | None, Field(ge=0, le=3600)] = None
    """A launch that says "now" starts so much later and can be [cancelled until then](how-to/think-again.md). If it
    is not set: `60` on the dialer with real phones and 50 people or more, else `0`.
    """
    test_numbers: Annotated[tuple[str, ...], NoDecode] = ()
    """Your own numbers, in E.164, that may be called [to hear it first](how-to/hear-it-first.md)."""
    simulated_speed: Annotated[float, Field(gt=0, le=10_000)] = 20
    """How much faster than real time the simulated carrier runs."""
    carrier: str | None = None
    """Through which account the built-in dialer rings [real phones](carriers/README.md): `simulated`, `twilio`,
    `retell`, `vapi`, `elevenlabs`, `bland`, or one that another package adds. A batch call belongs to the carrier
    with which it was created. If it is not set: `simulated`.
    """
    carrier_url: str | None = None
    """Base URL of the carrier's API, such as SignalWire's; `https://`, or `http://` to this machine. If it is not
    set: the vendor's own.
    """
    carrier_key: SecretStr | None = None
    """The key of the carrier's account, which pays (Twilio: the account SID)."""
    carrier_secret: SecretStr | None = None
    """Twilio: the auth token. Vapi, ElevenLabs, Bland: what signs their reports."""
    carrier_concurrency: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Most calls at once, over all batch calls and processes of the account. If it is not set: Twilio and Retell
    `10`, Vapi and Bland `8`, ElevenLabs `5`.
    """
    carrier_calls_per_second: Annotated[float | None, Field(gt=0, le=1000, allow_inf_nan=False)] = None
    """Most calls that begin in one second, over the same. If it is not set: `1`."""
    agents: Path | None = None
    """The TOML file that says what is spoken, for [Twilio](carriers/twilio.md)."""
    public_url: str | None = None
    """Where the vendor reaches `batchcall-mcp dialer` for [its
    reports](carriers/README.md#reports-from-the-vendor-optional) and for key presses.
    """
    countries: Annotated[frozenset[str] | None, NoDecode] = None
    """Countries that may be called, such as `US, GB`; emergency, premium-rate, shared-cost and unknown numbers are
    never called. If it is not set: those of the account's caller numbers.
    """
    rate_limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests a second that `batchcall-mcp dialer` accepts from each key, and `batchcall-mcp serve` from each key
    pair.
    """
    webhooks_to_private_addresses: bool = False
    """The dialer's webhooks may go to private addresses, and to those over http."""
    predial_url: str | None = None
    """A service of yours that the dialer asks [before each dial](how-to/ask-before-each-dial.md); `https://`, or
    `http://` to this machine.
    """
    predial_secret: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """The secret that signs these questions: `whsec_` and at least 24 bytes in base64."""
    notify_url: str | None = None
    """Where [notifications](how-to/nightly.md#notifications) go: launched, refused, unknown, stopped, late,
    finished; `https://`, or `http://` to this machine.
    """
    notify_secret: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """The secret that signs them: `whsec_` and at least 24 bytes in base64."""

    @field_validator("default_region", mode="before")
    @classmethod
    def _capitals(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("skip_people_max", mode="before")
    @classmethod
    def _percent(cls, value: object) -> object:
        return value.strip().removesuffix("%").rstrip() if isinstance(value, str) else value

    @field_validator(*_AMOUNTS, mode="before")
    @classmethod
    def _read_money(cls, value: object) -> object:
        return parse_money(value) if isinstance(value, str) else value

    @field_validator(*_AMOUNTS)
    @classmethod
    def _check_money(cls, value: Money | None, info: ValidationInfo) -> Money | None:
        """More than nothing, and all in one currency: nothing is converted."""
        if value is None:
            return None
        if not value.amount:
            raise ValueError("must be more than 0; remove it where calls cost nothing, or where there is no limit")
        for name in _AMOUNTS:
            other = info.data.get(name)
            if other is not None and other.currency != value.currency:
                raise ValueError(
                    f"is in {value.currency}, and {PREFIX}{name.upper()} is in {other.currency}; nothing is "
                    "converted: write both in the currency of the bill"
                )
        return value

    @field_validator("files", "do_not_call", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(_expanded(Path(part)) for part in value.split(os.pathsep) if part.strip())
        return value

    @field_validator("do_not_call", mode="before")
    @classmethod
    def _name_a_file(cls, value: object) -> object:
        """A list that is set to nothing would be a list that does not hold."""
        if isinstance(value, str) and not value.replace(os.pathsep, "").strip():
            raise ValueError("is blank; name a file or remove it")
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("test_numbers", mode="before")
    @classmethod
    def _split_numbers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        given = tuple(part.strip() for part in value.split(",") if part.strip())
        wrong = [number for number in given if not _E164.fullmatch(number)]
        if wrong:
            raise ValueError(f"{wrong[0][:30]!r} is not a number in E.164, such as +14155550123; separate by commas")
        return given

    @field_validator("data_dir", "agents")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value if value is None else _expanded(value)

    @field_validator("carrier", mode="before")
    @classmethod
    def _name_a_carrier(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if not value.strip():
            raise ValueError("is blank; name a carrier or remove it")
        return value.strip().lower()

    @field_validator(*_OF_A_CARRIER)
    @classmethod
    def _needs_a_carrier(cls, value: object, info: ValidationInfo) -> object:
        """Who sets an account means real calls: without its carrier they would be simulated."""
        if value is not None and info.data.get("carrier", "") is None:
            raise ValueError(f"is set, and {PREFIX}CARRIER is not; set that too, or remove this one")
        return value

    @field_validator("countries", mode="before")
    @classmethod
    def _split_countries(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        given = frozenset(part.strip().upper() for part in value.split(",") if part.strip())
        wrong = sorted(code for code in given if not _COUNTRY.fullmatch(code))
        if wrong or not given:
            named = repr(wrong[0][:30]) if wrong else "it"
            raise ValueError(f"{named} is not a country's two letters, such as US; separate several by commas")
        return given

    @field_validator("require_consent")
    @classmethod
    def _trim(cls, value: str | None) -> str | None:
        """A column that is set to nothing would be a consent that nobody asks for."""
        if value is not None and not value.strip():
            raise ValueError("is blank; name a column or remove it")
        return value if value is None else value.strip()

    @field_validator("api_key", "api_secret", "carrier_key", "carrier_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        """A key is never judged by length or format, only by what no vendor can have meant."""
        if value is None:
            return None
        problem = secret_problem(value.get_secret_value())
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        """Only PostgreSQL is named by a URL; never repeats the value, which may hold a password."""
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://; omit it for SQLite in BATCHCALL_DATA_DIR")
        return value

    @field_validator("predial_url", "notify_url", "carrier_url", "public_url")
    @classmethod
    def _check_own_url(cls, value: str | None) -> str | None:
        """Encrypted, or to this machine; never repeats the value, which may hold a token."""
        if value is None:
            return None
        try:
            read = urlsplit(value)
            host, port = read.hostname, read.port
        except ValueError:
            host, port = None, None
        if not host or port == 0 or read.username is not None or read.fragment or not value.isprintable():
            raise ValueError("must be a URL such as https://hooks.example.com/batch-calls, without a user name")
        if read.scheme != "https" and not (read.scheme == "http" and _is_this_machine(host)):
            raise ValueError("must begin with https://; http:// is only for this machine (127.0.0.1, localhost)")
        return value

    @field_validator("carrier_url", "public_url")
    @classmethod
    def _is_a_base(cls, value: str | None) -> str | None:
        """Paths are appended to it."""
        if value is not None and ("?" in value or "#" in value):
            raise ValueError("holds a query or a fragment; it is a base to which paths are appended")
        return value if value is None else value.rstrip("/")

    @field_validator("predial_secret", "notify_secret")
    @classmethod
    def _check_own_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Who is asked, or notified, has to know by whom."""
        of = str(info.field_name).replace("_secret", "_url")
        url = info.data.get(of)
        if value is None:
            if url is not None:
                raise ValueError(f"is missing, and {PREFIX}{of.upper()} is set; set both or none")
            return None
        if url is None and of in info.data:
            raise ValueError(f"is set, and {PREFIX}{of.upper()} is not; set both or none")
        try:
            key = base64.b64decode(value.get_secret_value().removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if len(key) < _FEWEST_KEY_BYTES:
            raise ValueError("must be whsec_ and at least 24 bytes in base64 (`openssl rand -base64 32` makes some)")
        return value

    @property
    def places_real_calls(self) -> bool:
        """Whether a dialer with these settings rings phones."""
        return self.carrier not in {None, "simulated"}

    @property
    def predial_on_this_machine(self) -> bool:
        """Whether the gate before each dial runs on this machine, by its URL."""
        return _leads_to_this_machine(self.predial_url)

    @property
    def notify_on_this_machine(self) -> bool:
        """Whether notifications go to a program on this machine, by its URL."""
        return _leads_to_this_machine(self.notify_url)

    @property
    def never_lists(self) -> tuple[Path, ...]:
        """Files that are never a list of people to call, although they lie in a folder of lists."""
        return self.do_not_call

    @property
    def stop_file(self) -> Path:
        return self.data_dir / STOP_FILE

    def database(self, file: str) -> Path | str:
        """Where a database is: the URL of the one on PostgreSQL, or this file of the data folder."""
        return self.data_dir / file if self.database_url is None else self.database_url.get_secret_value()

    def with_database(self, url: str) -> Settings:
        return self.model_copy(update={"database_url": SecretStr(url)})

    @classmethod
    def load(cls, env_file: Path | None = None) -> Settings:
        """Read the environment, and the file that BATCHCALL_ENV_FILE names, or else `env_file`.

        Raises:
            ConfigurationError: naming each variable, never its value if that may be secret.
        """
        named = os.environ.get(_ENV_FILE) or (None if env_file is None else str(env_file))
        _refuse_unknown([*os.environ, *_names_in(named)])
        try:
            return cls(_env_file=named)
        except ValidationError as error:
            raise ConfigurationError(_describe(error)) from None

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Settings:
        """Settings of these variables alone, whatever the environment holds.

        Raises:
            ConfigurationError: as `load`.
        """
        _refuse_unknown(variables)
        try:
            return _Alone.model_validate(
                {
                    name.upper().removeprefix(PREFIX).lower(): value
                    for name, value in variables.items()
                    if name.upper().startswith(PREFIX)
                }
            )
        except ValidationError as error:
            raise ConfigurationError(_describe(error)) from None


class _Alone(Settings):
    """Read from what it is given, and from nothing else."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def _leads_to_this_machine(url: str | None) -> bool:
    return url is not None and _is_this_machine(urlsplit(url).hostname or "")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def plain_environment() -> dict[str, str]:
    """This process's environment without our variables, for a program that has no business with them."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}


def own_environment() -> dict[str, str]:
    """Our variables in this process's environment, but for the one that names a file."""
    return {
        name.upper(): value
        for name, value in os.environ.items()
        if name.upper().startswith(PREFIX) and name.upper() != _ENV_FILE
    }


def settings_file() -> Path:
    """Where `batchcall-mcp init` keeps settings: the file that BATCHCALL_ENV_FILE names, or one of its own."""
    named = os.environ.get(_ENV_FILE)
    if named:
        return Path(named).expanduser().absolute()
    return Path(platformdirs.user_config_dir("batchcall-mcp", appauthor=False)) / "batchcall.env"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("starts with the home folder of an unknown user; write the full path") from None


def _names_in(env_file: str | None) -> Iterable[str]:
    if not env_file:
        return ()
    shown = env_file[:200]
    if not os.path.isfile(env_file):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        problem = f"names a file that does not exist: {shown}"
    else:
        try:
            return dotenv_values(env_file)
        except (OSError, UnicodeError):
            problem = f"names a file that cannot be read as UTF-8 text: {shown}"
    raise ConfigurationError(f"{_ENV_FILE} {problem}. Nothing was started. Correct the path or remove the variable.")


def _refuse_unknown(names: Iterable[str]) -> None:
    """A limit that is set under a name that nothing reads would be a limit that does not hold."""
    known = {PREFIX + field.upper() for field in Settings.model_fields} | {_ENV_FILE}
    unknown = sorted({name.upper() for name in names if name.upper().startswith(PREFIX)} - known)
    if unknown:
        hints = [
            name + "".join(f" (did you mean {close}?)" for close in get_close_matches(name, known, n=1))
            for name in unknown
        ]
        raise ConfigurationError(
            f"Unknown setting: {', '.join(hints)}. Nothing was started. Correct the name or remove it."
        )


def secret_problem(value: str) -> str | None:
    """Why a key or secret cannot be meant as one, or None. Never repeats the value."""
    if not value.strip():
        return "is blank; set it or remove it"
    if "${" in value:
        return "contains an unfilled ${…} placeholder, which the MCP client did not replace"
    if value != value.strip() or any(character.isspace() for character in value):
        return "contains white space; copy it again"
    if not value.isascii() or not value.isprintable():
        return "contains characters that are not allowed in an HTTP header; copy it again"
    return None


def _describe(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = "_".join(str(part) for part in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        reason = _WRITTEN_AS[field] if problem["type"] == "string_pattern_mismatch" else message
        lines.append(f"{PREFIX}{field.upper()}: {reason}")
    return "Invalid settings. " + "; ".join(lines) + ". Nothing was started."
