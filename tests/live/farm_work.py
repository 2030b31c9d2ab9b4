"""What the live tests of a farm share: a small web module, and a client that counts answers."""

import http.client
from collections import Counter
from pathlib import Path

from mirrorfarm.lab.cluster import OneMachine

PORT = 8080
ADDRESS = "198.18.0.100"
ADDRESS6 = "2001:db8::100"
START = """#!/bin/bash
# Returns when the port answers; the node's name is in a file that the test wrote.
/usr/bin/python3 -IS "$SAFEUSERBIN/serve.py" "$SAFEUSERVAR" &>/dev/null &
for _ in {1..200}; do [[ -e $SAFEUSERVAR/serving ]] && exit 0; sleep 0.02; done
exit 1
"""
STOP = """#!/bin/bash
[[ -e $SAFEUSERVAR/serving ]] && kill "$(<"$SAFEUSERVAR/serving")" 2>/dev/null
rm -f "$SAFEUSERVAR/serving"
exit 0
"""
# What a power cut left: the number may be another process's by now.
PRESTART = '#!/bin/bash\nrm -f "$SAFEUSERVAR/serving"\n'
SERVE = '''"""Says on which node it runs."""
import http.server, os, socket, sys
from pathlib import Path

folder = Path(sys.argv[1])
name = (folder / "name").read_bytes()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 512


server = Server(("::", 8080), Answer)
(folder / "serving").write_text(str(os.getpid()))
server.serve_forever()
'''


def userconfig(
    *,
    farm: str = "",
    rule: str = "on_port",
    groups: str = "",
    delivery: str = "vmac_invisible",
    more: str = "",
) -> str:
    """Return the configuration of a farm with an address of each family; `more` holds rules."""
    rules = f'<rule proto="tcp" port="{PORT}" filter="{rule}"/>{more}'
    return (
        f'<safe><service mode="farm"><farm {farm}><lan name="default"/></farm>'
        "<vip><interface_list><interface><virtual_interface "
        f'type="{delivery}">'
        f'<virtual_addr addr="{ADDRESS}"/><virtual_addr addr="{ADDRESS6}"/>'
        "</virtual_interface></interface></interface_list><loadbalancing_list>"
        f'<group name="web">{groups}{rules}</group></loadbalancing_list></vip>'
        '<user nicestoptimeout="10s" forcestoptimeout="5s"/></service></safe>'
    )


def source(folder: Path) -> Path:
    """Write the module into a folder and return it."""
    scripts = {"prestart": PRESTART, "start_both": START, "stop_both": STOP, "serve.py": SERVE}
    for name, text in scripts.items():
        path = folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf/userconfig.xml").write_text(userconfig())
    return folder


def install(lab: OneMachine, folder: Path, text: str, module: str = "web") -> None:
    """Install the module on every node, and tell each server its node's name."""
    lab.module = module
    lab.install(module, text, source=str(source(folder)))
    for node in lab.nodes:
        place = lab.paths(node).module_lib(module)
        place.mkdir(parents=True, exist_ok=True)
        (place / "name").write_text(node)


def up(lab: OneMachine, *nodes: str) -> None:
    """Start the module on these nodes; all of them are in the farm then."""
    for node in nodes:
        lab.order(node, "start")
    for node in nodes:
        await_members(lab, node, set(nodes))


def await_members(lab: OneMachine, node: str, members: set[str], seconds: float = 10) -> None:
    """Wait until a node says that the farm has exactly these members, and is settled."""
    import time  # noqa: PLC0415

    deadline = time.monotonic() + seconds
    while True:
        farm = lab.state(node).get("farm") or {}
        if set(farm.get("members", [])) == members and farm.get("settled"):
            return
        assert time.monotonic() < deadline, f"{node}: {farm}"
        time.sleep(0.05)


def ask(address: str = ADDRESS, seconds: float = 2.0) -> str:
    """Make a connection and return who answered; the name of the error if nobody did."""
    try:
        connection = http.client.HTTPConnection(address, PORT, timeout=seconds)
        connection.request("GET", "/")
        answer = connection.getresponse().read().decode()
        connection.close()
    except OSError as error:
        return type(error).__name__
    return answer


def answers(
    lab: OneMachine, count: int, address: str = ADDRESS, seconds: float = 2.0
) -> Counter[str]:
    """Return how many of `count` new connections each node answered."""
    with lab.as_client():
        return Counter(ask(address, seconds) for _ in range(count))


class Stream:
    """A connection that is kept open, and asked from time to time."""

    def __init__(self, address: str = ADDRESS) -> None:
        self.connection = http.client.HTTPConnection(address, PORT, timeout=3)
        self.node = self.ask()

    def ask(self) -> str:
        """Return who answers on it; the name of the error if it is broken."""
        try:
            self.connection.request("GET", "/")
            return self.connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    def close(self) -> None:
        """End it."""
        self.connection.close()
