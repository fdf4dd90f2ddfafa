"""Floor 4, in three rooms: ``inference`` denoises, ``evaluation`` measures what it gives, ``training`` uses both.

A room imports from those before it and from the modules beside them, never from a later one.
"""
