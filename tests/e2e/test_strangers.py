"""Strangers and a studio that really listens: other web sites, other users of the machine, and hostile content.

The last tests each stand for a class of known weaknesses of such servers.
"""

import base64
import contextlib
import http.client
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.e2e.conftest import Studio, failure, serving
from tests.waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from nudge.data.tokenizer import _digest
from nudge.studio.words import texts

WEBSOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
TOKEN = "team-0123456789-abcdef"
NOBODY = 65534
HOSTILE = "<img src=x onerror=hacked=1>"


def ask(
    url: str, method: str = "GET", path: str = "/train", body: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send exactly this path and these headers; return status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body.encode() if body else None)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def status(url: str, **headers: str) -> int:
    return ask(url, **headers)[0]


def enter(url: str, path: str) -> str:
    """Open an address that works once; return the cookie of the session."""
    code, headers, _ = ask(url, path=path)
    assert code == 303
    (cookie,) = SimpleCookie(headers["set-cookie"]).values()
    return f"{cookie.key}={cookie.value}"


def newest(studio: Studio) -> str:
    """The next address that the studio prints, without its host."""
    assert studio.process.stdout is not None
    for line in studio.process.stdout:
        if match := re.search(r"http://[^/]+(/\?once=\S+)", line):
            return match[1]
    pytest.fail("the studio printed no address")


@pytest.fixture(scope="module")
def locked(trained: Path) -> Iterator[Studio]:
    """A studio as `nudge studio` starts it. Each address that a test uses makes it print the next one."""
    with serving(trained, "--host", "127.0.0.1") as running:
        yield running


# The first page, and the next browser


def test_an_address_opens_one_browser(locked: Studio, browser: Browser) -> None:
    assert status(locked.url) == 401
    path = newest(locked)
    outcomes: list[int] = []
    threads = [threading.Thread(target=lambda: outcomes.append(ask(locked.url, path=path)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [303, *7 * [401]]

    for language in ("en", "ko"):  # the second use is refused, with words that help
        context = browser.new_context(locale=f"{language}-{language.upper()}", viewport={"width": 390, "height": 844})
        page = context.new_page()
        page.goto(f"{locked.url}{path}")
        expect(page.locator("h1")).to_have_text(texts(language)["door.used"])
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()


def test_the_first_page(locked: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{locked.url}{newest(locked)}")
    expect(page.locator("h1")).to_have_text(texts("en")["train.title"])
    assert "once" not in page.url
    page.get_by_role("link", name=texts("en")["nav.predict"]).click()  # the websocket has the session, too
    expect(page.locator("button.pb").first).to_be_visible()
    page.reload()
    expect(page.locator("button.pb").first).to_be_visible()
    (cookie,) = page.context.cookies()
    assert cookie["name"] == f"nudge_session_{urlsplit(locked.url).port}"
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("document.cookie") == ""


def test_a_studio_that_started_again_forgets_its_browsers(locked: Studio) -> None:
    assert status(locked.url, cookie=enter(locked.url, newest(locked))) == 307  # to the newest run
    assert status(locked.url, cookie=f"nudge_session_{urlsplit(locked.url).port}=other") == 401


def test_a_team_opens_the_studio_by_its_token(trained: Path, browser: Browser) -> None:
    with serving(trained, "--host", "0.0.0.0", NUDGE_STUDIO_TOKEN=TOKEN) as studio:
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.goto(f"{studio.url}/predict?run=small")
        page.get_by_label(texts("en")["door.token"]).fill("wrong" + TOKEN)
        page.get_by_role("button").click()
        expect(page.locator("h1")).to_have_text(texts("en")["door.wrong"])
        page.wait_for_timeout(1100)  # what the page asks for
        page.get_by_label(texts("en")["door.token"]).fill(TOKEN)
        page.get_by_role("button").click()
        expect(page.locator("button.pb").first).to_be_visible()
        assert page.url.endswith("/predict?run=small")
        context.close()


# Other web sites


def test_other_names_and_other_sites(studio: Studio) -> None:
    assert status(f"{studio.url}", host="127.0.0.1") in (200, 307)
    assert status(studio.url, origin="http://evil.example") == 403
    assert ask(studio.url, path="/static/studio.css", origin="http://evil.example")[0] == 403
    websocket = studio.url.replace("http", "ws") + WEBSOCKET
    with connect(websocket, origin=studio.url) as socket_:  # type: ignore[arg-type]
        assert str(socket_.recv(timeout=20)).startswith("0{")  # Engine.IO's greeting
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        with pytest.raises(InvalidStatus, match="403"), connect(websocket, origin=origin):  # type: ignore[arg-type]
            pass


def test_a_websocket_needs_a_session(locked: Studio) -> None:
    websocket, cookie = locked.url.replace("http", "ws") + WEBSOCKET, enter(locked.url, newest(locked))
    with pytest.raises(InvalidStatus, match="403"), connect(websocket, origin=locked.url):  # type: ignore[arg-type]
        pass
    with connect(websocket, origin=locked.url, additional_headers={"cookie": cookie}) as socket_:  # type: ignore[arg-type]
        assert str(socket_.recv(timeout=20)).startswith("0{")
    assert ask(locked.url, path=WEBSOCKET.replace("websocket", "polling"))[0] == 401


def test_a_page_of_another_user_can_use_nothing(studio: Studio, browser: Browser, tmp_path: Path) -> None:
    """A page at another port of this machine is of the same site for a browser."""
    (tmp_path / "index.html").write_text(
        f"""<iframe id="frame" src="{studio.url}/train?run=small"></iframe>
        <img src="{studio.url}/sheets/gpt2.en.svg" onload="loaded = 1"><script>
        async function tried(options) {{
          try {{ return (await fetch("{studio.url}/train?run=small", options)).type; }} catch {{ return "refused"; }}
        }}
        function socket() {{
          return new Promise((done) => {{
            const opened = new WebSocket("{studio.url.replace("http", "ws")}{WEBSOCKET}");
            opened.onopen = () => done("open"); opened.onerror = () => done("refused");
          }});
        }}
        </script>"""
    )
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    server = subprocess.Popen([*command[:1], "-u", *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    with server, browser.new_context() as context:
        try:
            port = re.search(rb"port (\d+)", server.stdout.readline())
            assert port
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{int(port[1])}/")
            assert page.evaluate("tried({credentials: 'include'})") == "refused"
            assert page.evaluate("tried({mode: 'no-cors', credentials: 'include'})") == "refused"
            assert page.evaluate("socket()") == "refused"
            assert page.evaluate("window.loaded") is None
            assert page.frames[1].url.startswith("chrome-error:")
        finally:
            server.kill()


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


# Another user of the machine


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as a home folder often is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


_AS_NOBODY = f"""
import encodings.idna, json, os, socket
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
def read(path):
    try:
        return open(path, "rb").read().decode(errors="replace")
    except OSError as error:
        return type(error).__name__
def ask(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as server:
        server.sendall(f"GET {{path}} HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n".encode())
        return int(server.recv(4096).split()[1])
def below(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
"""


def as_neighbour(expression: str) -> object:
    """The value of an expression of `_AS_NOBODY`'s functions, computed as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"{_AS_NOBODY}\nprint(json.dumps({expression}))"
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120).stdout)


def test_a_neighbour_finds_no_key(trained: Path, open_folder: Path) -> None:
    """The browser is opened as on a desktop; its arguments, files and processes are looked at by another user."""
    recorder, arguments = open_folder / "browser", open_folder / "arguments"
    recorder.write_text(f'#!/bin/sh\necho "$@" > {arguments}.new; mv {arguments}.new {arguments}\n')
    recorder.chmod(0o755)
    token = open_folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    (open_folder / "tmp").mkdir()
    desktop = {"DISPLAY": ":99", "BROWSER": str(recorder), "HOME": str(open_folder), "TMPDIR": str(open_folder / "tmp")}
    environment = {key: value for key, value in os.environ.items() if key != "SSH_CONNECTION"} | desktop
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nudge", "studio", str(trained), "--port", str(port), "--token-file", str(token)]
    ours, its = pty.openpty()
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True)
    os.close(its)
    try:
        printed = b""
        while b"once=" not in printed or not printed.endswith(b"\n"):
            printed += os.read(ours, 4096)
        path = re.search(r"(/\?once=\S+)", printed.decode())
        assert path
        code = path[1].removeprefix("/?once=")
        wait_until(arguments.exists, "the browser", timeout_s=60)
        uri = arguments.read_text().strip()
        assert uri.startswith("file://")
        file = Path(urlsplit(uri).path)
        assert code in file.read_text()
        assert as_neighbour(f"read({str(recorder)!r})") == recorder.read_text()  # other files can be read
        assert as_neighbour(f"[read({str(file)!r}), read({str(token)!r})]") == ["PermissionError", "PermissionError"]
        listed = as_neighbour(f"[read('/proc/{process.pid}/cmdline'), read({str(arguments)!r})]")
        assert isinstance(listed, list)
        assert "studio" in listed[0]
        assert not any(secret in text for secret in (code, TOKEN) for text in listed)
        assert as_neighbour(f"read('/proc/{process.pid}/environ')") == "PermissionError"
        found = as_neighbour(f"[read(path) for path in below({str(open_folder)!r})]")
        assert isinstance(found, list)
        assert len(found) >= 4
        assert not any(secret in text for secret in (code, TOKEN) for text in found)
        url = f"http://127.0.0.1:{port}"
        assert as_neighbour(f"[ask({port}, path) for path in ('/train', '/?once=x', '/sheets/gpt2.en.md')]") == 3 * [
            401
        ]
        assert file.exists()
        enter(url, path[1])
        wait_until(lambda: not file.exists(), "the end of the file", timeout_s=60)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(ours)


def test_the_file_opens_the_studio(locked: Studio, browser: Browser, open_folder: Path) -> None:
    """For a browser a file is another site, which no Strict cookie survives without a request of our own."""
    from nudge.studio.opening import _FILE

    file = open_folder / "nudge-studio.html"
    file.write_text(_FILE.format(url=f"{locked.url}{newest(locked)}"))
    with browser.new_context(locale="en-US") as context:
        page = context.new_page()
        page.goto(file.as_uri())
        expect(page.locator("h1")).to_have_text(texts("en")["train.title"])
        assert page.url.startswith(f"{locked.url}/train")


# Classes of known weaknesses


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.py", "/static/..%2faccess.py", "/static/%2e%2e/access.py", "/static/%2e%2e%2faccess.py",
        "/static/..\\access.py", "/static/..%5caccess.py", "/static/%252e%252e/access.py", "/static/....//access.py",
        "/static//etc/passwd", "/static/%00../access.py", "/static/..%c0%afaccess.py", "/static/./../access.py",
        "//etc/passwd", "/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/sheets/..%2f..%2faccess.py",
        "/sheets/..%5c..%5caccess.py", "/sheets/%2e%2e/access.py", "/sheets/run.en.md?run=../../access.py",
        "/sheets/run.en.md?run=..%5c..%5c", "/sheets/run.en.md?run=%2e%2e", "/sheets/run.en.md?run=/etc",
        "/sheets/gpt2.en.md?text=../../etc/passwd",
        *(f"/_nicegui/V/{kind}/../../../../../../etc/passwd" for kind in ("static", "libraries", "components")),
        *(f"/_nicegui/V/{kind}/x/..%2f..%2f..%2fetc/passwd" for kind in ("resources", "esm", "dynamic_resources")),
    ],
)  # fmt: skip
def test_path_traversal(studio: Studio, path: str) -> None:
    import nicegui

    code, _, body = ask(studio.url, path=path.replace("/V/", f"/{nicegui.__version__}/"))
    assert code in (400, 403, 404, 405)
    assert b"class Guard" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "user@127.0.0.1", "127.0.0.1.", "2130706433", "[::ffff:8.8.8.8]", ""],
)  # fmt: skip
def test_host_tricks(studio: Studio, host: str) -> None:
    assert status(studio.url, host=host) in (400, 403)


def test_ranges(studio: Studio) -> None:
    """A request for thousands of parts costs no more than one for the file, and another studio's bug cannot be ours."""
    _, _, whole = ask(studio.url, path="/static/studio.css")
    for ranges in (
        "bytes=0-9",
        "bytes=" + ",".join(f"{n}-" for n in range(9000)),
        "bytes=-1",
        "bytes=9-0",
        "pages=1-2",
    ):
        code, headers, body = ask(studio.url, path="/static/studio.css", range=ranges)
        assert (code, body) == (200, whole)
        assert "content-range" not in headers


def test_unbounded_sizes(studio: Studio, browser: Browser) -> None:
    digits = "9" * 5000  # more than Python reads as a number
    for long in ({"x_long": "a" * 2_000_000}, {"path": "/train?" + "a" * 2_000_000}):
        with contextlib.suppress(ConnectionError):  # it ends the connection before everything is sent
            assert ask(studio.url, **long)[0] in (400, 414, 431)
    websocket = studio.url.replace("http", "ws") + WEBSOCKET
    with connect(websocket, origin=studio.url) as socket_:  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionClosed):
            socket_.send("4" + "a" * 2_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            [socket_.recv(timeout=60) for _ in range(3)]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009  # too big
    with browser.new_context() as context:
        page = context.new_page()
        for query in (f"count={digits}", f"tokens={digits}", "tokens=1e400", f"hours={digits}", f"context={digits}",
                      f"micro_batch={digits}", f"budget={digits}", f"price={digits}"):  # fmt: skip
            page.goto(f"{studio.url}/plan?{query}")
            expect(page.locator("main .message.bad, main .wrong .message").first).to_be_visible()
            assert page.locator("[data-code='machine.bug']").count() == 0, query
        for query in (f"step={digits}", "step=-1", "step=1e9"):
            page.goto(f"{studio.url}/predict?run=small&{query}")
            expect(page.locator("h1")).to_be_visible()
            assert page.locator("[data-code='machine.bug']").count() == 0, query
        page.goto(f"{studio.url}/play?run=small")
        for name in ("Maximum tokens", "Seed"):  # a number field gives no such number, a hand-made event does
            field = page.get_by_label(name, exact=True)
            field.evaluate("field => { field.type = 'text'; }")
            field.fill("1e400")
        page.locator(".play-buttons .prim").click()
        expect(failure(page, "config.not_whole")).to_be_visible()
        page.goto(f"{studio.url}/predict?run=small")
        area = page.locator("textarea").first
        expect(area).to_be_visible()
        area.evaluate("area => area.removeAttribute('maxlength')")
        area.fill("word " * 100_000)
        expect(page.locator(".message", has_text="32").first).to_be_visible()
        assert page.locator("[data-code='machine.bug']").count() == 0


def train_hostile(trained: Path, folder: Path, run: Path) -> None:
    """A run in which every longer token is a script."""
    content = json.loads((trained / "small" / "tokenizer.json").read_text())
    for token in range(256, len(content["tokens"])):
        script = f"<script>hacked={token}</script><img src=x onerror=hacked={token}>"
        content["tokens"][token] = base64.b64encode(script.encode()).decode()
    hashed = {key: value for key, value in content.items() if key not in ("format", "name", "sha256")}
    tokenizer, text = folder / "tokenizer.json", folder / "text.txt"
    tokenizer.write_text(json.dumps(content | {"sha256": _digest(hashed)}))
    text.write_text("<script>hacked=1</script>\n" * 3000)
    sizes = ("n_layer=1", "n_head=2", "n_embd=32", "block_size=32")
    settings = [part for size in sizes for part in ("--set", f"model.{size}")]
    command = [
        sys.executable,
        "-m",
        "nudge",
        "train",
        "--data",
        str(text),
        "--tokenizer",
        str(tokenizer),
        "--steps",
        "2",
    ]
    command += [*settings, "--run", str(run)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


def test_scripts_in_what_a_model_or_a_user_wrote(
    studio: Studio, add_run: object, trained: Path, visitor: Callable[..., Page], tmp_path: Path
) -> None:
    folder = studio.runs / HOSTILE  # which `add_run` removes
    train_hostile(trained, tmp_path, folder)
    page = visitor(studio.url)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    written = quote(f"</script><script>hacked=1</script>{HOSTILE}")
    for name in ("train", "predict", "inside", "knobs", "weights", "play", "sheet"):
        said = "&what=run" if name == "sheet" else f"&text={written}"
        page.goto(f"{studio.url}/{name}?run={quote(folder.name)}{said}")
        expect(page.locator(".runchip")).to_contain_text(HOSTILE)
        if name == "sheet":
            expect(page.locator(".paper img")).to_have_attribute("src", re.compile("/sheets/run"), timeout=90_000)
        expect(page.locator("main .q-spinner:visible")).to_have_count(0)
        if name == "predict":
            expect(page.locator("button.pb", has_text="<script>hacked=").first).to_be_visible()
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
    code, headers, _ = ask(studio.url, path=f"/sheets/run.en.md?run={quote(folder.name)}")
    assert (code, headers["content-type"].partition(";")[0]) == (200, "text/markdown")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_runs_no_script_but_its_own(studio: Studio, browser: Browser) -> None:
    """Even if text became a part of a page, the browser would not run it."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{studio.url}/train?run=small")
        expect(page.locator("h1")).to_be_visible()
        page.evaluate(
            """async () => {
              document.body.insertAdjacentHTML("beforeend", '<img src=x onerror="hacked=1"><svg onload="hacked=1">');
              const script = Object.assign(document.createElement("script"), { textContent: "hacked = 1" });
              const link = Object.assign(document.createElement("a"), { href: "javascript:hacked = 1" });
              const frame = Object.assign(document.createElement("iframe"), {
                 srcdoc: "<script>top.hacked=1</script>" });
              document.body.append(script, link, frame);
              link.click();
              await fetch("http://127.0.0.1:9/").catch(() => {});
              await new Promise((done) => setTimeout(done, 500));
            }""",
        )
        assert page.evaluate("window.hacked") is None


def test_keys_are_in_no_log_and_no_file(trained: Path, open_folder: Path) -> None:
    runs, places = open_folder / "runs", {"HOME": str(open_folder), "TMPDIR": str(open_folder)}
    shutil.copytree(trained, runs, symlinks=True)
    with serving(
        runs, "--host", "127.0.0.1", NUDGE_STUDIO_TOKEN=TOKEN, NUDGE_CACHE=str(open_folder), **places
    ) as studio:
        form = {"content_type": "application/x-www-form-urlencoded"}
        code, headers, _ = ask(studio.url, "POST", body=f"token={TOKEN}", **form)
        assert code == 303
        (cookie,) = SimpleCookie(headers["set-cookie"]).values()
        wrong = "wrong-" + TOKEN[::-1]
        assert ask(studio.url, "POST", body=f"token={wrong}", **form)[0] == 401
        session = f"{cookie.key}={cookie.value}"
        for path in (
            "/train?run=small",
            "/sheets/gpt2.en.md",
            "/sheets/none",
            "/none",
            f"/none?token={TOKEN}",
            "/sheets/run.en.md?run=x",
        ):
            ask(studio.url, path=path, cookie=session)
        ask(studio.url, "PUT", path="/train", cookie=session)
        with connect(studio.url.replace("http", "ws") + WEBSOCKET, additional_headers={"cookie": session}) as socket_:
            socket_.send("4{damaged")
        studio.process.terminate()
        assert studio.process.stdout is not None
        printed = studio.process.stdout.read()
    written = [path.read_text(errors="replace") for path in open_folder.rglob("*") if path.is_file()]
    assert "once=" in printed
    assert len(written) > 5
    for secret in (TOKEN, wrong, cookie.value):
        assert secret not in printed
        assert not any(secret in text for text in written)
