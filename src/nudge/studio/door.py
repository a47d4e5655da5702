"""The page that a browser gets before it may open the studio. It stands alone: no script but one line for the theme."""

from html import escape
from urllib.parse import quote, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse

from nudge.studio.words import Words, preferences
from nudge.version import __version__

STYLE = "/static/studio.css"  # the one file that is served to strangers
FAVICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 28 28'><rect width='28' height='28' rx='8' fill='#E07A10'/>"
    "<circle cx='10' cy='18' r='4' fill='#231400'/><path d='M14.5 13.5 20 8M15.6 7.6h4.8v4.8' stroke='#231400' "
    "stroke-width='2.2' fill='none' stroke-linecap='round' stroke-linejoin='round'/></svg>"
)
_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="same-origin">
<title>nudge studio</title>
<link rel="icon" href="data:image/svg+xml,{favicon}">
<link rel="stylesheet" href="{style}?v={version}">
{refresh}
</head>
<body class="{theme}">
<script nonce="{nonce}">if ({follows}) document.body.className = "body--dark";</script>
<header class="top"><div class="brand">{mark}<span>nudge</span></div></header>
<main class="page door"><section class="card empty">
<h1 class="ct">{title}</h1>
<p class="ink2">{hint}</p>
{form}
</section></main>
</body>
</html>
"""
# Without any referrer a browser would send the form with an Origin of "null", as if another site had made it.
_FORM = """<form method="post">
<label class="fld"><span class="l">{label}</span>
<input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button class="q-btn prim">{button}</button>
</form>"""


def page(request: HTTPConnection, key: str, status: int, *, form: bool = False, again: bool = False) -> HTMLResponse:
    """Return the page with the words `door.KEY`. `form` asks for the token; with `again` the browser asks once more."""
    language, theme = preferences(request)
    t = Words(language)
    content = _PAGE.format(
        language=language,
        favicon=quote(FAVICON),
        style=STYLE,
        version=__version__,
        refresh=f'<meta http-equiv="refresh" content="0;url={escape(here(request))}">' if again else "",
        theme="body--dark" if theme == "dark" else "",
        nonce=request.scope["nonce"],
        follows="false" if theme else "matchMedia('(prefers-color-scheme: dark)').matches",
        mark=FAVICON.replace("<svg", "<svg width='28' height='28' aria-hidden='true'"),
        title=escape(t(f"door.{key}")),
        hint=escape(t(f"door.{key}_hint", host=request.headers.get("host", "").partition(":")[0][:100])),
        form=_FORM.format(label=escape(t("door.token")), button=escape(t("door.open"))) if form else "",
    )
    return HTMLResponse(content, status)


def here(request: HTTPConnection) -> str:
    """Return the address of a request, on this server, without its one-time code."""
    rest = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "once"])
    # "//elsewhere" would be another machine, and browsers read "\\" as "/".
    path = "/" + quote(request.scope["path"].lstrip("/\\"))
    return path + (f"?{rest}" if rest else "")
