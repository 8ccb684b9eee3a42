"""Guard: what every request to the page has to be, and what every answer says to the browser.

A page that is open in the same browser must neither read this one nor act through it (other origins, DNS rebinding,
frames), a stranger in the network needs a token, and whatever is shown runs no script but the page's own.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files, and nothing from elsewhere."""
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-same-origin allow-top-navigation-by-user-activation"
)
"""The same for a report and for figures, whose style stands within them; no script runs there at all."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
FORM, IMAGE = 64 * 2**10, 16 * 2**20
"""Bytes that a form, and an image to be predicted, may have."""


@dataclass(frozen=True)
class Rules:
    """Where the page listens, the token that it asks for (empty: none), and whether it starts and stops nothing."""

    host: str
    port: int
    token: str = ""
    read_only: bool = False

    @property
    def cookie(self) -> str:
        """The name of the cookie that holds the token; two pages on one machine have one each."""
        return f"residuum-{self.port}"


def is_loopback(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    return host in LOOPBACK


def guarded(app: App, rules: Rules) -> App:
    """An application behind the rules: what is refused never reaches it."""

    async def guard(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the life of the server; sockets of other kinds are not opened
            await app(scope, receive, send)
            return
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = _refused(scope["method"], scope["path"], headers, rules)
        if refused is not None:
            await _answer(send, *refused)
            return
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=50)).get("token", "")
        if rules.token:
            if scope["method"] == "GET" and _equal(given, rules.token):
                await _answer(send, 303, "", _admitted(scope, rules))
                return
            if not _equal(_cookie(headers.get("cookie", ""), rules.cookie), rules.token):
                await _answer(send, 403, "This page needs its token: open the address that `residuum serve` printed.")
                return
        await app(scope, receive, _with_headers(send))

    return guard


def _refused(method: str, path: str, headers: dict[str, str], rules: Rules) -> tuple[int, str] | None:
    """The status and the reason with which a request is refused by its head; None if it is not."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if rules.token == "" or is_loopback(rules.host):
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in LOOPBACK:
            return 403, "This page answers to 127.0.0.1 and localhost only."
    if origin is not None and (not host or urlsplit_netloc(origin) != host):
        return 403, "Requests of other pages are refused."
    site, navigates = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode") == "navigate"
    if site not in ("none", "same-origin") and not (navigates and method == "GET"):
        return 403, "Requests of other pages are refused."
    if method not in ("GET", "POST", "PUT"):
        return 405, "GET, POST and PUT are answered."
    if method == "GET":
        return None
    is_image = method == "PUT" and path.endswith("/predict")
    if rules.read_only and not is_image:
        return 403, "This page is read-only: it starts and stops nothing."
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return 411, "The length of what is sent is missing."
    most = IMAGE if is_image else FORM
    if len(length) > 12 or int(length) > most:
        return 413, f"More than {most:,} bytes are refused."
    return None


def urlsplit_netloc(origin: str) -> str:
    """Host and port of an origin; empty of what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _equal(given: str, token: str) -> bool:
    """Whether a token is the right one, in a time that tells nothing of it."""
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _admitted(scope: MutableMapping[str, Any], rules: Rules) -> tuple[tuple[bytes, bytes], ...]:
    """Where one is sent who came with the token, which then stands in a cookie and no longer in the address."""
    asked = [(key, value) for key, value in parse_qsl(scope["query_string"].decode("latin-1")) if key != "token"]
    path = "/" + scope["path"].lstrip("/\\")  # "//elsewhere" would be another host
    target = urlsplit(path)._replace(query=urlencode(asked))
    place = target.geturl().encode("ascii", errors="replace").replace(b"\r", b"").replace(b"\n", b"")
    cookie = f"{rules.cookie}={rules.token}; Path=/; HttpOnly; SameSite=Lax"
    return (b"location", place), (b"set-cookie", cookie.encode())


async def _answer(send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    body = text.encode()
    own = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()),
           (b"content-security-policy", b"default-src 'none'"), (b"connection", b"close"))  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers, *HEADERS]})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            added = [(name, value) for name, value in HEADERS if name not in there]
            if b"content-security-policy" not in there:
                added.append((b"content-security-policy", POLICY.encode()))
            if b"cache-control" not in there:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return told
