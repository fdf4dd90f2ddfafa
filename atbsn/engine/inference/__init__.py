"""From noisy pictures to clean ones: the denoiser, its tiles, folders of files, submissions."""
