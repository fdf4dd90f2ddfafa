"""Tables and figures of runs and sweeps: ``atbsn report``. This script is another name for it."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("report")
