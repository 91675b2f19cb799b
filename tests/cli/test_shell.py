"""The command line towards its shell: streams that are closed or full, signals, and the exit status."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pruning.__main__ import main
from pruning.cli import shell
from pruning.cli.shell import Stopped

ROOT = Path(__file__).parents[2]


def broken_pipe():
    """A pipe that nobody reads any more."""
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "w")


def disk_full():
    """A device without room."""
    return open("/dev/full", "w")


@pytest.mark.parametrize("argv", [["methods"], ["methods", "--json"]])
@pytest.mark.parametrize(("stream", "status", "said"), [
    (broken_pipe, 141, ""), (disk_full, 1, "The result cannot be printed: No space left on device.\n"),
    (lambda: None, 1, "Standard output is closed: the result was not printed.\n")])
def test_a_result_that_cannot_be_printed(monkeypatch, capsys, argv, stream, status, said):
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(argv) == status
    assert capsys.readouterr().err == said
    assert sys.stdout is out
    if out is not None:
        out.close()  # complains of nothing


@pytest.mark.parametrize("stream", [broken_pipe, disk_full, lambda: None])
@pytest.mark.parametrize(("argv", "status"), [(["inspect", "emoji-sad"], 1), (["methods"], 0)])
def test_errors_that_cannot_be_printed_change_no_status(monkeypatch, capsys, stream, argv, status):
    err = stream()
    monkeypatch.setattr(sys, "stderr", err)
    assert main(argv) == status
    assert ("magnitude" in capsys.readouterr().out) == (status == 0)
    assert sys.stderr is err
    if err is not None:
        err.close()


def test_a_refusal_goes_to_a_closed_pipe_with_its_own_status(monkeypatch):
    monkeypatch.setattr(sys, "stdout", broken_pipe())
    assert main(["inspect", "emoji-sad", "--json"]) == 1


@pytest.mark.parametrize(("stream", "status"), [(broken_pipe, 141), (disk_full, 1)])
@pytest.mark.parametrize("argv", [["--help"], ["plan", "--help"]])
def test_help_that_cannot_be_printed(monkeypatch, argv, stream, status):
    monkeypatch.setattr(sys, "stdout", stream())
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == status
    sys.stdout.close()


def test_usage_is_told_under_json(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["plan", "m", "--ratio", "0.5", "--json"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert "-o/--out" in told["message"]
    assert told["remedy"] == "See python -m pruning plan --help."
    assert err.startswith("usage: python -m pruning plan")


def test_two_dashes_are_a_prompt():
    parser = shell.Parser()
    parser.add_argument("--prompt")
    assert parser.parse_args(["--prompt=--"]).prompt == "--"


def test_names_that_no_terminal_can_show_are_printed(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with shell.attached():
        assert shell.printed("caf\u00e9 \udcff", 0) == 0
    out.seek(0)
    assert out.read() == "caf\\xe9 \\udcff\n"


# Signals.


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_signal_ends_a_command_and_leaves_nothing(
        tmp_path, tiny_folder, monkeypatch, capsys, number, status, as_json):
    from pruning import __main__ as command

    def drawn(events, steps):
        next(iter(events))
        signal.raise_signal(number)
        raise AssertionError("the signal comes first")

    monkeypatch.setattr(command, "_drawn", drawn)
    handler = signal.getsignal(number)
    argv = ["generate", str(tiny_folder), "--prompt", "a", "--steps", "1", "-o", str(tmp_path / "new" / "out")]
    assert main([*argv, *(["--json"] if as_json else [])]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if as_json:
        assert json.loads(out)["error"]["message"] == "Stopped."
    else:
        assert (out, err.splitlines()[-1]) == ("", "Stopped. Files that were finished stay.")
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) is handler


def test_signals_that_are_ignored_stay_so():
    """As under nohup, or in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with shell.signalled():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_leaves_signals_alone():
    found = []

    def work():
        with shell.signalled():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_stop_is_no_fault_of_ours():
    """So that nothing takes it for one and goes on."""
    assert not issubclass(Stopped, Exception)
    assert Stopped(signal.SIGTERM).status == 143


# The program itself.


def program(*argv, **how):
    return subprocess.Popen([sys.executable, "-m", "pruning", *map(str, argv)], cwd=ROOT, text=True,
                            stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, **how)


def test_head_ends_it_quietly():
    ran = program("methods", stdout=subprocess.PIPE)
    ran.stdout.close()
    assert ran.stderr.read() == ""
    assert ran.wait(timeout=120) == 141


def test_closed_streams_take_no_file_of_ours(tmp_path, tiny_folder):
    """A file that got the number of standard output would be printed into."""
    ran = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "pruning", "plan",
                          str(tiny_folder), "--ratio", "0.5", "-o", str(tmp_path / "plan.json")], cwd=ROOT, timeout=300,
                         env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert ran.returncode == 1
    assert json.loads((tmp_path / "plan.json").read_text())["prunescope"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_draws(tmp_path, number, status):
    ran = program("generate", "emoji-ddpm", "--steps", 1000, "-o", tmp_path / "out", stdout=subprocess.PIPE)
    read = ""
    while "drawing" not in read:
        read += ran.stderr.read(1)
        assert ran.poll() is None, read
    ran.send_signal(number)
    out, err = ran.communicate(timeout=120)
    assert ran.returncode == status
    assert out == ""
    assert "Traceback" not in err
    assert err.endswith("Stopped. Files that were finished stay.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_while_it_starts(tmp_path, number, status):
    """While torch loads, which takes seconds: a shell says 130 and 143 then, too."""
    (tmp_path / "torch.py").write_text("import sys, time; print('here', flush=True); time.sleep(60)")
    ran = subprocess.Popen([sys.executable, "-m", "pruning", "methods"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                           stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert ran.stdout.readline() == "here\n"
    ran.send_signal(number)
    assert ran.communicate(timeout=60) == ("", "")
    assert ran.returncode == status
