"""Why runtimes refuse or differ, where we looked: sentences for docs/runtimes.md."""

from __future__ import annotations

REASONS: tuple[str, ...] = ()
