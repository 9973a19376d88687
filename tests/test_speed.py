"""What makes a network faster or lighter, and the study that measures it."""

import copy
import math

import numpy as np
import pytest
import torch
from stand_ins import lively
from torch import nn
from torch.utils.data import TensorDataset

from unet_edu import FCN, UNet, speed, studies
from unet_edu.families import create_model
from unet_edu.inference import predict, predict_tiled
from unet_edu.studies import Result, Spread, run_study
from unet_edu.training import evaluate, fit

study = studies.load_study("speed")


pytestmark = pytest.mark.usefixtures("one_thread")


def unet(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(1, 2, **{"base_channels": 4, "depth": 2, "padding": 1} | settings)


def pairs(n: int = 4) -> TensorDataset:
    torch.manual_seed(1)
    return TensorDataset(torch.rand(n, 1, 16, 16), torch.randint(0, 2, (n, 16, 16)))


# --- Which devices multiply in 16 bits.


@pytest.mark.parametrize(
    ("avx", "amx", "expected"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_a_processor_has_bf16_by_either_instruction(monkeypatch, avx, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert speed.has_bf16("cpu") is expected


def test_a_gpu_that_imitates_bf16_does_not_have_it(monkeypatch):
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert speed.has_bf16("cuda") is False
    assert asked == [False]


def test_of_other_devices_nothing_is_known():
    assert speed.has_bf16("mps") is False


@pytest.mark.parametrize("has", [True, False])
def test_fit_uses_bf16_where_the_processor_has_it(monkeypatch, tmp_path, has):
    monkeypatch.setattr("unet_edu.training.has_bf16", lambda device: has)
    seen = []
    model = unet()
    model.outc.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    # Logits leave the whole network in float32: inside, the last layer tells.
    model.outc.conv.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    fit(model, pairs(), epochs=1, device="cpu", folder=tmp_path, progress=False)
    assert seen[0] == (torch.bfloat16 if has else torch.float32)
    state = torch.load(tmp_path / "epoch-0001" / "state.pt", weights_only=True)
    assert state["settings"]["precision"] == ("bf16" if has else "no")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# --- Batch norm folded into the convolution before it.


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (unet(), 0),
        (unet(padding=0, align="crop"), 0),
        (unet(bilinear=True), 0),
        (unet(norm=False), 0),
        (FCN(1, 2, 8, base_channels=4), 0),
        # Its batch norms come before the convolutions: there is nothing to fold into.
        (create_model("res_unet", 1, 2, base_channels=4, depth=2), None),
        (create_model("attention_unet", 1, 2, base_channels=4, depth=2), None),
    ],
    ids=["padded", "paper", "bilinear", "no norm", "fcn", "res_unet", "attention"],
)
def test_folding_changes_no_answer(model, left):
    model = lively(copy.deepcopy(model)).train()
    x = torch.rand(2, 1, 96, 96)
    before = copy.deepcopy(model.state_dict())
    fused = speed.fuse_batch_norm(model)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(x)
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    assert model.training
    assert not fused.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    if left is not None:
        assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == left


# --- Maps that are forgotten.


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, 0.6),
        ({"padding": 0}, 0.6),
        ({"fuse": "add"}, 0.6),
        # Without batch norm a block has fewer maps to forget.
        ({"norm": False}, 0.75),
        ({"bilinear": True}, 0.6),
    ],
    ids=str,
)
def test_forgetting_changes_nothing_but_memory(settings, left):
    kept = unet(**settings).train()
    forgetful = speed.checkpoint_activations(copy.deepcopy(kept))
    x = torch.rand(2, 1, 64, 64)
    assert study.saved_bytes(forgetful, x) < left * study.saved_bytes(kept, x)
    for net in (kept, forgetful):
        net(x).square().mean().backward()
    for a, b in zip(kept.parameters(), forgetful.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert all(
        torch.equal(a, b)
        for a, b in zip(kept.buffers(), forgetful.buffers(), strict=True)
    )
    assert kept.state_dict().keys() == forgetful.state_dict().keys()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_fit_trains_a_network_that_forgets(precision):
    weights = []
    for change in (lambda net: net, speed.checkpoint_activations):
        net = change(unet(norm=precision == "no"))
        fit(net, pairs(), epochs=2, precision=precision, device="cpu", progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*weights)


def test_after_the_second_run_batch_norm_is_as_it_was():
    net = speed.checkpoint_activations(unet())
    net.train()(torch.rand(2, 1, 16, 16)).mean().backward()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(n.momentum, n.num_batches_tracked.item()) for n in norms} == {(0.1, 1)}


def test_a_network_without_blocks_cannot_forget():
    with pytest.raises(ValueError, match="Linear has no DoubleConv"):
        speed.checkpoint_activations(nn.Linear(1, 1))


# --- The order of the axes.


def test_weights_are_laid_out_with_channels_innermost():
    net = unet()
    assert speed.prefer_channels_last(net)
    weight = net.down1.maxpool_conv[1].double_conv[0].weight
    assert weight.stride(1) == 1
    assert not speed.prefer_channels_last(nn.Conv3d(1, 2, 3))


def test_tiles_of_a_network_as_it_was_loaded_are_as_of_one_that_was_trained():
    net, image = lively(unet()), torch.rand(1, 64, 80)
    with torch.no_grad():
        tiles = predict_tiled(net, image, 64, 32, progress=False)
        again = predict_tiled(net, image, 64, 32, progress=False)
    assert torch.equal(tiles, again)
    assert predict(net, image[None])[0].shape == tiles.shape


# --- The same answers as MONAI's sliding windows.


@pytest.mark.parametrize("side", [160, 192, 256])
def test_tiles_agree_with_monai(side):
    config = study.CONFIG | {"tile": 64, "overlap": 32}
    net, image = lively(unet()).eval(), study.noise(side)
    ours = study.tiled(net, image, config)
    theirs = study.sliding(net, image, config, study.window(config))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


# --- The study.


def test_quick_measures_every_part(tmp_path, isbi2012_files):
    out = tmp_path / "quick.json"
    result = run_study("speed", seeds=1, quick=True, out=out, progress=False)
    parts = {run["key"]["part"] for run in result.record["runs"]}
    full = Result.read("speed_cpu")
    assert parts | {"compile"} == {run["key"]["part"] for run in full.record["runs"]}
    for part in parts:
        (quick, *_), (whole, *_) = result.runs(part=part), full.runs(part=part)
        optional = {"whole"}  # only for images that are predicted in one piece
        assert set(quick["values"]) - optional == set(whole["values"]) - optional
        for name, value in quick["values"].items():
            assert math.isfinite(value)
            # The difference of two times, which may come out below zero.
            assert value >= 0 or name == "added"


def test_compiling_is_measured_without_and_with_the_other_switches(monkeypatch):
    # That PyTorch can compile takes most of a minute and is not our business.
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: asked.append(self))
    values = study.compiled(study.CONFIG | study.QUICK, "cpu")
    assert len(asked) == 2
    full = Result.read("speed_cpu").runs(part="compile")[0]["values"]
    assert values.keys() == full.keys()
    assert all(math.isfinite(value) for value in values.values())


def test_a_process_of_the_study_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)ended with 1\..*'nothing'"):
        study.elsewhere("nothing()")


def test_a_process_of_the_study_knows_what_it_is_told():
    assert study.elsewhere("os.environ['LOUD']", LOUD="1") == "1"


def test_a_gpu_is_asked_for_more_work_at_once(monkeypatch, tmp_path):
    assert study.ON["cuda"].keys() <= study.CONFIG.keys()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(study, "run", lambda key, config, *_: {"config": config})
    monkeypatch.setattr(studies, "load_study", lambda name: study)
    out = tmp_path / "speed.json"
    record = run_study("speed", device="cuda", out=out, progress=False).record
    assert record["config"] == study.CONFIG | study.ON["cuda"]
    assert record["device"] == "a GPU"
    compiled = [run for run in record["runs"] if run["key"]["part"] == "compile"]
    assert len(compiled) == 1


def test_on_one_gpu_two_processes_are_not_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(study.subprocess, "run", lambda *_, **__: pytest.fail("ran"))
    values = study.measure_processes({"seed": 0}, study.CONFIG, "cuda")
    full = Result.read("speed_cpu").runs(part="processes")[0]["values"]
    assert values.keys() == full.keys()
    assert all(map(math.isnan, values.values()))


def test_the_committed_result_is_the_study_of_the_repository():
    record = Result.read("speed_cpu").record
    assert record["question"] == study.QUESTION
    assert record["config"] == study.CONFIG
    assert len(record["seeds"]) >= 3
    planned = [
        k for stage in study.stages(study.CONFIG, record["seeds"]) for k in stage
    ]
    assert [run["key"] for run in record["runs"]] == planned


def test_a_study_of_times_is_run_alone_and_kept_by_device(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "folder", lambda name: tmp_path)
    monkeypatch.setattr(studies, "load_study", lambda name: lab)
    monkeypatch.setattr(studies, "names", lambda: ["lab"])

    class lab:
        QUESTION, CONFIG, QUICK, ALONE = "?", {}, {}, True
        stages = staticmethod(lambda config, seeds: [[{"seed": s} for s in seeds]])
        run = staticmethod(lambda *args: {"two": 2.0, "one": 1.0 + args[0]["seed"]})

    # In this process, or the lab would not be known there.
    result = run_study("lab", seeds=3, progress=False)
    assert (tmp_path / "lab_cpu.json").is_file()
    assert result.ratio("two", "one") == Spread(2 / 3, 1.0, 2.0)
    assert str(result.ratio("two", "one")) == "1.00 (0.67 to 2.00)"


def test_the_bytes_that_are_counted_are_those_of_the_ledger():
    values = study.measure_kept({"depth": 2}, study.CONFIG, "cpu")
    assert values["kept_counted"] == pytest.approx(values["kept"], rel=0.02)
    assert values["kept_forget"] < 0.6 * values["kept"]
    net = unet(base_channels=16)
    assert values["weights"] == 4 * sum(p.numel() for p in net.parameters())


def test_the_window_is_that_of_predict_tiled():
    from unet_edu.inference import _window

    side = torch.from_numpy(_window(64, "gaussian"))
    expected = (side[:, None] * side).float()
    torch.testing.assert_close(study.window({"tile": 64}), expected)


def test_a_compiled_network_keeps_the_names_of_its_weights(tmp_path):
    net = unet()
    names = list(net.state_dict())
    net.compile(backend="eager")  # what is compiled to is not our business
    fit(net, pairs(), epochs=1, device="cpu", folder=tmp_path, progress=False)
    assert list(net.state_dict()) == names
    assert np.isfinite(evaluate(net, pairs())["loss"])
