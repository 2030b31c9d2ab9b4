"""Run commands of nftables in this process, through libnftables, each call one transaction.

Its Python module belongs to Debian's own interpreter; the C interface has five functions, and a
process per change would cost more than the change.
"""

import ctypes
import json
from typing import Any

from mirrorfarm.errors import SystemUnsuitable

_LIBRARY = "libnftables.so.1"
_JSON, _TERSE = 1 << 4, 1 << 11  # NFT_CTX_OUTPUT_*: as objects; without elements of sets.


class TransactionRefused(OSError):
    """The kernel, or the parser, did not take a transaction; nothing of it was done."""


def _load() -> Any:
    library = ctypes.CDLL(_LIBRARY)
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_char_p
    return library


class Nftables:
    """One context of the library, bound to the network namespace it was made in.

    To be used by one thread at a time.
    """

    def __init__(self) -> None:
        """Raise SystemUnsuitable if the library is missing or this process has no right to it."""
        try:
            self._library = _load()
        except OSError as error:
            raise SystemUnsuitable(
                f"{_LIBRARY} is missing: install the package nftables"
            ) from error
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise SystemUnsuitable("nftables cannot be reached: the kernel lacks it, or memory")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> None:
        """Perform all of `commands`, or nothing: then raise TransactionRefused."""
        self._call(commands)

    def list(self, what: str) -> list[dict[str, Any]]:
        """Return what `list …` prints, as objects; raise TransactionRefused.

        Of sets the elements are left out, where the library knows how to.
        """
        self._library.nft_ctx_output_set_flags(self._context, _JSON | _TERSE)
        try:
            text = self._call(f"list {what}\n")
        finally:
            self._library.nft_ctx_output_set_flags(self._context, 0)
        found: list[dict[str, Any]] = json.loads(text)["nftables"]
        return found

    def close(self) -> None:
        """Free the context."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def _call(self, commands: str) -> str:
        assert self._context, "used after close"
        code = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if code:
            said = error.decode(errors="replace").strip().splitlines()
            raise TransactionRefused(f"nftables: {said[0] if said else 'refused'}")
        return output.decode()
