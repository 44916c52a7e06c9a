"""What the device sees, live: a page in the browser, and a picture in the terminal. See ``docs/viewer.md``."""
