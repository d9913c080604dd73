"""What is shown while it works: a bar on a terminal, lines without carriage returns elsewhere."""

import os
import pty
import re
import subprocess
import sys
import termios

from experiments.tools.progress import follow

TRAIN = [sys.executable, "-m", "experiments", "train", "--model", "linear", "--num-steps", "20"]
TRAIN += ["--num-evals", "4", "--seeds", "2", "--weighting", "low", "--num-validation", "40"]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}


def test_a_line_for_each_item_without_a_terminal(capsys):
    jobs = [("noise", 3, object()), "long_tail", 7]
    assert list(follow(iter(jobs), "label", "set")) == jobs
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"\d+\.\d s", "T", line) for line in lines] == [
        "[1/3] label noise 3: T",
        "[2/3] label long_tail: T",
        "[3/3] label 7: T",
    ]


def test_training_into_a_file_and_on_a_terminal(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as log:
        command = [*TRAIN, "--out", str(tmp_path / "file")]
        subprocess.run(command, stdout=log, stderr=log, env=ENVIRONMENT, check=True)
    text = path.read_text()
    assert "\r" not in text
    assert "\x1b" not in text
    (line,) = re.findall(r"^low: .*", text, re.MULTILINE)
    assert re.fullmatch(r"low: validation=0\.\d{3}, \d+\.\d s", line)

    shown = on_a_terminal([*TRAIN, "--out", str(tmp_path / "terminal")])
    assert shown.count("\r") > 2
    assert re.search(r"low: 100%\|.*\| 20/20 .*validation=0\.\d{3}\]", shown)
    assert not re.search(r"^low: validation", shown, re.MULTILINE)


def on_a_terminal(command):
    """What the command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=ENVIRONMENT) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()
