"""Floor 4, in seven rooms.

``inference`` denoises, ``evaluation`` measures the results, ``training`` uses both, and ``adaptation`` trains for
one's own pictures. ``export`` writes networks for other programs, ``sweeps`` runs many trainings, and ``reports`` makes
tables and figures of their results. A room imports from rooms named before it and from the modules beside the rooms,
never from a later one.
"""
