"""The one pipeline from noisy files to clean ones.

A planner (``beside``, ``Mirrored``, ``of_set``, ``single``) says which pictures there are and where each goes; ``run``
reads, denoises and writes them, all at the same time; a ``Record`` of what is done lets a later run leave it out.
"""
