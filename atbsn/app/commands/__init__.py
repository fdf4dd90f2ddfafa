"""The commands of ``atbsn``, one module each with ``main(arguments)``, which returns the exit status."""
