"""Add our networks to libraries with which other programs open weight files."""
