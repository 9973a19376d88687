"""What goes wrong while a network is trained, and what is left afterwards."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from stand_ins import Watched

from unet_edu import UNet, checkpoints
from unet_edu.checkpoints import load_model, write_text
from unet_edu.data.augment import RandomCrops
from unet_edu.data.cells import Cells
from unet_edu.training import fit

HERE = Path(__file__).parent
EPOCHS, IMAGES = 3, 8


def train(folder: Path | str, look=lambda n: None, **settings) -> list[dict]:
    """A run whose order, pieces and dropout all draw random numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = UNet(1, 2, base_channels=4, depth=2, padding=1, dropout=0.3)
    drawn = {"size": 32, "diameter": 12}
    pieces = RandomCrops(Cells(4, seed=0, **drawn), 16, IMAGES)
    usual = {"epochs": EPOCHS, "batch_size": 2, "precision": "no", "device": "cpu"}
    return fit(
        model,
        Watched(pieces, look),
        Cells(3, seed=1, **drawn),
        folder=folder,
        progress=False,
        **usual | settings,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[dict]:
    return train(tmp_path_factory.mktemp("undisturbed"))


def python(code: str, *command: str, **settings) -> subprocess.CompletedProcess:
    """Run code that can import this file, by Python or by another program."""
    start = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_faults as t\n"
    return subprocess.run(
        [*(command or (sys.executable,)), "-c", start + code],
        capture_output=True,
        text=True,
        timeout=300,
        **settings,
    )


# --- Several processes, of which one dies.


def torchrun(tmp_path: Path, code: str, restarts: int) -> subprocess.CompletedProcess:
    script = tmp_path / "worker.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        f"import os; import test_faults as t\n{code}\n"
    )
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "--max-restarts", str(restarts), str(script)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def killed_once(n: int) -> None:
    """Kill the second process at its 6th image, in the middle of its second epoch."""
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and n == 6:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_is_killed_and_the_run_ends_as_if_it_had_not_been(tmp_path):
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    ended = torchrun(tmp_path, f"t.train({str(calm)!r}, batch_size=2)", 0)
    assert ended.returncode == 0, ended.stderr[-3000:]
    code = f"t.train({str(torn)!r}, t.killed_once, batch_size=2, resume=True)"
    ended = torchrun(tmp_path, code, 0)
    assert ended.returncode != 0
    history = json.loads((torn / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1]

    ended = torchrun(tmp_path, code, 1)
    assert "exitcode: -9" in ended.stderr
    assert ended.returncode == 0, ended.stderr[-3000:]
    expected = json.loads((calm / "history.json").read_text())
    assert json.loads((torn / "history.json").read_text()) == expected
    assert len(expected) == EPOCHS


def test_two_processes_share_the_images(tmp_path, undisturbed):
    code = (
        "given = []\n"
        f"history = t.train({str(tmp_path / 'run')!r}, given.append, epochs=1)\n"
        "said = [os.environ['RANK'], len(given), history[0]['step'],"
        " repr(history[0]['loss']), repr(history[0]['val_loss'])]\n"
        # In one write, or the lines of two processes may run into each other.
        "os.write(1, (' '.join(map(str, said)) + '\\n').encode())"
    )
    ended = torchrun(tmp_path, code, 0)
    assert ended.returncode == 0, ended.stderr[-3000:]
    # Gloo, too, may print who is connected.
    printed = [line for line in ended.stdout.splitlines() if line[:1].isdigit()]
    lines = sorted(line.split() for line in printed)
    assert [line[0] for line in lines] == ["0", "1"]
    # Half of the images each, and the loss of all in the records of both.
    assert {line[1] for line in lines} == {str(IMAGES // 2)}
    assert {line[2] for line in lines} == {str(IMAGES // 2 // 2)}
    assert lines[0][3:] == lines[1][3:]


# --- A full disk.


def limited(folder: str, size: int, after: int) -> None:
    """Train where no file may grow beyond ``size`` bytes after some images."""

    def look(n: int) -> None:
        if n == after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    train(folder, look)


@pytest.mark.parametrize("size", [1_000, 30_000, 60_000])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, undisturbed, size):
    stopped = python(f"t.limited({str(tmp_path)!r}, {size}, {IMAGES + 1})")
    assert stopped.returncode == 1
    last = stopped.stderr.splitlines()[-1]
    for words in (
        "No room for the checkpoint of epoch 2 in",
        "epoch-0001 is whole",
        "Free about",
        "resume=True",
    ):
        assert words in last
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.safetensors",
        "epoch-0001",
        "history.json",
    }
    load_model(tmp_path / "best.safetensors")
    assert train(tmp_path, resume=True) == undisturbed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_file_that_was_there(tmp_path, number):
    file = tmp_path / "masks" / "a.txt"
    write_text(file, "before")

    def write(partial: Path) -> None:
        partial.write_text("half of")
        raise OSError(number, "full")

    with pytest.raises(OSError, match=r"No room to write .*a\.txt") as error:
        checkpoints.write_atomically(file, write)
    assert error.value.errno == number
    for words in ("are free there", "What it held before is whole", "Make room on"):
        assert words in str(error.value)
    assert file.read_text() == "before"
    assert list(file.parent.iterdir()) == [file]


def test_an_error_that_names_another_disk_still_does(tmp_path):
    # A temporary file may lie elsewhere: that disk is to be freed, not this one.
    file = tmp_path / "a.txt"
    write_text(file, "before")

    def write(partial: Path) -> None:
        raise checkpoints.NoRoom(errno.ENOSPC, "There is no room in the other folder.")

    with pytest.raises(checkpoints.NoRoom, match="no room in the other folder") as told:
        checkpoints.write_atomically(file, write)
    assert f"{file} is as it was before" in str(told.value)
    assert "Make room on" not in str(told.value)
    assert file.read_text() == "before"


def test_another_error_is_not_taken_for_a_full_disk(tmp_path):
    def write(partial: Path) -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError, match="no"):
        checkpoints.write_atomically(tmp_path / "a.txt", write)


# --- Files from a stranger.


class Bomb:
    """What a pickle may do: run a program of the sender's as it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def bomb(tmp_path) -> Bomb:
    return Bomb(tmp_path / "it-went-off")


def test_the_bomb_goes_off_where_nobody_takes_care(tmp_path, bomb):
    torch.save({"settings": bomb}, tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert bomb.file.exists()


def test_a_checkpoint_of_a_stranger_runs_no_code(tmp_path, bomb):
    run = tmp_path / "run"
    train(run)
    (state,) = run.glob("epoch-*/state.pt")
    torch.save({"settings": bomb}, state)
    with pytest.raises(ValueError, match=r"no code in it was run\. Remove its folder"):
        train(run, resume=True)
    assert not bomb.file.exists()


def test_weights_of_a_stranger_run_no_code(tmp_path, bomb):
    torch.save({"weight": bomb}, tmp_path / "best.safetensors")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(tmp_path / "best.safetensors")
    assert not bomb.file.exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_damaged_checkpoint_is_named(tmp_path, kept):
    train(tmp_path, epochs=1)
    state = tmp_path / "epoch-0001" / "state.pt"
    state.write_bytes(state.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"state\.pt is no checkpoint .* damaged"):
        train(tmp_path, epochs=1, resume=True)


# --- Ctrl-C.


def test_ctrl_c_leaves_a_run_that_can_go_on(tmp_path, undisturbed):
    started = tmp_path / "started"
    run = tmp_path / "run"
    code = (
        "import pathlib, signal, time\n"
        # Whatever a shell runs in the background starts with Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def look(n):\n"
        f"    if n == {IMAGES + 3}:\n"
        f"        pathlib.Path({str(started)!r}).touch(); time.sleep(60)\n"
        f"t.train({str(run)!r}, look)"
    )
    start = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_faults as t\n"
    process = subprocess.Popen(
        [sys.executable, "-c", start + code], stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 120
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert {path.name for path in run.glob("epoch-*")} == {"epoch-0001"}
    assert train(run, resume=True) == undisturbed
