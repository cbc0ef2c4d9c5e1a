"""What every record can be asked for: itself as a dictionary, JSON, Markdown, a page, or a notebook's cell.

The renderings stand above the records and know them all, so a record looks them up by name when it is asked, as
`bnfold/__init__.py` does with the public names.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_HOME = "bnfold.report.renderings"


class Rendered:
    """A record that renders itself."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers; docs/report.md says which keys there are."""
        found: dict[str, Any] = self._rendering("dict")()
        return found

    def to_json(self) -> str:
        """The same as JSON, with a line break at the end."""
        return str(self._rendering("json")())

    def to_markdown(self) -> str:
        """For a pull request."""
        return str(self._rendering("markdown")())

    def to_html(self) -> str:
        """A page of its own that asks no server; needs the extra `html`."""
        return str(self._rendering("html")())

    def _repr_html_(self) -> str:
        return str(self._rendering("notebook")())

    def _rendering(self, name: str) -> Callable[[], Any]:
        of_record: Callable[[Any], dict[str, Callable[[], Any]]] = import_module(_HOME).of_record
        return of_record(self)[name]
