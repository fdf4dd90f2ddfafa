"""Convert weight files: ``atbsn convert``, which this is another name of."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("convert")
