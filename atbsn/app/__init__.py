"""What people who have a picture, not a project, use: the `atbsn` command and the page. Thin rooms over the engine."""

from atbsn.app.main import main

__all__ = ["main"]
