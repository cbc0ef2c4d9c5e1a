"""The version of a package that is installed."""

from __future__ import annotations

from functools import cache


@cache  # looking it up takes some milliseconds, and each model that is written has it
def installed(package: str) -> str:
    """Its version; empty where it runs from a folder that was never installed, or is not there."""
    from importlib.metadata import PackageNotFoundError, version  # takes as long as the numpy that all need

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
