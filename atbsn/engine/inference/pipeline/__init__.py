"""The one pipeline from noisy files to clean ones.

A planner (``beside``, ``Mirrored``, ``of_set``, ``single``) lists the pictures and the file that each goes to. ``run``
reads, denoises and writes them, all at the same time. A ``Record`` notes which pictures are done, so that a later run
leaves them out.
"""
