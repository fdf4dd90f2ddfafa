"""The page: a server on this computer that denoises in the browser."""
