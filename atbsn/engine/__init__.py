"""Floor 4, in six rooms.

``inference`` denoises, ``evaluation`` measures what it gives, ``training`` uses both, and ``adaptation`` trains for
one's own pictures. A room imports from those before it and from the modules beside them, never from a later one.
``sweeps`` runs many trainings, and ``reports`` makes tables and figures of what they left.
"""
