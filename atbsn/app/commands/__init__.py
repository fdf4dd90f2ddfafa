"""What each command of ``atbsn`` does: ``main(arguments)``, which returns the exit status."""
