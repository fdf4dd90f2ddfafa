"""``python -m atbsn``: the same as ``atbsn``."""

from atbsn.app import main

if __name__ == "__main__":
    main()
