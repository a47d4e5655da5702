"""Strangers stay out of the studio: other names, other sites, and requests without a session."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nudge.cli.studio import studio
from nudge.errors import ConfigError
from nudge.studio import keys as keys_module
from nudge.studio import opening
from nudge.studio.access import Guard, is_loopback
from nudge.studio.keys import N_SESSIONS, VARIABLE, Keys, read_token
from nudge.studio.server import Address, serve

TOKEN = "0123456789abcdef"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def ask(
    guard: Guard, *, kind: str = "http", method: str = "GET", path: str = "/train", query: str = "", body: str = "",
    **headers: str,
) -> dict[str, Any]:  # fmt: skip
    """The first message that comes back, with its headers as a dict."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body.encode()}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    how = {"method": method} if kind == "http" else {}
    scope = {"type": kind, **how, "path": path, "query_string": query.encode(), "headers": pairs}
    asyncio.run(guard(scope, receive, send))
    answer = sent[0]
    answer["headers"] = {name.decode(): value.decode() for name, value in answer.get("headers", ())}
    return answer


async def inner(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.accept"})
    echo = [
        (b"x-asked", b" ".join(name for name, _ in scope["headers"])),
        (b"content-type", b"text/html; charset=utf-8"),
    ]
    return await send({"type": "http.response.start", "status": 200, "headers": echo})


def locked(token: str | None = None, host: str = "127.0.0.1", names: tuple[str, ...] = ()) -> tuple[Guard, list[str]]:
    """A guard with keys, and the codes that were announced so far."""
    codes: list[str] = []
    keys = Keys(codes.append, token)
    keys.renew()
    return Guard(inner, host=host, keys=keys, names=names), codes


LOCAL = Guard(inner, host="127.0.0.1", keys=None)


# Names: a page on the internet can give its own name the address 127.0.0.1 (DNS rebinding)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8300", "localhost:8300", "localhost", "[::1]:8300", "LOCALHOST:1", "127.9.9.9"]
)
def test_this_machine_is_let_in_by_its_own_names(host: str) -> None:
    assert ask(LOCAL, host=host)["status"] == 200
    assert ask(LOCAL, kind="websocket", host=host, origin=f"http://{host}")["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8300", "", "192.168.1.7", "a b", "[::1", "::1", "[127.0.0.1", "localhost.evil",
        "127.0.0.1.evil.example", "127.0.0.1.nip.io:8300", "127.0.0.1:8300.evil.example", "127.0.0.1:8300@evil.example",
        "evil.example@127.0.0.1", "user:pass@127.0.0.1:8300", "127.0.0.1#.evil.example", "127.0.0.1/evil.example",
        "127.0.0.1\\evil.example", "127.0.0.1?evil", "127.0.0.1,evil.example", "127.0.0.1 evil.example", "127.0.0.1\t",
        "localhost.", "127.0.0.1.", "LOCALHOST.EVIL", "localhost:", "localhost:80a", "localhost:-1", "localhost:999999",
        "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "0", "0.0.0.0", "[::]", "[::ffff:192.168.1.7]",
        "[fe80::1%25lo]", "１２７.0.0.1", "ⓛocalhost", "localhost\u200b",
    ],
)  # fmt: skip
def test_host_tricks_are_refused(host: str) -> None:
    assert ask(LOCAL, host=host)["status"] == 403
    assert ask(LOCAL, kind="websocket", host=host)["type"] == "websocket.close"


def test_two_hosts_are_none() -> None:
    from starlette.datastructures import Headers

    pair = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    assert LOCAL.refusal(Headers(raw=pair)) == LOCAL.refusal(Headers(raw=pair[::-1])) == "name"


def test_a_proxy_has_a_name_of_its_own() -> None:
    host, origin = "studio.example:443", "https://studio.example:443"
    assert ask(locked(TOKEN)[0], host=host)["status"] == 403
    guard, _ = locked(TOKEN, names=("Studio.Example",))
    answer = ask(guard, method="POST", body=f"token={TOKEN}", host=host, origin=origin, **FORM)
    assert answer["status"] == 303
    assert "Secure" in answer["headers"]["set-cookie"]
    assert ask(guard, host="evil.example")["status"] == 403


# Sites: other pages in the same browser


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "http://127.0.0.1:9999", "null", "https://localhost:8300.evil.example", "", "http://[",
        "http://user@127.0.0.1:8300", "http://127.0.0.1:8300@evil.example", "http://127.0.0.1:8300/", "127.0.0.1:8300",
        "file://", "ftp://127.0.0.1:8300", "http://localhost:8300", "http://127.0.0.1:8300.", "http://127.0.0.1",
    ],
)  # fmt: skip
def test_other_sites_are_refused(origin: str) -> None:
    assert ask(LOCAL, host="127.0.0.1:8300", origin=origin)["status"] == 403
    assert ask(LOCAL, kind="websocket", host="127.0.0.1:8300", origin=origin)["type"] == "websocket.close"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])  # same-site: another port of this machine
def test_parts_of_other_sites_are_refused(site: str) -> None:
    """An image or a script has no Origin, but the browser adds whose page requested it."""

    def status(site: str, mode: str, dest: str, **more: str) -> int:
        pairs = {"host": "127.0.0.1:8300", "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
        return int(ask(LOCAL, **pairs, **more)["status"])

    assert status(site, "no-cors", "image") == 403
    assert status(site, "no-cors", "script") == 403
    assert status(site, "cors", "empty") == 403
    assert [status(site, "navigate", dest) for dest in ("iframe", "frame", "embed", "object", "")] == 5 * [403]
    assert status(site, "navigate", "document") == 200  # a link that the user follows
    assert status(site, "navigate", "document", origin="null") == 403  # a form that another page sends
    assert status("same-origin", "no-cors", "image") == 200
    assert status("none", "navigate", "document") == 200
    assert ask(LOCAL, kind="websocket", host="localhost", **{"sec-fetch-site": site})["type"] == "websocket.close"


def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    for guard, status in ((LOCAL, 200), (locked()[0], 401)):
        answer = ask(guard, host="127.0.0.1")
        headers = answer["headers"]
        assert answer["status"] == status
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src-attr"] == "'none'"
        assert "unsafe-inline" not in policy["script-src"]
    assert ask(LOCAL, host="127.0.0.1")["headers"] != ask(LOCAL, host="127.0.0.1")["headers"]  # each has its own nonce


def test_headers_that_nobody_needs_stay_outside() -> None:
    headers = ask(LOCAL, host="localhost", range="bytes=0-0,1-1", **{"x-forwarded-prefix": "/evil"})["headers"]
    assert headers["x-asked"] == "host"


# Keys


def test_a_code_works_once() -> None:
    guard, codes = locked()
    assert ask(guard, host="127.0.0.1:8300")["status"] == 401
    assert ask(guard, host="127.0.0.1:8300", query="once=wrong")["status"] == 401
    assert ask(guard, kind="websocket", host="127.0.0.1:8300", query=f"once={codes[0]}")["type"] == "websocket.close"
    assert ask(guard, method="HEAD", host="127.0.0.1:8300", query=f"once={codes[0]}")["status"] == 401
    assert len(codes) == 1  # none of these has used it up

    answer = ask(guard, host="127.0.0.1:8300", path="//elsewhere", query=f"once={codes[0]}&run=a%26b")
    assert answer["status"] == 303
    assert answer["headers"]["location"] == "/elsewhere?run=a%26b"
    cookie = SimpleCookie(answer["headers"]["set-cookie"])["nudge_session_8300"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "strict", "/", "")
    assert cookie.value not in codes
    assert len(cookie.value) >= 40

    assert ask(guard, host="127.0.0.1:8300", query=f"once={codes[0]}")["status"] == 401
    assert ask(guard, host="127.0.0.1:8300", query=f"once={codes[1]}")["status"] == 303  # the next one was announced
    ours = f"nudge_session_8300={cookie.value}"
    assert ask(guard, host="127.0.0.1:8300", cookie=ours)["status"] == 200
    assert ask(guard, host="127.0.0.1:8300", cookie=ours, query="once=old")["headers"]["location"] == "/train"
    assert ask(guard, kind="websocket", host="127.0.0.1:8300", cookie=ours)["type"] == "websocket.accept"
    assert ask(guard, host="evil.example", cookie=ours)["status"] == 403
    assert ask(guard, host="127.0.0.1:8300", cookie=f"nudge_session_8300={codes[2]}")["status"] == 401
    assert ask(guard, host="127.0.0.1:9000", cookie=ours)["status"] == 401  # another studio's name, by its port


def test_a_code_before_the_studio_listens_is_none() -> None:
    assert Keys(lambda code: None).use_code("") is None


def test_a_link_elsewhere_is_asked_once_more() -> None:
    """A browser leaves a Strict cookie out when another site's page leads here."""
    guard, _ = locked()
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert ask(guard, host="127.0.0.1", **link)["status"] == 200
    assert ask(guard, host="127.0.0.1", **link | {"sec-fetch-site": "same-origin"})["status"] == 401


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/train", "/train"),
        ("//evil.example", "/evil.example"),
        ("/\\evil.example", "/evil.example"),
        ("\\/\\evil.example", "/evil.example"),
        ("/a\r\nset-cookie: b=c", "/a%0D%0Aset-cookie%3A%20b%3Dc"),
        ("/\t/evil.example", "/%09/evil.example"),
        ("/글?#", "/%EA%B8%80%3F%23"),
    ],
)
def test_the_code_leads_nowhere_else(path: str, place: str) -> None:
    guard, codes = locked()
    assert ask(guard, host="127.0.0.1", path=path, query=f"once={codes[0]}")["headers"]["location"] == place


def test_a_token_opens_from_a_form_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: now[0])
    guard, _ = locked(TOKEN)

    def post(body: str, **headers: str) -> int:
        return int(ask(guard, method="POST", body=body, host="127.0.0.1:8300", **{**FORM, **headers})["status"])

    assert ask(guard, host="127.0.0.1:8300", query=f"token={TOKEN}")["status"] == 401  # addresses are kept and logged
    assert ask(guard, host="127.0.0.1:8300", cookie=f"nudge_session_8300={TOKEN}")["status"] == 401
    assert post(f"token={TOKEN}") == 303
    assert post(f"token={TOKEN}", origin="http://evil.example") == 403
    assert post(f"token={TOKEN}", **{"content-type": "text/plain"}) == 401
    for wrong in ("", "token=", f"token={TOKEN}0", f"token={TOKEN[:-1]}", f"token={TOKEN}&" + "x" * 5000, "token=%FF"):
        assert post(wrong) == 401
        assert post(f"token={TOKEN}") == 429  # nobody can try many in a short time
        now[0] += 1.1
    assert post(f"token={TOKEN}") == 303
    assert ask(locked()[0], method="POST", body="token=", host="127.0.0.1:8300", **FORM)["status"] == 401


def test_sessions_are_bounded() -> None:
    keys = Keys(lambda code: None, TOKEN)
    sessions = [keys.use_token(TOKEN) or "" for _ in range(N_SESSIONS + 1)]
    assert [keys.knows(sessions[at]) for at in (0, 1, -1)] == [False, True, True]
    assert not keys.knows("")


# The token of a team


def private(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as error:
        call()
    return error.value.code


def test_a_token_comes_from_a_private_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token(None) is None
    assert read_token(private(tmp_path / "token", f"{TOKEN}\n")) == TOKEN
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    assert VARIABLE not in os.environ  # which the runs inherit
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert refusal(lambda: read_token(tmp_path / "token")) == "config.exclusive_options"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "token", TOKEN, mode)
    assert refusal(lambda: read_token(file)) == "config.token_file_not_private"


def test_a_token_file_that_is_no_file(tmp_path: Path) -> None:
    assert refusal(lambda: read_token(tmp_path / "none")) == "config.token_file_unreadable"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(lambda: read_token(tmp_path / "pipe")) == "config.token_file_not_private"
    assert refusal(lambda: read_token(tmp_path)) in ("config.token_file_not_private", "config.token_file_unreadable")


def test_a_token_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    file = private(tmp_path / "token", TOKEN)
    os.chown(file, 65534, 65534)
    assert refusal(lambda: read_token(file)) == "config.token_file_not_private"


@pytest.mark.parametrize(
    "token", [
        "", "a", TOKEN[:-1], "a" * 40, "abababababababab", f"{TOKEN} {TOKEN}", f"{TOKEN}\n{TOKEN}", f"é{TOKEN}",
        2000 * "a" + TOKEN,
    ],
)  # fmt: skip
def test_a_token_that_is_easy_to_guess_is_refused(tmp_path: Path, token: str) -> None:
    file = private(tmp_path / "token", token)
    assert refusal(lambda: read_token(file)) == "config.weak_token"


def test_without_a_token_only_this_machine() -> None:
    assert refusal(lambda: serve(Path("runs"), Address(host="0.0.0.0"), say=print, is_open=True)) == "config.no_token"


def test_no_secret_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(studio, ["--token", TOKEN])
    assert result.exit_code == 2
    assert "--token-file" in result.output
    monkeypatch.setenv(VARIABLE, TOKEN)
    result = CliRunner().invoke(studio, ["--no-token"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.code == "config.exclusive_options"


# Opening


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address(), "http://127.0.0.1:8300/"),
        (Address(host="::1", port=1), "http://[::1]:1/"),
        (Address(host="0.0.0.0"), f"http://{socket.gethostname()}:8300/"),
    ],
)
def test_the_printed_address(address: Address, url: str) -> None:
    assert address.url == url


def test_the_file_for_the_browser_is_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    old = os.umask(0)
    try:
        file = opening._private_file("secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.parent == tmp_path


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("pc", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
