"""The server of `nudge studio`: the addresses of its pages, the cookies, and access control."""

import copy
import importlib
import logging
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from nicegui import app, ui
from nicegui.language import Language

from nudge.errors import ConfigError, MachineError
from nudge.studio import visit as visits
from nudge.studio import words
from nudge.studio.access import Guard, is_loopback
from nudge.studio.layout import PAGES
from nudge.studio.page import Page
from nudge.studio.visit import StudioApp
from nudge.version import __version__

_QUASAR_LANGUAGES: dict[str, Language] = {"en": "en-US", "ko": "ko-KR"}
_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The studio's address. `token`: required from browsers; None: no token is required."""

    host: str = "127.0.0.1"
    port: int = 8300
    token: str | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def serve(runs: Path, address: Address) -> None:
    """Serve the pages about the runs under `runs` until a signal ends the process.

    Raises: ConfigError for an address that other machines can reach without a token; MachineError if it is taken.
    """
    if not is_loopback(address.host) and not address.token:
        raise ConfigError("no_token", host=address.host)
    if address.token is not None and not (address.token.isascii() and address.token.isalnum()):
        raise ConfigError("bad_token")
    guard = Guard(_application(runs), host=address.host, token=address.token)
    config = uvicorn.Config(guard, address.host, address.port, log_level="warning", timeout_graceful_shutdown=2)
    # NiceGUI searches all live objects for its server, and some of PyTorch's warn when they are touched.
    warnings.filterwarnings("ignore", message=".*reduce_op.*", category=FutureWarning)
    try:
        uvicorn.Server(config).run()
    except SystemExit as error:  # uvicorn could not listen
        raise MachineError("cannot_listen", host=address.host, port=address.port) from error


def _application(runs: Path) -> FastAPI:
    logging.getLogger("nicegui").setLevel(logging.ERROR)
    studio_app = StudioApp(runs)
    for name in PAGES:
        module = importlib.import_module(f"nudge.studio.pages.{name}")
        _add_page(studio_app, name, getattr(module, f"{name.capitalize()}Page"))
    app.add_static_files("/static", str(resources.files("nudge.studio").joinpath("static")))
    ui.add_head_html(f'<link rel="stylesheet" href="/static/studio.css?v={__version__}">', shared=True)
    ui.add_head_html(f'<script src="/static/page.js?v={__version__}"></script>', shared=True)
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
        favicon=_FAVICON,
    )
    return outer


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


_FAVICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 28 28'><rect width='28' height='28' rx='8' fill='#E07A10'/>"
    "<circle cx='10' cy='18' r='4' fill='#231400'/><path d='M14.5 13.5 20 8M15.6 7.6h4.8v4.8' stroke='#231400' "
    "stroke-width='2.2' fill='none' stroke-linecap='round' stroke-linejoin='round'/></svg>"
)
