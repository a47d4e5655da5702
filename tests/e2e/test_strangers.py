"""Strangers and a studio that really listens: other names, other sites, and requests without the token."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

WEBSOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_other_names_and_other_sites(studio: Studio) -> None:
    url = f"{studio.url}/train"
    assert status(url) == 200
    assert status(url, Host="evil.example") == 403
    assert status(url, Origin="http://evil.example") == 403
    assert status(f"{studio.url}/static/studio.css", Origin="http://evil.example") == 403
    websocket = studio.url.replace("http", "ws") + WEBSOCKET
    with connect(websocket, origin=studio.url) as socket_:  # type: ignore[arg-type]
        assert str(socket_.recv(timeout=20)).startswith("0{")  # Engine.IO's greeting
    with pytest.raises(InvalidStatus, match="403"), connect(websocket, origin="http://evil.example"):  # type: ignore[arg-type]
        pass


def test_only_this_machine_by_default(studio: Studio) -> None:
    port = int(studio.url.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only finds the address that others would see
        except OSError:
            pytest.skip("this machine has no address but its own")
        address = probe.getsockname()[0]
    with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
        pass


def test_a_reachable_address_asks_for_its_token(trained: Path, visitor: Callable[..., Page]) -> None:
    with serving(trained, "--host", "0.0.0.0", "--token", "secret1") as studio:
        assert status(f"{studio.url}/train") == 401
        assert status(f"{studio.url}/train?token=wrong") == 401
        assert status(f"{studio.url}/sheets/gpt2.ko.md") == 401
        with pytest.raises(InvalidStatus), connect(studio.url.replace("http", "ws") + WEBSOCKET):
            pass
        page = visitor(f"{studio.url}/predict?run=small&token=secret1")
        expect(page.locator("button.pb").first).to_be_visible()
        assert "secret1" not in page.url
        page.reload()
        expect(page.locator("button.pb").first).to_be_visible()
