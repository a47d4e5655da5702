"""Downloads from a server of this machine that cuts, hangs, refuses, redirects and sends other bytes."""

import hashlib
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.refusals import refused
from tests.waiting import wait_until
from tests.web import (
    Answer,
    Handler,
    Site,
    closed_port,
    endless,
    http_date,
    ranged,
    serving,
    silent,
    stalled,
    status,
    whole,
)

from nudge.util import download as downloads
from nudge.util.download import MOST_REDIRECTS, WAITS_S, RemoteFile, download

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
CUT = 98_304  # a whole number of the pieces that the client reads


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited between tries, which take no time here."""
    waited: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waited.append)
    return waited


def remote(url: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(url=url, n_bytes=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")


def got(site: Site, folder: Path) -> list[int]:
    """Download to folder/text.txt, check the bytes, and return the progress."""
    path = folder / "text.txt"
    progress = list(download(remote(site.url), path))
    assert path.read_bytes() == CONTENT
    assert [inner.name for inner in folder.iterdir()] == ["text.txt"]
    assert progress[-1] == len(CONTENT)
    return progress


def fails(code: str, site: Site, folder: Path, **values: object) -> str:
    """Expect an error; nothing may be left. Return its reason."""
    with refused(code, url=site.url, **values) as caught:
        list(download(remote(site.url), folder / "text.txt"))
    assert not list(folder.iterdir())
    return str(caught.value.values.get("error") or caught.value.values.get("found"))


def test_a_file_is_downloaded_in_pieces(tmp_path: Path):
    with serving(whole(CONTENT)) as site:
        progress = got(site, tmp_path)
    assert progress == sorted(progress)
    assert len(progress) > 3
    assert len(site.requests) == 1
    assert site.requests[0]["accept-encoding"] == "identity"
    assert "range" not in site.requests[0]


@pytest.mark.parametrize("digest", ["sha256", "git"])
def test_a_copy_is_recognized(tmp_path: Path, digest: str):
    path = tmp_path / "text.txt"
    path.write_bytes(CONTENT)
    found = remote("")
    if digest == "git":
        blob = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True)
        found = RemoteFile(url="", n_bytes=len(CONTENT), digest=f"git:{blob.stdout.strip()}")
    assert found.is_at(path)
    for other in (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT[:-1], CONTENT + b"a"):
        path.write_bytes(other)
        assert not found.is_at(path)
    assert not found.is_at(tmp_path)
    assert not found.is_at(tmp_path / "missing")


def test_a_cut_connection_goes_on_where_it_stopped(tmp_path: Path, waits: list[float]):
    with serving(ranged(CONTENT, '"a"', sent=CUT), ranged(CONTENT, '"a"', sent=CUT), ranged(CONTENT, '"a"')) as site:
        progress = got(site, tmp_path)
    assert [request.get("range") for request in site.requests] == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert {request.get("if-range") for request in site.requests[1:]} == {'"a"'}
    assert progress == sorted(progress)
    assert waits == list(WAITS_S[:2])


def test_a_date_is_as_good_as_a_tag(tmp_path: Path):
    date = http_date(1e9)
    with serving(whole(CONTENT, sent=CUT, Last_Modified=date), ranged(CONTENT, date)) as site:
        got(site, tmp_path)
    assert site.requests[1]["if-range"] == date
    assert site.requests[1]["range"] == f"bytes={CUT}-"


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"a"'}, {"ETag": '"a"', "Content_Encoding": "x-none"}])
def test_without_a_sure_mark_it_starts_again(tmp_path: Path, headers: dict[str, str]):
    with serving(whole(CONTENT, sent=CUT, **headers), ranged(CONTENT, '"a"')) as site:
        got(site, tmp_path)
    assert "range" not in site.requests[1]


def part_of_other(place: str) -> Answer:
    """As many bytes as are missing, but from another place."""

    def answer(handler: Handler) -> None:
        named = {"Content_Range": place} if place else {}
        handler.head(206, ETag='"a"', Content_Length=len(OTHER) - CUT, **named)
        handler.wfile.write(OTHER[:-CUT])

    return answer


def never_a_part(handler: Handler) -> None:
    (status(416) if "Range" in handler.headers else whole(CONTENT))(handler)


STRANGE: dict[str, list[Answer]] = {
    "ranges are ignored": [whole(CONTENT, ETag='"a"')],
    "it has changed": [ranged(CONTENT, '"b"')],
    "it has changed, and the server does not care": [ranged(CONTENT, '"b"', honest=False)],
    "another part": [part_of_other(f"bytes 0-{len(OTHER) - CUT - 1}/{len(OTHER)}"), whole(CONTENT)],
    "a part that is not named": [part_of_other(""), whole(CONTENT)],
    "no such part": len(WAITS_S) * [never_a_part],
}


@pytest.mark.parametrize("rest", STRANGE.values(), ids=STRANGE)
def test_bytes_of_two_files_are_never_mixed(tmp_path: Path, rest: list[Answer]):
    """The first bytes are another file's; whatever the server does then, none of them may stay."""
    with serving(whole(OTHER, sent=CUT, ETag='"a"'), *rest, ranged(CONTENT, '"b"')) as site:
        got(site, tmp_path)
    assert site.requests[1]["range"] == f"bytes={CUT}-"


def test_the_length_need_not_be_told(tmp_path: Path):
    with serving(whole(CONTENT, length=False)) as site:
        got(site, tmp_path)
    with serving(whole(CONTENT, length=False, sent=CUT, ETag='"a"'), ranged(CONTENT, '"a"')) as site:
        (tmp_path / "text.txt").unlink()
        got(site, tmp_path)
    assert site.requests[1]["range"] == f"bytes={CUT}-"


def test_a_packed_answer_is_unpacked(tmp_path: Path):
    import gzip

    with serving(whole(gzip.compress(CONTENT), Content_Encoding="gzip", ETag='"a"')) as site:
        got(site, tmp_path)


def test_other_bytes_are_refused(tmp_path: Path):
    with serving(whole(OTHER)) as site:
        assert fails("data.wrong_download", site, tmp_path) == "another content"
    assert len(site.requests) == 1


@pytest.mark.parametrize("content", [CONTENT + b"a", CONTENT[:-1], b"<p>Sign in to this network first</p>"])
def test_another_length_is_refused_at_once(tmp_path: Path, content: bytes):
    with serving(whole(content)) as site:
        assert fails("data.wrong_download", site, tmp_path) == f"{len(content):,} bytes"
    assert len(site.requests) == 1


@pytest.mark.parametrize("answer", [whole(CONTENT + b"a", length=False), endless])
def test_more_bytes_than_expected_are_not_read(tmp_path: Path, answer: Answer):
    with serving(answer) as site:
        assert fails("data.wrong_download", site, tmp_path) == "more than 300,000 bytes"
        assert len(site.requests) == 1
        if answer is endless:
            wait_until(lambda: "end" in site.requests[0], "the client goes away")


def test_a_file_that_ends_too_soon_is_refused(tmp_path: Path):
    with serving(whole(CONTENT[:-1], length=False)) as site:
        reason = fails("machine.download_failed", site, tmp_path)
    assert reason == "it ended after 299,999 of 300,000 bytes"
    assert len(site.requests) == 1 + len(WAITS_S)


def test_it_is_redirected_also_to_another_host(tmp_path: Path):
    with serving(whole(CONTENT)) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with serving(status(301, Location="/moved"), status(307, Location=elsewhere)) as site:
            got(site, tmp_path)
    assert [request["path"] for request in site.requests] == ["/text.txt", "/moved"]
    assert other.requests[0]["host"].startswith("localhost:")


def test_a_redirect_is_resumed_where_it_leads(tmp_path: Path):
    with (
        serving(ranged(CONTENT, '"a"', sent=CUT), ranged(CONTENT, '"a"')) as other,
        serving(status(302, Location=other.url)) as site,
    ):
        got(site, tmp_path)
    assert len(site.requests) == len(other.requests) == 2
    assert other.requests[1]["range"] == f"bytes={CUT}-"


def test_redirects_end(tmp_path: Path):
    with serving(status(302, Location="/text.txt")) as site:
        assert "more than 5 times" in fails("machine.download_failed", site, tmp_path)
    assert len(site.requests) == MOST_REDIRECTS + 1


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a", "file:///etc/hostname", "http://", "data:text/plain,a"])
def test_no_redirect_leaves_the_web(tmp_path: Path, target: str):
    with serving(status(302, Location=target)) as site:
        fails("machine.download_failed", site, tmp_path)


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key with a certificate that requests trusts."""
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nudge"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "certificate.pem"))
    return both


def test_a_secure_connection_stays_one(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(whole(CONTENT)) as plain, serving(whole(CONTENT), certificate=certificate) as secure:
        with serving(status(302, Location=plain.url), certificate=certificate) as site:
            assert "from https to http" in fails("machine.download_failed", site, tmp_path)
        assert not plain.requests
        for own in (certificate, None):
            with serving(status(302, Location=secure.url), certificate=own) as site:
                got(site, tmp_path)
            (tmp_path / "text.txt").unlink()
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert "SSLError" in fails("machine.download_failed", secure, tmp_path)


@pytest.mark.parametrize("number", [400, 403, 404, 410, 204, 304])
def test_a_refusal_is_not_asked_about_again(tmp_path: Path, number: int):
    with serving(status(number)) as site:
        assert str(number) in fails("machine.download_failed", site, tmp_path)
    assert len(site.requests) == 1


def test_a_server_may_ask_to_wait(tmp_path: Path, waits: list[float]):
    later = http_date(time.time() + 30)
    busy = [status(429, Retry_After="7"), status(503, Retry_After=later), status(503), status(502, Retry_After="soon")]
    with serving(*busy, whole(CONTENT)) as site:
        got(site, tmp_path)
    assert waits[0] == 7
    assert 20 < waits[1] <= 30
    assert waits[2:] == list(WAITS_S[2:4])


def test_a_long_wait_is_the_users_choice(tmp_path: Path, waits: list[float]):
    with serving(status(503, Retry_After=3600)) as site:
        assert "503" in (reason := fails("machine.download_failed", site, tmp_path))
    assert "asks to wait for 3,600 seconds" in reason
    assert not waits
    assert len(site.requests) == 1


def test_it_gives_up(tmp_path: Path, waits: list[float]):
    with serving(status(503)) as site:
        assert "503" in fails("machine.download_failed", site, tmp_path)
    assert len(site.requests) == 1 + len(WAITS_S)
    assert waits == list(WAITS_S)
    with serving(whole(CONTENT, sent=CUT)) as site:
        reason = fails("machine.download_failed", site, tmp_path)
    assert reason == "the connection broke after 98,304 of 300,000 bytes"
    assert len(site.requests) == 1 + len(WAITS_S)


def test_a_server_that_says_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.2)
    with serving(silent) as site:
        assert fails("machine.download_failed", site, tmp_path) == "no answer within 0.2 seconds"
    with serving(stalled(CONTENT, CUT, ETag='"a"'), ranged(CONTENT, '"a"')) as site:
        got(site, tmp_path)
    assert site.requests[1]["range"] == f"bytes={CUT}-"


def test_without_a_network_it_says_so_at_once(tmp_path: Path, waits: list[float]):
    site = Site(f"http://127.0.0.1:{closed_port()}/text.txt")
    assert fails("machine.download_failed", site, tmp_path) == "no connection"
    assert not waits


def test_a_full_disk_is_one_line(tmp_path: Path):
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(whole(CONTENT)) as site:
        # No file of this process grows beyond the limit: to a program this is what a full disk is.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with refused("machine.not_written", path=tmp_path / "text.txt"):
                list(download(remote(site.url), tmp_path / "text.txt"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_download_that_is_left_leaves_nothing(tmp_path: Path):
    with serving(whole(CONTENT)) as site:
        progress = download(remote(site.url), tmp_path / "text.txt")
        assert next(progress) > 0
        assert len(list(tmp_path.iterdir())) == 1
        progress.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
