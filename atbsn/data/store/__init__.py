"""Pictures prepared for fast random crops: what they were made from, in an LMDB or in a folder of tiles."""
