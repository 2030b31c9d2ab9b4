"""A disk that the kernel has mounted once somebody comes by, as systemd's automounts do.

Arguments: the directory; `fails`, if nothing can be mounted there. Says `ready`; ends with its
standard input.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys

READY, FAIL = 0x9360, 0x9361  # Orders to autofs, which get the token of what is waited for.
PACKET = struct.Struct("<iiI")  # Version, kind, token; what follows says who waits.


def main(path: str, fails: bool) -> None:
    os.setpgrp()  # Whoever is in this group sees what lies beneath.
    asked, kernels = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    options = f"fd={kernels},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"automount", os.fsencode(path), b"autofs", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "autofs cannot be mounted", path)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    print("ready", flush=True)
    while True:
        come, _, _ = select.select([asked, 0], [], [])
        if 0 in come:
            return
        _, _, token = PACKET.unpack_from(os.read(asked, 4_096))
        if not fails:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
        fcntl.ioctl(root, FAIL if fails else READY, token)


if __name__ == "__main__":
    main(sys.argv[1], "fails" in sys.argv[2:])
