"""Keep an application running on two servers, or on many."""

__version__ = "0.1.0"
