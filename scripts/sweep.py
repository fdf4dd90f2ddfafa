"""Train and measure a grid of options: ``atbsn sweep``, which this is another name of."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("sweep")
