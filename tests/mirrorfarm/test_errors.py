"""Errors that someone can act upon: each class is told by its exit code."""

from mirrorfarm import errors


def kinds() -> list[type[errors.MirrorfarmError]]:
    return errors.MirrorfarmError.__subclasses__()


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in kinds()]
    assert len(codes) == len(set(codes))
    assert all(1 < code < 64 for code in codes)


def test_a_bad_configuration_tells_every_fault() -> None:
    text = str(errors.ConfigInvalid(("no node n3", "no lan")))
    assert text.splitlines() == ["no node n3", "no lan"]
