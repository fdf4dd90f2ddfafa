"""The noise of pictures: ``atbsn noise``. This script is another name for it."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("noise")
