"""The server of ``atbsn serve``."""

import os
import socket
import threading
import webbrowser
from pathlib import Path

from atbsn.app.page.noise import estimated_noise
from atbsn.app.page.studio import Adapt, Limits, Studio
from atbsn.archs.weights import load
from atbsn.engine.inference.denoiser import check_channels
from atbsn.engine.inference.photo import best_device
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

PORT = 7860
"""TCP port of the page unless another is given. Chosen by hand."""


def serve(
    weights: str | Path = "real",
    host: str = "127.0.0.1",
    port: int = PORT,
    adapt: Adapt | None = None,
    limits: Limits | None = None,
    open_browser: bool = True,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. At the end all files of visitors are deleted.

    Args:
        weights: a weight file, or the name of shipped weights.
        host: address to listen on. Unless it is a loopback address, everybody who can reach it may use the page.
        port: TCP port; 0: any free one.
        adapt: adapts weights to a visitor's pictures; None: the page does not offer it.
        limits: limits for uploads; None: the defaults.
        open_browser: open the page in the browser.

    Raises:
        UserError: the extra ``[web]`` is not installed, the weights cannot be read or are not for pictures, or the
            address cannot be used.
    """
    try:
        import uvicorn

        from atbsn.app.page.application import Page
        from atbsn.app.page.guard import is_loopback
    except ImportError as error:
        raise UserError(f'the page needs the package {error.name}; pip install "atbsn[web]"') from None
    net = load(weights).to(best_device())
    check_channels(net, 3)
    listener = _listen(host, port)
    page = Page(Studio(net, Path(weights).stem, limits or Limits(), adapt, estimated_noise))
    application = page.application(names=(host,), loopback=is_loopback(host))
    address = f"http://{_in_address(host)}:{listener.getsockname()[1]}"
    logger.info("The page is at %s; Ctrl-C ends it and deletes what was handed in.", address)
    if not is_loopback(host):
        logger.warning("Everybody who can reach %s may use the page: there is no password.", host)
    if open_browser:
        threading.Timer(1.0, webbrowser.open, (address,)).start()
    config = uvicorn.Config(
        application,
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=5,
        limit_concurrency=128,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again when all is closed
        pass
    finally:
        page.close()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address. If the address is in use, this raises before anything is started."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows, this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{host}, port {port}: cannot be used ({reason}); give another --port, or 0 for any") from None
    return listener


def _in_address(host: str) -> str:
    """``host`` as a part of the page's address in the browser."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
