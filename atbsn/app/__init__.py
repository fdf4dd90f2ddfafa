"""The ``atbsn`` command and the page. They read arguments, call the engine and report; no algorithm is here."""

from atbsn.app.main import main

__all__ = ["main"]
