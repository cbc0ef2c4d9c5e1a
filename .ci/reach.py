"""Which lines some tests reach, measured while all tests run: a plugin that `.ci/run` gives pytest's workers.

By themselves these tests would be collected and run a second time, and all tests under coverage take far longer. So it
follows how bnfold is imported, where most lines that stand in no function run, and then the tests of `FAST` alone. That
the tests are collected is not followed: it takes twice as long then.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from glob import glob
from importlib import import_module
from pkgutil import walk_packages

import pytest
from coverage import Coverage

# Left out are those that took two fifths of the time for 4 % of these lines.
FAST = """
    tests/algebra/test_sweep.py tests/algebra/test_unfuse.py tests/caffe/test_faults.py tests/caffe/test_phases.py
    tests/caffe/test_text.py tests/caffe/test_upgrade.py tests/caffe/test_write_variants.py
    tests/compare/test_compare.py tests/compare/test_detect.py tests/compare/test_standins.py tests/data/*.py
    tests/io/test_files.py tests/onnx/test_layers.py tests/onnx/test_lossless.py tests/onnx/test_region.py
    tests/report/test_markdown.py tests/test_bad_input.py tests/test_pipeline.py
"""
FILES = frozenset(file for pattern in FAST.split() for file in glob(pattern))
COMPILED = "bnfold.compare.compiled"  # begins the names of two modules that load numba


class Reach:
    """Follows how bnfold is imported, and what a worker of xdist runs of `FILES`."""

    def __init__(self) -> None:
        self.coverage = Coverage()
        self.coverage.set_option("run:patch", [])  # else the commands of all tests were followed, too
        self.coverage.start()
        for module in walk_packages(import_module("bnfold").__path__, "bnfold."):
            if not module.name.startswith(COMPILED):
                import_module(module.name)
        self.coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Follow a fast test."""
        if item.location[0] not in FILES or item.get_closest_marker("slow"):
            return (yield)
        self.coverage.start()
        try:
            return (yield)
        finally:
            self.coverage.stop()

    def pytest_sessionfinish(self) -> None:
        """Write which lines it were."""
        self.coverage.save()


if "PYTEST_XDIST_WORKER" in os.environ:
    reach = Reach()

    def pytest_configure(config: pytest.Config) -> None:
        """Have pytest call it."""
        config.pluginmanager.register(reach)
