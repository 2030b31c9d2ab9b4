"""Send the frames by which neighbours learn where a virtual address is."""

import socket

from mirrorfarm.actors.vip.subnets import Target
from mirrorfarm.netfilter.neighbours import announcements


class Announcer:
    """One packet socket that only sends, kept open: closing one takes milliseconds."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def announce(self, targets: tuple[Target, ...]) -> tuple[str, ...]:
        """Announce every address once; return the faults. Interfaces without MAC need none."""
        faults = []
        for target in targets:
            if len(target.link.mac) != 6 or not any(target.link.mac):
                continue
            try:
                for frame in announcements(target.address, target.link.mac):
                    self._open().sendto(frame, (target.link.name, 0))
            except OSError as error:
                faults.append(f"{target.address}: not announced on {target.link.name}: {error}")
        return tuple(faults)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        return self._socket
