"""Tables and figures of runs and sweeps: ``atbsn report``, which this is another name of."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("report")
