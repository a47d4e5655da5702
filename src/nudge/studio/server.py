"""The server of `nudge studio`: the addresses of its pages, the cookies, and access control."""

import copy
import importlib
import logging
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from jinja2 import DictLoader
from nicegui import app, ui
from nicegui.client import templates
from nicegui.language import Language

from nudge.errors import ConfigError, MachineError
from nudge.studio import visit as visits
from nudge.studio import words
from nudge.studio.access import Guard, is_loopback
from nudge.studio.door import FAVICON, STYLE
from nudge.studio.keys import Keys
from nudge.studio.layout import PAGES
from nudge.studio.opening import Opening
from nudge.studio.page import Page
from nudge.studio.visit import StudioApp
from nudge.version import __version__

_QUASAR_LANGUAGES: dict[str, Language] = {"en": "en-US", "ko": "ko-KR"}
_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the studio listens, and the `names` by which a proxy reaches it."""

    host: str = "127.0.0.1"
    port: int = 8300
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


def serve(
    runs: Path, address: Address, *, say: Callable[[str], None], token: str | None = None, is_open: bool = False
) -> None:
    """Serve the pages about the runs under `runs` until a signal ends the process.

    A browser enters by the one-time address that `say` prints, or by `token`. `is_open` lets in everyone without.

    Raises: ConfigError for an address that other machines can reach without a key; MachineError if it is taken.
    """
    if is_open and not is_loopback(address.host):
        raise ConfigError("no_token", host=address.host)
    opening = Opening(address.url, say)
    keys = None if is_open else Keys(opening.show, token)
    guard = Guard(_application(runs), host=address.host, keys=keys, names=address.names)
    config = uvicorn.Config(
        guard,
        address.host,
        address.port,
        http="h11",  # which limits how long a request may become
        ws_max_size=1_000_000,
        proxy_headers=False,  # any user of this machine could send them
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    # NiceGUI searches all live objects for its server, and some of PyTorch's warn when they are touched.
    warnings.filterwarnings("ignore", message=".*reduce_op.*", category=FutureWarning)
    try:
        _Server(config, keys.renew if keys else opening.show_open).run()
    except SystemExit as error:  # uvicorn could not listen
        raise MachineError("cannot_listen", host=address.host, port=address.port) from error
    finally:
        opening.close()


class _Server(uvicorn.Server):
    """A server that calls `ready` when it listens: an address that is shown earlier could be opened in vain."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


def _application(runs: Path) -> FastAPI:
    logging.getLogger("nicegui").setLevel(logging.ERROR)
    studio_app = StudioApp(runs)
    for name in PAGES:
        module = importlib.import_module(f"nudge.studio.pages.{name}")
        _add_page(studio_app, name, getattr(module, f"{name.capitalize()}Page"))
    app.add_static_files("/static", str(resources.files("nudge.studio").joinpath("static")))
    ui.add_head_html(f'<link rel="stylesheet" href="{STYLE}?v={__version__}">', shared=True)
    ui.add_head_html(f'<script src="/static/page.js?v={__version__}"></script>', shared=True)
    _mark_scripts()
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.get("/")(lambda: RedirectResponse("/train"))
    outer.get("/set")(_remember)
    outer.get("/sheets/{file}")(studio_app.sheets.answer)
    ui.run_with(
        outer,
        title="nudge studio",
        tailwind=False,
        binding_refresh_interval=None,  # nothing is bound: an idle page costs nothing
        reconnect_timeout=30,
        show_welcome_message=False,
        favicon=FAVICON,
    )
    return outer


def _mark_scripts() -> None:
    """Give the scripts that NiceGUI writes into a page the nonce of its request: no other script in it may run."""
    loader = templates.env.loader
    assert loader is not None
    source, *_ = loader.get_source(templates.env, "index.html")
    marked = source.replace("<script", '<script nonce="{{ request.scope.nonce }}"')
    templates.env.loader = DictLoader({"index.html": marked})


def _add_page(studio_app: StudioApp, name: str, page: type[Page]) -> None:
    async def show(request: Request) -> Response | None:
        visit = visits.visit_from(studio_app, name, request)
        if visit.run is None and (newest := studio_app.models.folders()):
            return RedirectResponse(f"/{name}?{urlencode({**visit.query, 'run': newest[0].name})}")
        client = ui.context.client
        client.page = copy.copy(client.page)  # NiceGUI shares it among all visits
        client.page.language = _QUASAR_LANGUAGES[visit.language]
        client.page.dark = {"dark": True, "light": False}.get(visit.theme)  # None: as the browser is
        ui.page_title(f"{visit.t(f'nav.{name}')} · nudge")
        page(visit)
        return None

    ui.page(f"/{name}")(show)


def _remember(request: Request, back: str = "/", language: str = "", theme: str = "") -> Response:
    """Store a choice in the browser and go back to the page."""
    place = "/" + back.lstrip("/\\")  # always on this server
    response = RedirectResponse(place, status_code=303)
    for key, value, known in (("language", language, words.LANGUAGES), ("theme", theme, ("light", "dark"))):
        if value in known:
            response.set_cookie(f"nudge_{key}", value, max_age=_YEAR_S, httponly=True, samesite="lax")
    return response
