import subprocess
import sys

from experiments.tools import host_memory

PAGE_FAULTS = """
import resource
import numpy as np
from experiments.tools.host_memory import keep_large_blocks
print(keep_large_blocks() if {keep} else False)
def touch():
    np.empty(8_000_000).fill(1)  # 64 MB, 15,625 pages of 4 kB, unless they are huge
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep):
    script = [sys.executable, "-c", PAGE_FAULTS.format(keep=keep)]
    output = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    return output[0] == "True", int(output[1])


def test_large_arrays_are_not_mapped_anew():
    is_kept, with_it = page_faults(True)
    _, without = page_faults(False)
    assert with_it < 100 or not is_kept
    assert with_it <= without


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(host_memory.sys, "platform", "darwin")
    assert not host_memory.keep_large_blocks()
