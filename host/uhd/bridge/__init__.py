"""From a device's link to whoever wants to know: events, readers, recordings, sinks. See ``docs/bridge.md``."""
