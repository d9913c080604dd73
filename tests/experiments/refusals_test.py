"""Whatever a command line gets wrong is refused in one form: `error: what, expected, remedy`."""

import re

import pytest

from benchmarks import many_runs, max_margin, memory, step_time
from benchmarks.report import run_benchmark
from experiments.__main__ import main as experiments
from experiments.data.isic.__main__ import main as isic
from experiments.tools.command_line import run_command
from theory_checks.__main__ import main as theory_checks


def benchmark(module, name):
    return lambda given: run_benchmark(module.main, name, module.__doc__, given)


PROGRAMS = {
    "experiments": experiments,
    "isic": isic,
    "theory_checks": theory_checks,
    "step_time": benchmark(step_time, "step_time"),
    "memory": benchmark(memory, "memory"),
    "max_margin": benchmark(max_margin, "max_margin"),
    "many_runs": benchmark(many_runs, "many_runs"),
}
USAGE, FAILURE = 2, 1

REFUSED = [
    # words that are not known, missing, or surplus
    ("experiments", USAGE, "", "expected one of {list, methods, run, report, explain, train}"),
    ("experiments", USAGE, "trian", "unknown on the command line: trian; expected one of list,"),
    ("experiments", USAGE, "train --wat 3", "unknown on the command line: --wat 3; see"),
    ("experiments", USAGE, "train --learning_rat 3", "did you mean --learning-rate?; see"),
    ("experiments", USAGE, "train --seeds 2 3", "line: 3; see python -m experiments train --help"),
    ("experiments", USAGE, "run", "missing: NAME (For instance demo"),
    ("experiments", USAGE, "train --weighting", "--weighting: its value is missing"),
    ("experiments", USAGE, "explain", "give the folder of a finished training"),
    ("experiments", USAGE, "run dem", "unknown experiment 'dem'; known are demo, comparison"),
    ("experiments", USAGE, "run demo --only x", "no arm is called 'x'; there are noise/uniform"),
    # values
    ("experiments", USAGE, "train --num-steps x", "--num-steps: 'x' is not a whole number; expec"),
    ("experiments", USAGE, "train --num-train x", "expected --num-train {None}|INT"),
    ("experiments", USAGE, "train --momentum x", "'x' is not a number; expected --momentum FLOAT"),
    ("experiments", USAGE, "run demo --preset x", "'x' is none of its choices; expected 'smoke',"),
    ("experiments", USAGE, "run demo --preset released", "no preset 'released'; it has smoke, cpu"),
    ("experiments", USAGE, "train --weighting lo", "unknown weighting 'lo'; known are uniform,"),
    ("experiments", USAGE, "train --weighting lo", "did you mean 'low'?"),
    ("experiments", USAGE, "train --weighting low:-1", "regularization must be positive"),
    ("experiments", USAGE, "train --weighting low:nan", "regularization must be positive"),
    ("experiments", USAGE, "train --weighting low+", "a name is missing in 'low+'; write NAME[:"),
    ("experiments", USAGE, "train --weighting no.py:f", "there is no file no.py"),
    ("experiments", USAGE, "train --weighting lookahead --num-clean 0", "needs a clean set: give"),
    ("experiments", USAGE, "train --loss hinge", "unknown loss 'hinge'; known are cross_entropy"),
    ("experiments", USAGE, "train --loss logistic", "is for two classes; this task has 10"),
    ("experiments", USAGE, "train --model resnet", "unknown model 'resnet'; known are linear"),
    ("experiments", USAGE, "train --dataset digit", "did you mean 'digits'"),
    ("experiments", USAGE, "train --dataset tfds:no", "tfds knows no dataset 'no'; its image sets"),
    ("experiments", USAGE, "train --noise uniform:1.5", "must lie in [0, 1], got 1.5"),
    ("experiments", USAGE, "train --noise uniform:x", "'x' in 'uniform:x' is not a number"),
    ("experiments", USAGE, "train --imbalance long_tail:5000", "with no example; lower the ratio"),
    ("experiments", USAGE, "train --schedule drops:3:e", "'e' in 'drops:3:e' is not a number"),
    ("experiments", USAGE, "train --augmentation crop", "'crop' lacks its value; crop is written"),
    ("experiments", USAGE, "train --learning-rate -1", "learning_rate must lie in [0, inf)"),
    ("experiments", USAGE, "train --batch-size 5000", "batch size 5000 does not fit"),
    ("experiments", USAGE, "train --num-steps 7 --num-evals 2", "num_evals=2 must divide num"),
    ("experiments", USAGE, "train --num-test 1797", "takes all 1797 examples for the test; leave"),
    ("experiments", USAGE, "train --devices 99", "99 devices were asked for, but JAX finds"),
    ("experiments", USAGE, "train --at-once 0", "at_once must be at least 1 run, or left out"),
    ("experiments", USAGE, "train --checkpoint-seconds nan", "must not be negative, got nan"),
    # files and folders
    ("experiments", FAILURE, "train --out /proc/x", "/proc/x cannot be made"),
    ("experiments", FAILURE, "run demo --preset smoke --out /proc/x", "/proc/x cannot be made"),
    ("experiments", FAILURE, f"train --out {__file__}", "_test.py is a file; give a folder"),
    ("experiments", FAILURE, f"train --out {__file__}/x", "_test.py is a file; give another --out"),
    ("experiments", FAILURE, "train --dataset mnist --data-dir /no", "'mnist' is not prepared: lo"),
    ("experiments", FAILURE, "report /no", "/no holds no experiment (no experiment.json)"),
    ("experiments", FAILURE, "report --results /no", "/no is no folder; keep an experiment there"),
    ("experiments", FAILURE, "explain /no", "/no holds no finished run: config.json is missing"),
    # the other programs
    ("isic", USAGE, "prepare", "missing: --set {isic2017,isic2018} (Which challenge), --manual"),
    ("isic", FAILURE, "prepare --set isic2018 --manual-dir /no", "there is no folder /no"),
    ("theory_checks", USAGE, "X-T99", "unknown name 'X-T99'"),
    ("theory_checks", USAGE, "--jobs 0", "--jobs must be at least 1, got 0; python -m theory_ch"),
    ("theory_checks", USAGE, "--bogus", "unrecognized arguments: --bogus; python -m theory_checks"),
    ("theory_checks", USAGE, "--pages /no", "--pages /no: there is no such folder"),
    ("theory_checks", FAILURE, "X-T1 --out /proc/x", "/proc/x: there is no such file or folder"),
    ("step_time", USAGE, "--rounds x", "--rounds: 'x' is not a whole number; expected --rou"),
    ("step_time", USAGE, "--rounds 0", "rounds must be at least 1, got 0"),
    ("step_time", FAILURE, "--quick --out /proc/x/y.json", "/proc/x: there is no such file or"),
    ("memory", USAGE, "extra", "unknown on the command line: extra; see python -m benchmarks.me"),
    ("memory", USAGE, "--steps 0", "steps must be at least 1, got 0"),
    ("max_margin", FAILURE, "--data-dir /no", "dataset 'mnist' is not prepared"),
    ("many_runs", USAGE, "--preset x", "unknown preset 'x'; known are smoke, cpu, paper"),
]


@pytest.mark.parametrize(("program", "status", "line", "words"), REFUSED)
def test_what_is_refused(program, status, line, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # what is narrow must not wrap
    arguments = line.split()
    takes_folder = program == "experiments" and arguments[:1] in (["train"], ["run"])
    if takes_folder and "--out" not in line and len(arguments) > 1:
        arguments[1:1] = ["--out", str(tmp_path / "new")]
    try:
        found = PROGRAMS[program](arguments)
    except SystemExit as stop:  # while the arguments were read
        found = stop.code
    shown = capsys.readouterr().err
    message = re.sub(r".*\r", "", shown).removeprefix("\n")  # after a bar of progress
    assert message.startswith("error: "), shown
    assert words in message
    assert not re.search(r"[│╭─]|Traceback|Errno|<class|tyro|literal|Error parsing", message)
    assert found == status
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("bad"), USAGE, "error: bad\n"),
        (RuntimeError("bad"), FAILURE, "error: bad\n"),
        (FileNotFoundError("dataset 'x' is not prepared"), FAILURE, "error: dataset 'x' is not"),
        (PermissionError(13, "Permission denied", "/a"), FAILURE, "error: /a: this user may not"),
        (OSError(28, "No space left on device", "/a"), FAILURE, "/a: the disk is full; free space"),
        (OSError(30, "Read-only file system", "/a"), FAILURE, "/a: the file system is read-only"),
        (OSError(5, "Input/output error", "/a"), FAILURE, "error: /a: Input/output error; give"),
        (KeyboardInterrupt(), 130, "interrupted; again\n"),
    ],
)
def test_errors_of_the_work(error, status, words, capsys):
    def work():
        raise error

    assert run_command(work, go_on="again") == status
    assert words in capsys.readouterr().err


def test_status_of_what_went_well():
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3


def test_other_errors_are_ours_and_keep_their_traceback():
    with pytest.raises(KeyError):
        run_command(lambda: {}["x"])
