"""Measure a method, with references or without: ``python valid.py -opt options/test/test_atbsn.yml --k 0 1 3``."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("valid")
