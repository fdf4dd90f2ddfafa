"""Pictures that are prepared for fast random crops, in an LMDB or in a folder of patches."""
