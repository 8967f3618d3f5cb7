"""Where webhooks may go: never to an address that is not public, unless the operator allows it.

Each client with a key chooses a URL, and this process may reach what clients cannot: other programs of this machine,
the network it stands in, a cloud's metadata service. So the host's addresses are judged, all of them, and what is
judged is what is connected to: a name that is looked up twice can answer differently the second time (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx2

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.settings import Settings

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""All addresses of a host and port, as text. Blocks. Raises OSError: there are none, or nobody knows."""
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL: Final = 2_000
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PRIVATE: Final = (
    "its host is, or may be, this machine or in a private network; the operator may allow that with "
    "BATCHCALL_WEBHOOKS_TO_PRIVATE_ADDRESSES"
)


class NotAllowed(InvalidInput):
    """No webhook may be sent there. `reason` continues "url: …" and repeats nothing of the URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"url: {reason}. Nothing was changed.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL with the addresses to connect to, best first. Its TLS name and its Host header stay those of the URL."""

    url: httpx2.URL
    addresses: tuple[str, ...]


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver, which waits as long as the machine's settings say.

    Raises:
        OSError: it knows no address.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class WebhookAddresses:
    """Judges URLs, at registration and again at each delivery.

    `allow_private`: also to addresses that are not public, and to those over http too.
    """

    allow_private: bool = False
    resolve: Resolve = resolve

    @classmethod
    def of(cls, settings: Settings) -> WebhookAddresses:
        """As the operator's settings have it."""
        return cls(allow_private=settings.webhooks_to_private_addresses)

    def destination(self, url: str) -> Destination:
        """Look the host up and judge every address it has. Blocks.

        Raises:
            NotAllowed: saying why.
        """
        read = _read(url)
        host = read.raw_host.decode("ascii").rstrip(".")
        if not self.allow_private and (read.scheme != "https" or f".{host}".endswith(".localhost")):
            raise NotAllowed("must begin with https://" if read.scheme != "https" else _PRIVATE)
        try:
            port = read.port or (443 if read.scheme == "https" else 80)
            found = [ipaddress.ip_address(one) for one in self.resolve(host, port)]
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise NotAllowed("its host name has no address at the moment")
        public = [is_public(address) for address in found]
        if not self.allow_private and not all(public):
            raise NotAllowed(_PRIVATE)
        if read.scheme == "http" and any(public):
            raise NotAllowed("must begin with https://: its host is not in a private network")
        return Destination(read, tuple(str(address) for address in found))


def is_public(address: _Address) -> bool:
    """Whether an address can only be somebody's on the public internet.

    `ipaddress.is_global` alone says so of multicast, of site-local addresses, and of IPv6 addresses by which an IPv4
    address of any kind is reached.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def shown(url: str) -> str:
    """Scheme and host of a URL that was registered, for logs: the rest may hold a token."""
    read = httpx2.URL(url)
    return f"{read.scheme}://{read.host}"


def _read(url: str) -> httpx2.URL:
    try:
        read = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        raise NotAllowed("is not a URL") from None
    if read.scheme not in {"https", "http"}:
        raise NotAllowed("must begin with https://")
    if read.userinfo:
        raise NotAllowed("holds a user name or a password; the signature says who sends")
    if read.port is not None and not 0 < read.port < 2**16:
        raise NotAllowed("its port is not one from 1 to 65535")
    if not _is_host(read.raw_host.decode("ascii")):
        raise NotAllowed("its host is neither a name nor an address as addresses are usually written")
    return read


def _is_host(host: str) -> bool:
    """No shortened, octal, hexadecimal or whole-number address: programs differ in what they make of one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return _HOST.fullmatch(host) is not None and _NUMBER.fullmatch(last) is None
    return "%" not in host
