"""What every model of the list must do, whatever it is made of."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_edu.checkpoints import load_model, save_weights
from unet_edu.data.cells import Cells
from unet_edu.families import FAMILIES, create_model, family_of, list_models
from unet_edu.fcn import extend
from unet_edu.inference import predict
from unet_edu.ledger import ledger
from unet_edu.losses import cross_entropy
from unet_edu.training import fit

# The smallest settings with all parts of a model.
CONV = {"base_channels": 4, "depth": 2}
TINY = {
    "unet": CONV,
    "fcn32s": {"base_channels": 2},
    "fcn16s": {"base_channels": 2},
    "fcn8s": {"base_channels": 2},
    "attention_unet": CONV,
    "unet_plus_plus": CONV,
    "unet_3plus": CONV,
    "res_unet": CONV,
    "multires_unet": CONV,
    "r2_unet": CONV,
    "se_unet": CONV,
    "sa_unet": CONV,
    "aspp_unet": CONV,
    "ce_net": CONV,
    "trans_unet": {
        **CONV,
        **{"encoder": "unet", "embed_dim": 8, "layers": 1, "heads": 2},
        "image_size": 32,
    },
    "unetr": {**CONV, "embed_dim": 8, "layers": 4, "heads": 2, "image_size": 32},
    "swin_unet": {"embed_dim": 8, "stages": 2, "heads": 2, "window": 4},
    "probabilistic_unet": {**CONV, "latent_dim": 2},
    "dropout_unet": CONV,
    "stochastic_unet": {**CONV, "rank": 2, "draws": 3},
    "pyramid_unet": CONV,
    "late_fusion_unet": CONV,
    "dense_fusion_unet": CONV,
    "unet_3d": CONV,
}
# FCN starts with scores of zero, so that at first nothing behind them has a gradient.
SILENT_AT_FIRST = ("fcn32s", "fcn16s", "fcn8s")


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, n_channels: int = 1, n_classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, n_channels, n_classes, **TINY[name])


def images(n: int, n_channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, n_channels, height, width, generator=generator)


def total_loss(model: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if hasattr(model, "training_loss"):
        return model.training_loss(x, mask, cross_entropy)
    return cross_entropy(model(x), mask)


@pytest.mark.parametrize("name", list_models())
class TestEveryModel:
    @pytest.mark.parametrize("n_channels", [1, 3])
    @pytest.mark.parametrize("n_classes", [1, 2, 5])
    def test_shapes(self, name, n_channels, n_classes):
        model = build(name, n_channels, n_classes)
        for mode in (True, False):
            logits = model.train(mode)(images(2, n_channels, 32, 32))
            assert logits.shape == (2, n_classes, 32, 32)
            assert logits.isfinite().all()

    @pytest.mark.parametrize("size", [(33, 47), (16, 40), (31, 64)])
    def test_odd_sizes(self, name, size):
        logits = build(name).eval()(images(1, 1, *size))
        assert logits.shape == (1, 2, *size)

    def test_a_size_that_does_not_fit_is_extended_and_cut(self, name):
        if name == "unet":
            pytest.skip("unet pools odd maps as they are (chapter 6)")
        model, x = build(name).eval(), images(1, 1, 29, 35)
        with torch.no_grad():
            whole = model(extend(x, 2**model.depth))
            assert whole.shape[-2:] != x.shape[-2:]
            torch.testing.assert_close(model(x), whole[..., :29, :35])

    @pytest.mark.parametrize("n_classes", [1, 2, 5])
    def test_backward_reaches_every_parameter(self, name, n_classes):
        model = build(name, 3, n_classes).train()
        if name in SILENT_AT_FIRST:
            for score in model.head.scores:
                nn.init.normal_(score.weight)
        x = images(2, 3, 32, 32)
        mask = (x[:, 0] * max(n_classes, 2)).long()
        total_loss(model, x, mask).backward()
        without = [
            key
            for key, p in model.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
        ]
        assert not without
        learned = [p for p in model.parameters() if p.requires_grad]
        moved = [p for p in learned if p.grad.abs().sum() > 0]
        assert len(moved) > 0.9 * len(learned)

    def test_bf16(self, name):
        model, x = build(name).train(), images(2, 1, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            loss = total_loss(model, x, (x[:, 0] > 0.5).long())
        loss.backward()
        assert loss.isfinite()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in gradients)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert model.eval()(x).shape == (2, 2, 32, 32)

    def test_eval_is_deterministic_and_a_batch_is_its_images(self, name):
        model, x = build(name).train(), images(3, 1, 32, 48)
        with torch.no_grad():
            model(x)  # moves the running statistics of batch norm
            model.eval()
            torch.manual_seed(1)
            first = model(x)
            torch.manual_seed(2)
            assert torch.equal(first, model(x))
            one_by_one = torch.cat([model(image[None]) for image in x])
        torch.testing.assert_close(first, one_by_one, rtol=1e-4, atol=1e-5)

    def test_weights_go_to_a_file_and_back(self, name, tmp_path):
        model, x = build(name), images(2, 1, 32, 32)
        with torch.no_grad():
            model(x)
        save_weights(model, tmp_path / "weights.safetensors")
        torch.manual_seed(5)
        other = load_model(tmp_path / "weights.safetensors")
        assert type(other) is type(model)
        assert not other.training
        with torch.no_grad():
            assert torch.equal(model.eval()(x), other(x))

    def test_fit_and_predict(self, name):
        model = build(name)
        data = Cells(2, size=32, diameter=12)
        before = [p.detach().clone() for p in model.parameters()]
        history = fit(
            model, data, data, epochs=1, batch_size=2, device="cpu", progress=False
        )
        assert 0 < history[0]["loss"] < 10
        pairs = zip(model.parameters(), before, strict=True)
        assert any(not torch.equal(after, p) for after, p in pairs)
        p = predict(model, data[0][0][None, :, :30, :31])
        assert p.shape == (1, 2, 30, 31)
        torch.testing.assert_close(p.sum(1), torch.ones(1, 30, 31))

    def test_export(self, name):
        model, x = build(name).eval(), images(1, 1, 32, 32)
        program = torch.export.export(model, (x,))
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), model(x))

    def test_ledger_counts_what_pytorch_counts(self, name):
        model = build(name).eval()
        book = ledger(model, (1, 1, 32, 32))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images(1, 1, 32, 32))
        # PyTorch leaves biases out.
        without_biases = counter.get_total_flops() // 2
        assert without_biases <= book.mult_adds <= 1.2 * without_biases

    def test_meta(self, name):
        with torch.device("meta"):
            model = create_model(name, 1, 2)
            assert model(torch.empty(1, 1, 224, 224)).shape == (1, 2, 224, 224)

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (torch.rand(1, 2, 32, 32), ValueError, r"built for 1 channel\(s\)"),
            (torch.rand(1, 32, 32), ValueError, r"batch \(N, C, H, W\)"),
            (torch.ones(1, 1, 32, 32).long(), TypeError, "floating-point images"),
            ([[0.0]], TypeError, "Expected a torch.Tensor"),
        ],
    )
    def test_ill_images(self, name, x, error, message):
        with pytest.raises(error, match=message):
            build(name)(x)

    @pytest.mark.parametrize("channels", [(0, 2), (1, 0), (1.5, 2), (1, -1)])
    def test_ill_channels(self, name, channels):
        with pytest.raises(ValueError, match="must be an integer >= 1"):
            create_model(name, *channels)

    def test_says_what_it_is(self, name):
        doc = type(build(name)).__doc__
        assert "Source:" in doc
        assert "chapter" in doc


def test_every_family_is_there():
    assert FAMILIES[0] == "plain"
    assert len(FAMILIES) == 7
    improved = [name for name in list_models() if family_of(name) != "plain"]
    assert len(improved) >= 18
    assert [name for f in FAMILIES for name in list_models(f)] == list_models()
    assert len(set(list_models())) == len(list_models())
    assert set(TINY) == set(list_models())


ILL = [
    (("u_net", 1, 2), {}, "no model 'u_net'. Did you mean unet"),
    (("atention_unet", 1, 2), {}, "Did you mean attention_unet"),
    (("zzz", 1, 2), {}, "Did you mean unet or fcn32s"),
    (("fcn8s", 1, 2), {"stride": 4}, "fcn8s has no setting 'stride'. It has: base_ch"),
    (
        ("unet", 1, 2),
        {"width": 4},
        "no setting 'width'. It has: bilinear, base_channels",
    ),
    (
        ("swin_unet", 1, 2),
        {"depth": 2},
        "swin_unet has no setting 'depth'. It has: emb",
    ),
]


@pytest.mark.parametrize(("args", "settings", "message"), ILL)
def test_ill_requests(args, settings, message):
    with pytest.raises(ValueError, match=message):
        create_model(*args, **settings)


def test_ill_family():
    with pytest.raises(ValueError, match="family must be one of plain, skip, backbone"):
        list_models("encoder")
