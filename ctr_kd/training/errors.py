"""How training fails, for whoever wants to know without loading torch."""


class TrainingError(Exception):
    """Training cannot go on; the message says where, and what was kept."""


class DeviceError(Exception):
    """The configured device is not there. The message is one line: what is configured, what to do."""
