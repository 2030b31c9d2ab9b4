"""Traces in the formats of other tools, one file for each format."""

from mirrorfarm.trace.export.run import FORMATS, Options, Report, export

__all__ = ("FORMATS", "Options", "Report", "export")
