"""An application for farms: says its node's name to every connection and every message.

Run as `python -m mirrorfarm.lab.farm_service NAME PORT ADDRESS…`, by TCP and UDP alike. It ends
with its input, so that none outlives who started it.
"""

import contextlib
import selectors
import socket
import sys

_FREE_BIND = 15  # IP_FREEBIND: the address may come later.


def serve(name: str, port: int, addresses: list[str]) -> None:
    """Serve until killed, or until the input ends."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_IP, _FREE_BIND, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind is socket.SOCK_STREAM:
                sock.listen(1024)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, kind is socket.SOCK_STREAM)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    word = name.encode()
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return
            with contextlib.suppress(BlockingIOError):
                _answer(selector, key, word)


def _answer(selector: selectors.BaseSelector, key: selectors.SelectorKey, word: bytes) -> None:
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    if key.data is True:  # A listener.
        connection, _ = sock.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, None)
        with contextlib.suppress(OSError):
            connection.send(word)
    elif key.data is False:  # Datagrams.
        _, client = sock.recvfrom(65_536)
        sock.sendto(word, client)
    else:
        try:
            if sock.recv(65_536):
                sock.send(word)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        selector.unregister(sock)
        sock.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
