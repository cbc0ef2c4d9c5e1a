"""Runtimes are tried only when BNFOLD_RUNTIMES names the folder with their environments; see environments.py."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("BNFOLD_RUNTIMES") else ["test_runtimes.py"]
