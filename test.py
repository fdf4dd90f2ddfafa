"""Denoise pictures: ``python test.py -opt options/test/test_folder.yml --input FOLDER_OR_FILE --output FOLDER``."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("test")
