"""Compare weight files on one data set: quality, parameters, MACs a pixel and speed, beside what people use today.

``python scripts/compare.py -opt test_quickstart.yml experiments/*/models/net_latest.pth --k 0 1 3 --nlm 5 10`` writes
comparison.csv, comparison.md and panels to results/<name>/<set>/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atbsn.app.main import run

if __name__ == "__main__":
    run("compare")
