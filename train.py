"""Train a method on noisy pictures: ``python train.py -opt options/train/train_atbsn.yml``."""

from atbsn.app.main import run

if __name__ == "__main__":
    run("train")
