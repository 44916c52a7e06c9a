"""The command line: ``python -m uhd.host``."""
