"""Folders of any number of pictures: listed as they are denoised, shared out to shards, continued after any end."""
