"""Training: it learns, it repeats, it survives being killed, it says what is wrong."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stand_ins import Watched
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from unet_edu import UNet, losses, training
from unet_edu.checkpoints import load_unet, save_weights
from unet_edu.data.augment import RandomCrops
from unet_edu.data.cells import Cells
from unet_edu.inference import predict
from unet_edu.training import NonFiniteLoss, crop_mask, cross_entropy, evaluate, fit

SMALL = {"size": 32, "diameter": 12}
EPOCHS, IMAGES = 3, 4  # of the runs below, in batches of two


pytestmark = pytest.mark.usefixtures("one_thread")


def net(n_classes: int = 2, *, seed: int = 0, **settings) -> UNet:
    torch.manual_seed(seed)
    return UNet(
        1, n_classes, **{"base_channels": 2, "depth": 2, "padding": 1} | settings
    )


def cells(n: int = IMAGES, seed: int = 0) -> Cells:
    return Cells(n, seed=seed, **SMALL)


def run(model: nn.Module, train: Dataset, val: Dataset | None = None, **settings):
    usual = {"epochs": EPOCHS, "batch_size": 2, "device": "cpu", "progress": False}
    usual["precision"] = "no"  # the same numbers on every processor
    return fit(model, train, val, **usual | settings)


def same_weights(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def strict_json(file: Path):
    """Read JSON as the standard has it: without NaN, which Python's reader lets by."""

    def refuse(word: str):
        raise ValueError(f"{file.name} holds {word}, which is not JSON")

    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


# --- It learns.


def test_it_learns_what_no_constant_knows():
    train, val = cells(8), cells(4, seed=1)
    model = net(base_channels=4)
    history = run(model, train, epochs=20, lr=1e-2)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    # Without looking, nobody does better than the frequency of the classes.
    membrane = torch.stack([mask for _, mask in (val[i] for i in range(4))]) == 1
    p = membrane.double().mean().item()
    blind = -p * math.log(p) - (1 - p) * math.log(1 - p)
    record = evaluate(model, val)
    assert record["loss"] < 0.8 * blind
    assert record["accuracy"] > max(p, 1 - p) + 0.05
    assert min(record["iou"]) > 0.4


def test_the_record_of_an_epoch():
    rates = []

    def loss(logits, mask):
        rates.append(cross_entropy(logits, mask))
        return rates[-1]

    history = run(net(), cells(), loss=loss)
    assert [set(record) for record in history] == [{"epoch", "step", "loss", "lr"}] * 3
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert [record["step"] for record in history] == [2, 4, 6]
    for epoch, record in enumerate(history):
        mean = (rates[2 * epoch].item() + rates[2 * epoch + 1].item()) / 2
        assert record["loss"] == pytest.approx(mean)
        assert 0 < record["lr"] <= 3e-3


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_rate_is_legal_in_the_shortest_runs(steps):
    # PyTorch's one-cycle schedule alone fails with a single step.
    history = run(net(), cells(2), epochs=steps)
    assert len(history) == steps
    assert all(0 < record["lr"] <= 3e-3 for record in history)


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_numbers_of_classes(n_classes):
    history = run(net(n_classes), cells(), cells(2, seed=1), epochs=1)
    for name in ("val_iou", "val_dice"):
        assert len(history[0][name]) == max(n_classes, 2)
    assert math.isfinite(history[0]["val_loss"])


def test_an_absent_class_is_nan_and_not_zero():
    model = net(3)
    with torch.no_grad():
        model.outc.conv.bias[2] = -100  # never predicted, and in no mask
    record = run(model, cells(), cells(2, seed=1), epochs=1)[0]
    for name in ("val_iou", "val_dice"):
        cell, membrane, absent = record[name]
        assert math.isnan(absent)
        assert 0 <= min(cell, membrane) <= max(cell, membrane) <= 1


def test_an_unpadded_network_is_trained_on_the_middle_of_the_mask():
    mask = torch.arange(2).repeat(2, 32, 16)
    mask[:, 4:28, 4:28] = 1 - mask[:, 4:28, 4:28]
    seen = []

    def loss(logits, cut):
        seen.append((logits.shape, cut))
        return cross_entropy(logits, cut)

    data = TensorDataset(torch.rand(2, 1, 32, 32), mask)
    run(net(depth=1, padding=0), data, data, epochs=1, loss=loss)
    assert [shape for shape, _ in seen] == [(2, 2, 24, 24)] + 2 * [(1, 2, 24, 24)]
    assert all(torch.equal(cut, mask[: len(cut), 4:28, 4:28]) for _, cut in seen)


# --- It repeats.


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    def trained(seed: int) -> dict:
        model = net(dropout=0.3)
        run(model, RandomCrops(cells(), 16, 8), seed=seed)
        return model.state_dict()

    first = trained(1)
    torch.rand(5)  # the state of the generator before a run does not count
    assert same_weights(first, trained(1))
    assert not same_weights(first, trained(2))


def test_every_epoch_has_an_order_of_its_own():
    order = []

    class Numbered(Watched):
        def __getitem__(self, index: int):
            order.append(index)
            return super().__getitem__(index)

    run(net(), Numbered(cells(8), lambda n: None))
    epochs = [tuple(order[i : i + 8]) for i in (0, 8, 16)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len(set(epochs)) == 3


# --- It survives being killed.


def long_run(folder: Path | None, look=lambda n: None, **settings) -> tuple[list, UNet]:
    """The run that is killed: order, pieces and dropout all draw random numbers."""
    model = net(dropout=0.3)
    data = Watched(RandomCrops(cells(), 16, IMAGES), look)
    history = run(model, data, cells(2, seed=1), folder=folder, **settings)
    return history, model


def kill_myself(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def victim(folder: str, moment: str) -> None:
    """Train and be killed at a moment; called in a process of its own."""
    torch.set_num_threads(1)
    calls = {"save": 0, "text": 0}

    def write(path, content) -> None:
        calls["save"] += 1
        if calls["save"] == 2:
            path.write_bytes(b"the first half of a file")
            kill_myself()
        whole_write(path, content)

    def write_json(path, value) -> None:
        calls["text"] += 1
        if calls["text"] == {"text 2": 2, "text 3": 3}.get(moment):
            kill_myself()
        whole_text(path, value)

    whole_write, whole_text = training.write_atomically, training.write_json
    if moment == "save 2":
        training.write_atomically = write
    training.write_json = write_json
    item = {"item 7": 7, "item 9": 9}.get(moment)
    long_run(Path(folder), lambda n: kill_myself() if n == item else None)


def child(call: str) -> subprocess.CompletedProcess:
    """Run a function of this file in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += f"import test_training\ntest_training.{call}"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def undisturbed(one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    history, model = long_run(folder)
    return history, model.state_dict(), folder


@pytest.mark.parametrize(
    ("moment", "epochs_kept"),
    [
        pytest.param("item 7", 1, id="between the two steps of epoch 2"),
        pytest.param("save 2", 1, id="while checkpoint 2 is written"),
        pytest.param("text 2", 2, id="after checkpoint 2, before its history"),
        pytest.param("item 9", 2, id="between epochs 2 and 3"),
        pytest.param("text 3", 3, id="after the last checkpoint"),
    ],
)
def test_a_killed_run_ends_like_an_undisturbed_one(
    undisturbed, tmp_path, moment, epochs_kept
):
    history, weights, folder = undisturbed
    killed = child(f"victim({str(tmp_path)!r}, {moment!r})")
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    given = []
    resumed, model = long_run(tmp_path, given.append, resume=True)
    # It went on, and did not begin again.
    assert len(given) == (EPOCHS - epochs_kept) * IMAGES
    assert same_weights(model.state_dict(), weights)
    assert resumed == history
    assert strict_json(tmp_path / "history.json") == history
    best = load_file(tmp_path / "best.safetensors")
    assert same_weights(best, load_file(folder / "best.safetensors"))
    # No leftovers: the files of a killed run are those of an undisturbed one.
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(folder))


def test_resuming_a_finished_run_trains_no_more(undisturbed):
    history, weights, folder = undisturbed
    given = []
    again, model = long_run(folder, given.append, resume=True)
    assert given == []
    assert again == history
    assert same_weights(model.state_dict(), weights)


def test_resuming_where_there_is_no_run_begins_one(undisturbed, tmp_path):
    history, model = long_run(tmp_path / "new", resume=True)
    assert history == undisturbed[0]
    assert same_weights(model.state_dict(), undisturbed[1])


def test_a_folder_with_a_run_is_not_taken(undisturbed):
    folder = undisturbed[2]
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(FileExistsError, match=r"3 epoch.*resume=True.*another folder"):
        long_run(folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 4}, r"epochs was 3, is 4"),
        ({"batch_size": 4}, r"batch_size was 2, is 4"),
        ({"lr": 0.01}, r"lr was 0\.003, is 0\.01"),
        ({"seed": 7}, r"seed was 0, is 7"),
        ({"precision": "bf16"}, r"precision was 'no', is 'bf16'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_with_other_settings(undisturbed, settings, message):
    with pytest.raises(ValueError, match=message + r".*another folder"):
        long_run(undisturbed[2], resume=True, **settings)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (net(), cells(6), r"steps was 6, is 9"),
        (net(base_channels=3), cells(), r"does not fit this UNet: inc\.double_conv"),
    ],
    ids=["other data", "other network"],
)
def test_a_run_is_not_resumed_with_other(undisturbed, model, data, message):
    with pytest.raises(ValueError, match=message):
        run(model, data, folder=undisturbed[2], resume=True)


# --- What it keeps.


@pytest.mark.parametrize("n_classes", [2, pytest.param(3, id="3, one absent")])
def test_history_is_json_after_every_epoch(tmp_path, n_classes):
    model, lengths = net(n_classes), []
    if n_classes == 3:
        with torch.no_grad():
            model.outc.conv.bias[2] = -100

    def look(n: int) -> None:
        if n > IMAGES and n % IMAGES == 1:
            lengths.append(len(strict_json(tmp_path / "history.json")))

    run(model, Watched(cells(), look), cells(2, seed=1), folder=tmp_path)
    lengths.append(len(strict_json(tmp_path / "history.json")))
    assert lengths == [1, 2, 3]


def test_the_best_weights_are_kept_and_load(tmp_path, monkeypatch):
    # The score is given, so that the best epoch is neither the first nor the last.
    scores, states = iter([0.2, 0.8, 0.5]), []

    def judged(step_batch, model, data, device) -> dict:
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        score = next(scores)
        # A class that is absent does not spoil the mean.
        return {"val_accuracy": 0.5, "val_iou": [score, score, math.nan]}

    monkeypatch.setattr(training, "_evaluate", judged)
    run(net(), cells(), cells(2, seed=1), folder=tmp_path)
    best = load_unet(tmp_path / "best.safetensors")
    assert same_weights(best.state_dict(), states[1])
    assert not same_weights(states[1], states[2])


def test_without_val_the_last_weights_are_the_best(tmp_path):
    model = net()
    run(model, cells(), folder=tmp_path)
    best = load_unet(tmp_path / "best.safetensors")
    assert same_weights(best.state_dict(), model.state_dict())


# --- The step.


def test_the_fused_step_is_that_of_adamw(monkeypatch):
    """It walks over memory, where the weights lie with their channels innermost."""
    # Without batch norm: before it a bias has no gradient but rounding, which Adam
    # enlarges until the two could be compared no more.
    fused, plain = net(norm=False), net(norm=False)
    run(fused, cells())
    adamw, asked = torch.optim.AdamW, []

    def unfused(parameters, *, lr, fused):
        asked.append(fused)
        return adamw(parameters, lr=lr, fused=False, foreach=False)

    monkeypatch.setattr(torch.optim, "AdamW", unfused)
    run(plain, cells())
    assert asked == [True]
    assert not same_weights(net(norm=False).state_dict(), plain.state_dict())
    torch.testing.assert_close(
        fused.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-6
    )


# --- Mixed precision.


def fresh(folder: str) -> None:
    """Train in float32 in a process that has done nothing else."""
    torch.set_num_threads(1)
    model = net()
    run(model, cells())
    save_weights(model, Path(folder) / "fresh.safetensors")


def test_bf16_leaves_no_trace_in_the_next_run(tmp_path):
    mixed, plain = net(), net()
    history = run(mixed, cells(), precision="bf16")
    run(plain, cells(), precision="no")
    assert all(math.isfinite(record["loss"]) for record in history)
    assert not same_weights(mixed.state_dict(), plain.state_dict()), (
        "bf16 changed nothing"
    )
    alone = child(f"fresh({str(tmp_path)!r})")
    assert alone.returncode == 0, alone.stderr
    assert same_weights(load_file(tmp_path / "fresh.safetensors"), plain.state_dict())


@pytest.mark.parametrize("fails", [False, pytest.param(True)])
def test_after_bf16_the_model_computes_in_float32(fails):
    model = net()
    if fails:
        with pytest.raises(NonFiniteLoss):
            run(
                model,
                cells(),
                precision="bf16",
                loss=lambda logits, _: logits.mean() / 0,
            )
    else:
        run(model, cells(), precision="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    never_trained = net(seed=9)
    never_trained.load_state_dict(model.state_dict())
    never_trained.to(memory_format=torch.channels_last)
    x = cells(1)[0][0][None]
    with torch.no_grad():
        logits, expected = model.eval()(x), never_trained.eval()(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


# --- It says what is wrong.


def spoiled(value: float) -> TensorDataset:
    """Pairs of which every image has one bad pixel."""
    images = torch.rand(IMAGES, 1, 32, 32)
    images[:, 0, 5, 5] = value
    return TensorDataset(images, torch.zeros(IMAGES, 32, 32, dtype=torch.int64))


def loss_that_fails_at(step: int, value: float):
    """A loss whose ``step``-th value is no number."""
    count = []

    def loss(logits, mask):
        count.append(1)
        good = cross_entropy(logits, mask)
        return good * 0 + value if len(count) == step else good

    return loss


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        pytest.param(
            spoiled(math.nan),
            {},
            r"loss is nan at step 1, in epoch 1\. The images of this batch hold NaN",
            id="nan in an image",
        ),
        pytest.param(
            spoiled(math.inf),
            {},
            r"at step 1, in epoch 1\. The images of this batch hold NaN or infinity",
            id="inf in an image",
        ),
        pytest.param(
            cells(),
            {"loss": loss_that_fails_at(1, math.nan)},
            r"loss is nan at step 1, in epoch 1\. .*loss function",
            id="nan from the loss",
        ),
        pytest.param(
            cells(),
            {"loss": loss_that_fails_at(3, math.inf)},
            r"loss is inf at step 3, in epoch 2\. .*loss function",
            id="inf from the loss, later",
        ),
        pytest.param(
            cells(), {"lr": 1e20}, r"loss is nan at step 2, in epoch 1", id="lr 1e20"
        ),
        pytest.param(
            cells(),
            {"lr": 1e20},
            r"learning rate",
            id="lr 1e20, why",
        ),
    ],
)
def test_a_loss_that_is_no_number(data, settings, message):
    with pytest.raises(NonFiniteLoss, match=message):
        run(net(), data, **settings)


def test_a_loss_that_is_no_number_does_not_cost_the_run(undisturbed, tmp_path):
    # step 6 is the second of epoch 3; the loss sees val too: 2 + 2 calls an epoch.
    failing = loss_that_fails_at(10, math.nan)
    where = rf"step 6, in epoch 3.*last whole checkpoint is in {tmp_path}"
    with pytest.raises(NonFiniteLoss, match=where):
        long_run(tmp_path, loss=failing)
    assert len(strict_json(tmp_path / "history.json")) == 2
    history, model = long_run(tmp_path, resume=True)
    assert history == undisturbed[0]
    assert same_weights(model.state_dict(), undisturbed[1])


def pairs(n: int = IMAGES, *, values=(0, 1), dtype=torch.int64) -> TensorDataset:
    """Pairs whose masks hold given values."""
    mask = torch.tensor(values, dtype=dtype).repeat(n, 32, 32 // len(values))
    return TensorDataset(torch.rand(n, 1, 32, mask.shape[-1]), mask)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, ValueError, r"epochs must be an integer >= 1, got 0"),
        ({"epochs": 1.5}, ValueError, r"epochs must be an integer >= 1, got 1\.5"),
        ({"batch_size": 0}, ValueError, r"batch_size must be an integer >= 1, got 0"),
        ({"lr": 0.0}, ValueError, r"lr must be above 0 and finite, got 0\.0"),
        ({"lr": -1.0}, ValueError, r"lr must be above 0 and finite, got -1\.0"),
        ({"lr": math.nan}, ValueError, r"lr must be above 0 and finite, got nan"),
        ({"precision": "fp16"}, ValueError, r"one of auto, no, bf16; got 'fp16'"),
        ({"device": "tpu"}, ValueError, r"device must be one of None, cpu; got 'tpu'"),
        ({"train": pairs(0)}, ValueError, r"data set 'train' is empty"),
        ({"val": pairs(0)}, ValueError, r"data set 'val' is empty"),
        (
            {"train": pairs(values=(0, 255))},
            ValueError,
            r"class indices 0 to 1, found 0, 255\. .*\(mask == 255\)\.long\(\)",
        ),
        ({"train": pairs(values=(0, 2))}, ValueError, r"indices 0 to 1, found 0, 2\."),
        ({"train": pairs(values=(0, -1))}, ValueError, r"0 to 1, found -1, 0\."),
        ({"val": pairs(values=(0, 255))}, ValueError, r"found 0, 255\. .*== 255"),
        (
            {"train": pairs(dtype=torch.float32)},
            TypeError,
            r"integer class indices, got torch\.float32\. Use \.long\(\)",
        ),
    ],
    ids=[
        "epochs 0",
        "epochs 1.5",
        "batch size 0",
        "lr 0",
        "lr -1",
        "lr nan",
        "precision",
        "device",
        "train empty",
        "val empty",
        "mask 0 and 255",
        "mask 0 and 2",
        "mask 0 and -1",
        "mask of val 0 and 255",
        "mask float",
    ],
)
def test_fit_refuses(settings, error, message):
    with pytest.raises(error, match=message):
        run(net(), **{"train": pairs()} | settings)


# --- The parts.


@pytest.mark.parametrize(
    ("mask", "logits", "top", "left"),
    [
        ((32, 32), (32, 32), 0, 0),
        ((32, 32), (24, 24), 4, 4),
        ((32, 20), (24, 20), 4, 0),
        ((9, 10), (6, 5), 1, 2),
    ],
    ids=["equal", "smaller", "rows only", "odd"],
)
def test_crop_mask_cuts_the_middle(mask, logits, top, left):
    whole = torch.arange(mask[0] * mask[1]).reshape(1, *mask)
    cut = crop_mask(whole, torch.zeros(1, 2, *logits))
    assert cut.shape == (1, *logits)
    assert torch.equal(cut, whole[:, top : top + logits[0], left : left + logits[1]])


@pytest.mark.parametrize("logits", [(33, 32), (32, 33)])
def test_crop_mask_refuses_logits_larger_than_the_mask(logits):
    sizes = rf"logits are {logits[0]}x{logits[1]}, the mask only 32x32"
    with pytest.raises(ValueError, match=sizes):
        crop_mask(torch.zeros(1, 32, 32), torch.zeros(1, 2, *logits))


def test_cross_entropy_by_hand():
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1)  # one to three
    for value, p in [(0, 0.25), (1, 0.75)]:
        loss = cross_entropy(logits, torch.full((1, 1, 1), value))
        assert loss.item() == pytest.approx(-math.log(p))


def test_one_logit_is_two_of_which_one_is_zero():
    one, mask = torch.randn(2, 1, 5, 5), torch.randint(2, (2, 5, 5))
    two = torch.cat([torch.zeros_like(one), one], dim=1)
    torch.testing.assert_close(cross_entropy(one, mask), cross_entropy(two, mask))


class Threshold(nn.Module):
    """Calls a pixel class 1 if it is above one half; surely so, with large logits."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], dim=1) * self.scale


def test_evaluate_sums_before_it_divides():
    # Images of 2x2 and 1x2: the mean of two ratios would differ from the ratio of sums.
    data = [
        (torch.ones(1, 2, 2), torch.ones(2, 2, dtype=torch.int64)),  # all right
        (torch.zeros(1, 1, 2), torch.tensor([[0, 1]])),  # half right
    ]
    record = evaluate(Threshold(), data)
    assert record.keys() == {"loss", "accuracy", "iou", "dice"}
    assert record["accuracy"] == pytest.approx(5 / 6)
    assert record["iou"] == pytest.approx([1 / 2, 4 / 5])
    assert record["dice"] == pytest.approx([2 / 3, 8 / 9])
    # One pixel of six is wrong by 20; its image's mean is 10, the mean of both 5.
    assert record["loss"] == pytest.approx(5, abs=1e-3)


def test_evaluate_agrees_with_fit():
    model, val = net(), cells(2, seed=1)
    record = run(model, cells(), val, epochs=1)[0]
    for name, value in evaluate(model, val).items():
        assert value == pytest.approx(record[f"val_{name}"])


@pytest.mark.parametrize("training_mode", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_evaluate_restores_the_mode_and_leaves_the_model(training_mode, fails):
    model = net().train(training_mode)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    if fails:
        with pytest.raises(ValueError, match="found 0, 255"):
            evaluate(model, pairs(values=(0, 255)))
    else:
        evaluate(model, cells())
    assert {m.training for m in model.modules()} == {training_mode}
    # In training mode batch norm would have moved its running means.
    assert same_weights(model.state_dict(), before)


def test_evaluate_refuses_an_empty_data_set():
    with pytest.raises(ValueError, match=r"data set is empty"):
        evaluate(net(), pairs(0))


def test_a_map_after_the_mask_reaches_the_loss_cut_like_the_mask():
    seen = []

    def weighted(logits, mask, weights):
        assert weights.shape == mask.shape == (len(mask), *logits.shape[2:])
        seen.append(torch.equal(weights, mask * 3.0 + 1))
        return cross_entropy(logits, mask, weights)

    torch.manual_seed(0)
    masks = torch.randint(0, 2, (4, 32, 32))
    data = TensorDataset(torch.rand(4, 1, 32, 32), masks, masks * 3.0 + 1)
    # Unpadded, so that there is something to cut.
    model = UNet(1, 2, base_channels=2, depth=1, align="crop")
    fit(model, data, data, epochs=1, batch_size=2, loss=weighted, progress=False)
    assert seen == [True] * (2 + 4)
    assert evaluate(model, data, loss=weighted)["loss"] > 0


def test_weights_change_what_is_learned():
    torch.manual_seed(0)
    masks = torch.randint(0, 2, (8, 16, 16))
    images = torch.rand(8, 1, 16, 16)

    def share_of_ones(weight):
        torch.manual_seed(0)
        model = UNet(1, 2, base_channels=2, depth=1, padding=1)
        data = TensorDataset(images, masks, 1 + (weight - 1) * masks.float())
        fit(
            model,
            data,
            epochs=40,
            batch_size=8,
            lr=0.03,
            precision="no",
            progress=False,
        )
        return predict(model, images).argmax(1).float().mean().item()

    # Noise cannot be predicted, so the dear class is called wherever in doubt.
    assert share_of_ones(10.0) > 0.9 > 0.6 > share_of_ones(1.0)


class TrainsOnItsOwn(nn.Module):
    """A network that is trained on more than its logits."""

    n_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.asked = []

    def forward(self, x):
        return self.conv(x)

    def training_loss(self, images, mask, loss):
        self.asked.append((tuple(images.shape), tuple(mask.shape), images.dtype))
        return 2 * loss(self.conv(images), mask)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_model_with_a_loss_of_its_own_is_trained_on_it(precision):
    ours, plain = TrainsOnItsOwn(), nn.Conv2d(1, 2, 1)
    plain.load_state_dict(ours.conv.state_dict())
    settings = {"epochs": 1, "lr": 1e-9, "precision": precision, "batch_size": 2}
    own = run(ours, cells(4), cells(2, seed=1), **settings)
    other = run(plain, cells(4), cells(2, seed=1), **settings)
    assert len(ours.asked) == 2  # in training only: evaluation looks at the logits
    assert own[0]["loss"] == pytest.approx(2 * other[0]["loss"], rel=1e-2)
    assert own[0]["val_loss"] == pytest.approx(other[0]["val_loss"], rel=1e-2)


def test_a_loss_of_its_own_gets_the_maps_after_the_mask():
    model, seen = TrainsOnItsOwn(), []

    def loss(logits, mask, weights):
        seen.append(tuple(weights.shape))
        return (losses.pixel_cross_entropy(logits, mask) * weights).mean()

    data = [(image, mask, torch.ones(mask.shape)) for image, mask in cells(2)]
    run(model, data, loss=loss, epochs=1, batch_size=2)
    assert seen == [(2, *data[0][1].shape)]


def test_a_loss_of_its_own_is_not_asked_about_unknown_classes():
    data = [(image, mask + 1) for image, mask in cells(2)]
    with pytest.raises(ValueError, match="class"):
        run(TrainsOnItsOwn(), data, epochs=1)
