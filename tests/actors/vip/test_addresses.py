"""What the kernel says of the addresses and routes of a node, and what is done about it."""

import errno
import gc

import pytest

from mirrorfarm.actors.vip.addresses import Addresses
from mirrorfarm.modules.settings import VirtualAddress

ALIAS = (VirtualAddress("198.18.0.100"),)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_socket_that_failed_is_not_used_again() -> None:
    addresses = Addresses(ALIAS)
    links = addresses.links()
    fault = OSError(errno.ENOBUFS, "No buffer space available")
    addresses._socket.asyncore.protocol.error_received(fault)
    assert addresses.links() == links
    assert addresses.routes() is not None
    addresses.close()
    del fault  # Its traceback holds what pyroute2 does not close where it failed.
    gc.collect()
