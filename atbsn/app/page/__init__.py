"""The page: a server on this computer, and what the browser shows of it."""
