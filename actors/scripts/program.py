"""Whether a script may be run as root, and what it is given: a fixed environment."""

import os
import stat
import sys
from pathlib import Path

from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unfit(script: Path) -> str:
    """Return why a script must not run, and the cure; empty: it may; MISSING: there is none."""
    try:
        found = script.stat()
    except FileNotFoundError:
        if os.path.islink(script):  # It was meant to be there.
            return f"not run: {script} leads to {os.path.realpath(script)}, which does not exist"
        return MISSING
    except OSError as error:
        return f"not run: {script}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"not run: {script} is not a regular file"
    if not found.st_mode & 0o111:
        return f"not run: {script} is not executable: chmod u+x {script}"
    # Whoever can write the file or its folder could have the node run anything as root.
    target = Path(os.path.realpath(script))
    for path in dict.fromkeys((script, script.parent, target.parent)):
        if fault := _foreign(path):
            return f"not run: {fault}"
    return ""


def _foreign(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:  # An installation exchanges the folder just now.
        return f"{path}: {error.strerror}"
    if found.st_uid not in {0, os.geteuid()}:
        return f"{path} is owned by user {found.st_uid}, not by root: chown root {path}"
    if found.st_mode & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        return f"{path} is writable by its group or by others (mode {mode}): chmod go-w {path}"
    return ""


def environment(settings: Module, node: str, paths: Paths) -> dict[str, str | bytes]:
    """Return all that a script inherits; a variable of the user's cannot replace ours.

    Those of the user are what LANG says, whatever this process has its file names in.
    """
    commands = str(Path(sys.executable).parent)
    installed = paths.module_etc(settings.name)
    return {
        **{name: value.encode() for name, value in settings.variables},
        "SAFE": commands,
        "SAFEVAR": str(paths.lib),
        "SAFEBIN": commands,
        "SAFEMODULE": settings.name,
        "SAFEUSERBIN": str(installed / "bin"),
        "SAFEUSERCONF": str(installed / "conf"),
        "SAFEUSERVAR": str(paths.module_lib(settings.name)),
        "MIRRORFARM_ROOT": str(paths.root),
        "MIRRORFARM_MODULE": settings.name,
        "MIRRORFARM_NODE": node,
        "MIRRORFARM_SCRIPTCONTROL": "on" if settings.farm.script_control else "off",
        "PATH": f"{commands}:{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
    }
