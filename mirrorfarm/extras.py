"""The Python packages that mirrorfarm can do without: how they are had."""


def installing(extra: str) -> str:
    """Return in words how an extra of setup.cfg is installed, as README.md installs the rest.

    No package index has mirrorfarm: its name alone would find nothing there, or a stranger's.
    """
    return f"`.venv/bin/pip install -e '.[{extra}]'` in the installation's folder"
