"""Ten thousand labelled images through a sample model: memory keeps its budget and does not follow their number."""

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "sample_models"
BUDGET, GROWTH = 400 << 20, 8 << 20

SCRIPT = """
import sys
import numpy as np
import bnfold

class Generated:
    parallel, class_names, description = True, (), "generated digits"
    def __init__(self, count):
        self.count, self.labels = count, np.arange(count) % 10
    def sample(self, number):
        return {"data": np.random.default_rng(number).uniform(0, 16, (1, 8, 8)).astype(np.float32)}
    def name(self, number):
        return f"digit {number}"
    def picture(self, number):
        return None

net = bnfold.load(sys.argv[1], sys.argv[2], input_shapes={"data": (16, 1, 8, 8)})
folded = bnfold.fold(net).net
for count in (1000, 10_000):
    report = bnfold.compare(net, folded, Generated(count), memory=int(sys.argv[3]))
    assert (report.sample_count, report.classifier.samples, len(report.samples)) == (count, count, 500)
    assert report.passed, report.verdict
    print(next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.mark.slow
def test_ten_thousand_images_take_no_more_memory_than_a_thousand() -> None:
    model = [str(SAMPLES / f"digits_train_test.{ending}") for ending in ("prototxt", "caffemodel")]
    command = [sys.executable, "-c", SCRIPT, *model, str(BUDGET)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    few, many = map(int, found)
    assert many - few < GROWTH
    assert many < BUDGET
