"""Webhooks never go to an address that is not public, however it is spelt, and to none that was not judged."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.settings import Settings
from batchcall_mcp.signed_http.url_policy import NotAllowed, WebhookAddresses, is_public, shown

PUBLIC = "93.184.216.34"


def answering(*addresses: str) -> WebhookAddresses:
    return WebhookAddresses(resolve=lambda _host, _port: addresses)


def literal(host: str, _port: int) -> list[str]:
    """What a resolver makes of an address, in any spelling that C knows."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        return [socket.inet_ntoa(socket.inet_aton(host))]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fec0::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "127.0.0.1%2f.example.com",
    ],
)
def test_no_spelling_of_a_private_address_is_let_through(host: str) -> None:
    with pytest.raises(NotAllowed, match=r"^url: .* Nothing was changed\.$"):
        WebhookAddresses(resolve=literal).destination(f"https://{host}/hook")


@pytest.mark.parametrize("host", ["134744072", "0x08080808", "010.8.8.8", "8.8.2056"])
def test_a_public_address_in_an_odd_spelling_is_refused_too(host: str) -> None:
    """Programs differ in which address it is."""
    with pytest.raises(NotAllowed):
        WebhookAddresses(resolve=literal).destination(f"https://{host}/hook")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "a.localhost"])
def test_a_name_of_this_machine_is_refused_whatever_it_resolves_to(host: str) -> None:
    with pytest.raises(NotAllowed, match="this machine"):
        answering(PUBLIC).destination(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "must begin with https"),
        ("ftp://example.com/", "must begin with https"),
        ("//example.com/", "must begin with https"),
        ("https://user:s3cr3t@example.com/", "user name or a password"),
        ("https://s3cr3t@example.com/", "user name or a password"),
        (r"https://example.com\@10.0.0.1/", "user name or a password"),
        ("https:///s3cr3t", "its host is neither"),
        ("https://exa mple.com/s3cr3t", "its host is neither"),
        ("https://example.com:0/", "its port"),
        ("https://example.com:70000/", "its port"),
        ("https://example.com/\n", "is not a URL"),
    ],
)
def test_all_but_a_plain_https_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(NotAllowed, match=reason) as caught:
        answering(PUBLIC).destination(url)
    assert "s3cr3t" not in str(caught.value)


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(NotAllowed, match="BATCHCALL_WEBHOOKS_TO_PRIVATE_ADDRESSES"):
        answering(PUBLIC, "10.0.0.7").destination("https://example.com/")


def test_a_name_without_an_address_is_refused() -> None:
    def nowhere(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(NotAllowed, match="no address"):
        WebhookAddresses(resolve=nowhere).destination("https://example.com/")


def test_the_addresses_that_were_judged_are_those_to_connect_to() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return [PUBLIC, "2606:2800:220:1::1"]

    to = WebhookAddresses(resolve=resolve).destination("https://Bücher.example:8443/hook?token=1")
    assert to.addresses == (PUBLIC, "2606:2800:220:1::1")
    assert asked == [("xn--bcher-kva.example", 8443)]


def test_where_private_addresses_are_allowed_they_may_be_spoken_to_over_http_and_public_ones_not() -> None:
    allowed = WebhookAddresses(allow_private=True, resolve=literal)
    assert allowed.destination("http://127.0.0.1:9/").addresses == ("127.0.0.1",)
    assert allowed.destination("https://10.0.0.1/").addresses == ("10.0.0.1",)
    with pytest.raises(NotAllowed, match="https"):
        allowed.destination(f"http://{PUBLIC}/")


def test_the_setting_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not WebhookAddresses.of(Settings.load()).allow_private
    monkeypatch.setenv("BATCHCALL_WEBHOOKS_TO_PRIVATE_ADDRESSES", "true")
    assert WebhookAddresses.of(Settings.load()).allow_private


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_inside_ipv6(address: object) -> None:
    inner = ip_address(str(address))
    assert is_public(ip_address(f"::ffff:{inner}")) == is_public(ip_address(f"64:ff9b::{inner}")) == is_public(inner)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_public_addresses_are_let_through(address: str) -> None:
    assert answering(address).destination("https://example.com/").addresses == (address,)


def test_logs_show_scheme_and_host_alone() -> None:
    assert shown("https://example.com:8443/t0ken?key=s3cr3t#x") == "https://example.com"
