"""Which lines some tests reach, measured while all tests run: a plugin that `.ci/run` gives pytest's workers.

By themselves these tests would be collected and run a second time, and all tests under coverage take far longer. So it
follows the imports, at which most lines that stand in no function run, and then the tests of `FAST` alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from glob import glob

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


class Reach:
    """Follows what a worker of xdist imports, and runs of `FILES`."""

    def __init__(self) -> None:
        self.coverage = Coverage()
        self.coverage.set_option("run:patch", [])  # else the commands of all tests were followed, too
        self.coverage.start()

    def pytest_collection_finish(self) -> None:
        """All is imported."""
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
