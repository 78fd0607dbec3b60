"""Locks that end with the process that has them, also by a kill."""

import fcntl


def locked(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; False if another has it. What cannot be locked, as on some
    network drives, is taken for locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
