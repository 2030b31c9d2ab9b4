from mirrorfarm.lab.machine import role_of


def test_processes_are_known_by_what_they_run() -> None:
    lines = {
        "python -m mirrorfarm.cli.main agent": "agent",
        "/x/bin/python /x/bin/mirrorfarm witness": "witness",
        "/x/bin/mirrorfarm state -m agent": "command",
        "python -m mirrorfarm.module_process ledger": "module",
        "python -m mirrorfarm.actors.replicator.process ledger": "replica",
        "python -I -S /src/mirrorfarm/actors/guard/process.py 3": "guard",
        "python3 -I /tmp/mf1x0-a/n1/etc/mirrorfarm/modules/x/bin/server.py start": ("application"),
    }
    assert {line: role_of(line.split()) for line in lines} == lines
