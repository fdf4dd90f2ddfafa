"""The noise of pictures: ``atbsn noise``, which this is another name of."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("noise")
