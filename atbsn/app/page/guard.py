"""Protects the server from other web sites: it answers only its own pages, under addresses that no site can take."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Headers of every answer: the page loads nothing from elsewhere, and no other site may embed or read it."""


class Guard:
    """Passes a request on only if no other web site can have sent it, and adds protective headers to the answer.

    A site in another tab of the visitor's browser can send requests to this computer. The browser then says so in
    ``Origin`` and ``Sec-Fetch-Site``. A site can also give its own domain name the address of this computer (DNS
    rebinding); then ``Host`` is that name. So ``Host`` has to be ``localhost``, an IP address, or one of ``names``.

    Args:
        app: the application that gets the requests.
        names: other names of the server.
        loopback: whether the server is bound to this computer alone. Then other addresses are refused, too.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = (), loopback: bool = True) -> None:
        self.app = app
        self.names = {name.lower() for name in names}
        self.loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache" if _is_page(scope) else "no-store")
            await send(message)

        reason = self._refusal(Headers(scope=scope), scope)
        app = self.app if reason is None else JSONResponse({"error": reason}, status_code=403)
        await app(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, scope: Scope) -> str | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_known(host):
            return "This page is called by a name that is not its own; use the address that the terminal shows."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "Requests of other web sites are not answered."
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not (_is_page(scope) and scope["method"] == "GET"):
            return "Requests of other web sites are not answered."
        return None

    def _is_known(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = (parts.hostname or "").lower()
            _ = parts.port
        except ValueError:
            return False
        if name == "localhost" or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback if self.loopback else True


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server bound to ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_page(scope: Scope) -> bool:
    """Whether the request is for a file of the page itself, which belongs to no session."""
    return not scope["path"].startswith("/api")
