"""The table of rules as the part of `docs/advice.md` that is generated, so that page and program say the same."""

from __future__ import annotations

import inspect

from bnfold.advice.rules import RULES


def rules_as_markdown() -> str:
    """All rules: a table, then a section for each with what it looks for, why, and what to write instead."""
    table = ["| rule | severity | looks for |", "|---|---|---|"]
    sections = []
    for name, rule in RULES.items():
        summary, *details = inspect.getdoc(rule.check).split("\n\n")  # type: ignore[union-attr]
        looks_for = " ".join([summary, *details]).replace("\n", " ")
        table.append(f"| [{name}](#{name}) | {rule.severity} | {_one_line(summary)} |")
        sections.append(f"## {name}\n\n{looks_for}\n\n**Why:** {rule.why}.\n\n**Instead:** {rule.instead}.")
    return "\n".join(table) + "\n\n" + "\n\n".join(sections) + "\n"


def _one_line(text: str) -> str:
    return text.replace("\n", " ").removesuffix(".").replace("|", r"\|")
