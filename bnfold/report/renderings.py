"""Every rendering of an account or of an inspection, by the name that the command line has for it.

They are made when they are asked for, since a page takes longer than a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold.report.account import Account
    from bnfold.report.plan import Inspected

Renderings = dict[str, Callable[[], Any]]


def of_account(account: Account) -> Renderings:
    """What a run did and found."""

    def html() -> str:
        from bnfold.report.html import as_html

        return as_html(account)

    def json() -> str:
        from bnfold.report.data import as_json

        return as_json(account)

    def markdown() -> str:
        from bnfold.report.markdown import as_markdown

        return as_markdown(account)

    def text() -> Any:
        from bnfold.report.text import as_text

        return as_text(account)

    return {"html": html, "json": json, "markdown": markdown, "text": text}


def of_inspection(inspection: Inspected) -> Renderings:
    """What folding would do."""
    from bnfold.report import plan

    return {"json": lambda: plan.as_json(inspection), "text": lambda: plan.as_text(inspection)}
