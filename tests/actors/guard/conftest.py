"""A network of their own for tests of the guard with real addresses."""

import subprocess
import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"guard-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for words in (
            "link add side0 type veth peer name side1",
            "link set side0 up",
            "link set side1 up",
            "address add 198.18.7.2/24 dev side0",
            "address add 198.18.7.1/24 dev side0",
            "address add 2001:db8:7::1/64 dev side0 nodad",
        ):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
