"""Throw-away hosts for tests, the demo and rehearsals: real systemd hosts on one machine, everything a GPU node has emulated.

Nothing here is part of the product's path, and the product does not know that it exists.
"""


class LabError(Exception):
    """The lab could not do what it was asked; the message says what, and why."""
