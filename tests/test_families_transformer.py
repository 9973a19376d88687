"""Transformers in a U: counts, weights of other code, windows, positions, padding."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks import selfattention
from monai.networks.nets import UNETR as MonaiUNETR
from monai.networks.nets import swin_unetr as monai
from torch import nn

from unet_edu.families.transformer import (
    UNETR,
    BilinearUp,
    PatchEmbedding,
    PatchExpand,
    PatchMerging,
    SelfAttention,
    StdConv,
    SwinBlock,
    SwinUNet,
    TransformerBlock,
    TransUNet,
    WindowAttention,
    from_windows,
    neighbours,
    to_map,
    to_tokens,
    to_windows,
)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the parameters of a module whose parameters come in the same order."""
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    with torch.no_grad():
        for p, q in pairs:
            assert p.shape == q.shape
            p.copy_(q)


# Settings, parameters of the public code, and why ours has more or fewer.
COUNTS = {
    # The public code's 8 decoder convolutions and ours differ by their biases.
    "TransUNet R50-ViT-B/16": (
        lambda: TransUNet(3, 9),
        *(105_277_081, 2 * (256 + 128 + 64 + 16)),
    ),
    # A layer norm for cross-attention in each block of MONAI's that nothing uses.
    "MONAI UNETR": (
        lambda: UNETR(1, 1, embed_dim=192, heads=6, mlp_dim=768, image_size=128),
        *(6_480_113, -12 * 2 * 192),
    ),
    # The bias of OutConv.
    "Swin-Unet tiny": (lambda: SwinUNet(3, 9), 27_168_900, 9),
}


@pytest.mark.parametrize(("build", "public", "more"), COUNTS.values(), ids=COUNTS)
def test_parameters(build, public, more):
    with torch.device("meta"):
        assert count(build()) == public + more


def test_parts_of_transunet():
    with torch.device("meta"):
        net = TransUNet(3, 9)
        maps, x = [], torch.empty(1, 3, 224, 224)
        for stage in net.encoder:
            x = stage(x)
            maps.append(tuple(x.shape[1:]))
        assert net(torch.empty(1, 3, 97, 230)).shape == (1, 9, 97, 230)
    assert maps == [(64, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14)]
    # ViT-B has 85,054,464 in its blocks; a block is 12 dim^2 + 13 dim.
    assert count(net.blocks) == 12 * (12 * 768**2 + 13 * 768) == 85_054_464
    assert [len(stage) for stage in net.encoder] == [3, 1 + 3, 4, 9]
    joined = [up.conv.double_conv[0].in_channels for up in net.ups]
    assert joined == [512 + 512, 256 + 256, 128 + 64, 64]


def test_transunet_with_the_encoder_of_our_unet():
    net = TransUNet(
        *(1, 2), base_channels=4, depth=3, encoder="unet", embed_dim=8, layers=1,
        heads=2, image_size=32,
    )  # fmt: skip
    assert len(net.encoder) == 4
    assert len(net.ups) == 3
    assert net.embedding.position.shape == (1, 8, 4, 4)
    joined = [up.conv.double_conv[0].in_channels for up in net.ups]
    assert joined == [16 + 16, 8 + 8, 4 + 4]
    assert net.eval()(torch.rand(1, 1, 13, 40)).shape == (1, 2, 13, 40)


def transplant_unetr(net: UNETR, reference: nn.Module) -> None:
    embedding = reference.vit.patch_embedding
    copy(net.embedding.project, embedding.patch_embeddings)
    with torch.no_grad():
        position = embedding.position_embeddings[0].T
        net.embedding.position.copy_(position.reshape(net.embedding.position.shape))
    for ours, theirs in zip(net.blocks, reference.vit.blocks, strict=True):
        copy(ours.norm1, theirs.norm1)
        copy(ours.attention.qkv, theirs.attn.qkv)
        copy(ours.attention.out, theirs.attn.out_proj)
        copy(ours.norm2, theirs.norm2)
        copy(ours.mlp, nn.ModuleList([theirs.mlp.linear1, theirs.mlp.linear2]))
    copy(net.norm, reference.vit.norm)
    copy(net.inc, reference.encoder1)
    theirs = [reference.encoder2, reference.encoder3, reference.encoder4]
    for ours, their in zip(net.skips, theirs, strict=True):
        copy(ours, their)
    theirs = [getattr(reference, f"decoder{i}") for i in (5, 4, 3, 2)]
    for ours, their in zip(net.ups, theirs, strict=True):
        copy(ours, their)
    copy(net.outc, reference.out)


class Rearrange(nn.Module):
    """What MONAI's attention asks of einops, which it needs and does not require."""

    def __init__(self, pattern: str, l: int = 0, **_: int) -> None:  # noqa: E741
        super().__init__()
        self.pattern, self.heads = pattern, l

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pattern == "b h (qkv l d) -> qkv b l h d":
            return x.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        assert self.pattern == "b l h d -> b h (l d)"
        return x.transpose(1, 2).flatten(2)


@pytest.mark.parametrize(
    ("channels", "classes", "dim", "heads", "mlp_dim", "base", "side"),
    [(1, 1, 192, 6, 768, 16, 128), (3, 2, 24, 3, 40, 4, 64)],
)
def test_unetr_is_monai(
    monkeypatch, channels, classes, dim, heads, mlp_dim, base, side
):
    monkeypatch.setattr(selfattention, "Rearrange", Rearrange)
    torch.manual_seed(0)
    reference = MonaiUNETR(
        *(channels, classes, (side, side), base, dim, mlp_dim, heads), spatial_dims=2
    ).eval()
    net = UNETR(
        *(channels, classes), base_channels=base, embed_dim=dim, heads=heads,
        mlp_dim=mlp_dim, image_size=side,
    ).eval()  # fmt: skip
    if dim == 192:
        assert count(reference) == 6_480_113
    transplant_unetr(net, reference)
    assert net.taps == {3: 1, 6: 2, 9: 3}  # the 4th, 7th and 10th block
    x = torch.rand(2, channels, side, side)
    with torch.no_grad():
        close(net(x), reference(x))


def window_pair(dim: int = 12, heads: int = 3, window: int = 4):
    torch.manual_seed(0)
    theirs = monai.WindowAttention(dim, heads, (window, window), qkv_bias=True)
    ours = WindowAttention(dim, heads, window)
    with torch.no_grad():
        theirs.relative_position_bias_table.normal_()
    copy(ours.qkv, theirs.qkv)
    copy(ours.out, theirs.proj)
    ours.bias = theirs.relative_position_bias_table
    return ours, theirs


def test_window_attention_is_monai():
    ours, theirs = window_pair()
    assert count(ours) == count(theirs)
    x = torch.rand(2, 4, 16, 12)  # two images of four windows
    mask = monai.compute_mask([8, 8], (4, 4), (2, 2), x.device)
    allowed = neighbours(8, 8, 4, (2, 2), x.device)
    assert torch.equal(allowed[:, 0], mask == 0)
    with torch.no_grad():
        close(ours(x), theirs(x.flatten(0, 1), None).unflatten(0, (2, 4)))
        close(ours(x, allowed), theirs(x.flatten(0, 1), mask).unflatten(0, (2, 4)))


@pytest.mark.parametrize("shift", [0, 2])
def test_swin_block_is_monai(shift):
    ours = SwinBlock(12, 3, 4, shift)
    theirs = monai.SwinTransformerBlock(12, 3, (4, 4), (shift, shift))
    ours.attention, theirs.attn = window_pair()
    for name in ("norm1", "norm2"):
        copy(getattr(ours, name), getattr(theirs, name))
    copy(ours.mlp, nn.ModuleList([theirs.mlp.linear1, theirs.mlp.linear2]))
    x = torch.rand(2, 8, 12, 12)
    mask = monai.compute_mask([8, 12], (4, 4), (2, 2), x.device)
    with torch.no_grad():
        close(ours(x), theirs(x, mask))


def test_self_attention_is_the_fused_one():
    torch.manual_seed(0)
    attention, x = SelfAttention(12, 3), torch.rand(2, 7, 12)
    q, k, v = attention.queries_keys_values(x)
    fused = F.scaled_dot_product_attention(q, k, v)
    close(attention(x), attention.out(fused.transpose(1, 2).flatten(2)))
    weights = attention.weights(q, k)
    assert weights.shape == (2, 3, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))
    assert torch.equal(attention.looks_at(x, 5), weights[:, :, 5])


def test_self_attention_is_pytorch():
    torch.manual_seed(0)
    attention, x = SelfAttention(12, 3), torch.rand(2, 7, 12)
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(attention.qkv.weight)
        reference.in_proj_bias.copy_(attention.qkv.bias)
        copy(reference.out_proj, attention.out)
    close(attention(x), reference(x, x, x)[0])


def test_what_is_not_allowed_does_not_count():
    torch.manual_seed(0)
    attention, x = SelfAttention(8, 2), torch.rand(1, 5, 8)
    allowed = torch.ones(5, 5, dtype=torch.bool)
    allowed[:, 3:] = False
    close(attention(x, allowed)[:, :3], attention(x[:, :3]))


def test_without_positions_the_order_of_tokens_is_nothing():
    torch.manual_seed(0)
    block, x = TransformerBlock(8, 2, 16), torch.rand(1, 9, 8)
    order = torch.randperm(9)
    close(block(x[:, order]), block(x)[:, order])


def test_positions():
    torch.manual_seed(0)
    embedding = PatchEmbedding(1, 6, patch=4, grid=3)
    assert embedding(torch.rand(2, 1, 12, 12)).shape == (2, 9, 6)
    assert embedding.positions(3, 3) is embedding.position
    # On a grid of another size the same picture of positions, finer.
    assert embedding.positions(6, 5).shape == (1, 6, 6, 5)
    finer = embedding.positions(9, 9)[..., 1::3, 1::3]
    torch.testing.assert_close(finer, embedding.position)
    # Two patches with one content differ by where they stand, and by nothing else.
    tokens = embedding(torch.ones(1, 1, 12, 12))
    position = to_tokens(embedding.position)
    close(tokens[:, 0] - tokens[:, 8], position[:, 0] - position[:, 8])


def test_tokens_and_back():
    x = torch.rand(2, 3, 4, 5)
    assert to_tokens(x).shape == (2, 20, 3)
    assert torch.equal(to_map(to_tokens(x), 4, 5), x)


def test_windows_and_back():
    x = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = to_windows(x, 2)
    assert windows.shape == (2, 6, 4, 3)
    # The second window of the first image: rows 0 and 1, columns 2 and 3.
    assert torch.equal(windows[0, 1], x[0, 0:2, 2:4].reshape(4, 3))
    assert torch.equal(from_windows(windows, 2, 4, 6), x)


def reached(*blocks: nn.Module, at: tuple[int, int], sides=(12, 12)) -> torch.Tensor:
    """Return which tokens the output at one place depends on, (H, W) booleans."""
    torch.manual_seed(0)
    x = torch.rand(1, *sides, 8, requires_grad=True)
    y = x
    for block in blocks:
        y = block(y)
    y[0, at[0], at[1]].square().sum().backward()
    return x.grad[0].abs().sum(-1) > 0


def test_windows_do_not_see_each_other_without_a_shift():
    plain, moved = SwinBlock(8, 2, 4), SwinBlock(8, 2, 4, shift=2)
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[4:8, 0:4] = True
    assert torch.equal(reached(plain, at=(5, 3)), expected)
    assert torch.equal(reached(plain, plain, at=(5, 3)), expected)
    # Moved by two, the window of (5, 3) begins at (2, 2): it lies in four of the old.
    seen = reached(moved, at=(5, 3))
    assert seen.sum() == 16
    assert seen[2:6, 2:6].all()
    seen = reached(plain, moved, at=(5, 3))
    assert seen.sum() == 64
    assert seen[0:8, 0:8].all()
    # At the corner the roll would bring the opposite corner; the mask keeps it out.
    seen = reached(moved, at=(0, 0))
    assert seen.sum() == 4
    assert seen[:2, :2].all()


def test_a_grid_no_larger_than_the_window_is_not_shifted():
    assert reached(SwinBlock(8, 2, 4, shift=2), at=(0, 0), sides=(4, 4)).all()


@pytest.mark.parametrize("sides", [(5, 7), (9, 8), (3, 10)])
def test_who_may_see_whom(sides):
    window, shift = 4, tuple(2 if side > 4 else 0 for side in sides)
    allowed = neighbours(*sides, window, shift, torch.device("cpu"))
    rows, columns = torch.meshgrid(*map(torch.arange, sides), indexing="ij")
    places = torch.stack([rows, columns], dim=-1)
    places = F.pad(places, (0, 0, 0, -sides[1] % 4, 0, -sides[0] % 4), value=-99)
    places = places.roll((-shift[0], -shift[1]), (0, 1))
    places = to_windows(places[None], window)[0]
    apart = (places[:, :, None] - places[:, None]).abs().amax(-1)
    # Two real tokens fewer than a window apart, or two tokens of padding.
    assert torch.equal(allowed[:, 0], apart < window)
    assert allowed.diagonal(dim1=-2, dim2=-1).all()


def test_padding_inside_changes_no_real_token():
    # 3x4 tokens in a window of 4x4: as if the window ended where the grid ends.
    torch.manual_seed(0)
    block, x = SwinBlock(8, 2, 4), torch.rand(1, 3, 4, 8)
    attention = block.attention
    nn.init.normal_(attention.bias)
    q, k, v = attention.queries_keys_values(x.reshape(1, 12, 8))
    place = attention.apart(x.device)[:12, :12]
    scores = q @ k.mT / 2 + attention.bias[place].permute(2, 0, 1)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    close(block.attend(x).reshape(1, 12, 8), attention.out(expected))


def test_the_bias_depends_on_how_two_tokens_lie_to_each_other():
    place = WindowAttention(4, 1, 3).apart(torch.device("cpu"))
    assert place.shape == (9, 9)
    assert len(place.unique()) == (2 * 3 - 1) ** 2
    # One column to the right: 0 to 1, 1 to 2, 3 to 4, ...
    assert place[0, 1] == place[1, 2] == place[3, 4] == place[7, 8]
    assert place[0, 1] != place[1, 0]
    assert place[0, 1] != place[0, 3]
    assert (place.diagonal() == place[0, 0]).all()


def test_merging_and_expanding():
    seen = reached(PatchMerging(8), at=(1, 2))
    assert seen.sum() == 4
    assert seen[2:4, 4:6].all()
    seen = reached(PatchExpand(8, 3, factor=4), at=(5, 9))
    assert seen.sum() == 1
    assert seen[1, 2]
    assert PatchMerging(8)(torch.rand(2, 4, 6, 8)).shape == (2, 2, 3, 16)
    assert PatchExpand(8, 4)(torch.rand(2, 4, 6, 8)).shape == (2, 8, 12, 4)


def test_grids_of_swin_unet():
    net = SwinUNet(1, 2, embed_dim=8, patch=2, stages=3, heads=2, window=4)
    assert net.depth == 3
    assert [block.shift for block in net.encoder[0]] == [0, 2]
    seen = []
    for stage in net.encoder:
        stage.register_forward_hook(lambda _, __, out: seen.append(out.shape[1:]))
    net.eval()(torch.rand(1, 1, 40, 29))
    assert seen == [(20, 16, 8), (10, 8, 16), (5, 4, 32)]


def test_standardised_kernels():
    torch.manual_seed(0)
    conv, x = StdConv(3, 4, 3, padding=1, bias=False), torch.rand(1, 3, 8, 8)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7).add_(2)
    torch.testing.assert_close(conv(x), before, rtol=1e-3, atol=1e-3)


def test_bilinear_up_without_a_skip():
    up = BilinearUp(4, 0, 2)
    assert up(torch.rand(2, 4, 5, 6)).shape == (2, 2, 10, 12)


small = {"embed_dim": 8, "layers": 4, "heads": 2}
ILL = {
    "heads": (
        lambda: SelfAttention(10, 4),
        r"heads must divide .*, got 4 heads for 10 channels\. Use 12 channels",
    ),
    "swin heads": (lambda: SwinUNet(1, 2, embed_dim=32), r"3 heads .* Use 33 channels"),
    "no head": (lambda: SelfAttention(8, 0), r"heads must be an integer >= 1, got 0"),
    "shift": (lambda: SwinBlock(8, 2, 4, 4), r"below the window of 4, got 4\. .* 2,"),
    "window": (lambda: SwinUNet(1, 2, window=0), r"window must be .* >= 1, got 0"),
    "patch": (lambda: SwinUNet(1, 2, patch=6), r"power of two, got 6\. Use 4 or 8"),
    "patch 1": (lambda: SwinUNet(1, 2, patch=1), r"patch must be .* >= 2, got 1"),
    "stages": (lambda: SwinUNet(1, 2, stages=1), r"stages must be .* >= 2, got 1"),
    "layers": (lambda: UNETR(1, 2, layers=3), r"layers must be .* >= 4, got 3"),
    "mlp": (lambda: UNETR(1, 2, mlp_dim=0), r"mlp_dim must be .* >= 1, got 0"),
    "image": (lambda: UNETR(1, 2, image_size=0), r"image_size must be .*, got 0"),
    "encoder": (
        lambda: TransUNet(1, 2, encoder="vgg"),
        r"encoder must be one of resnet50, unet; got 'vgg'",
    ),
    "groups": (
        lambda: TransUNet(1, 2, base_channels=48, **small),
        r"multiple of 32, got 48\. Use 64, or encoder='unet'",
    ),
    "depth": (lambda: TransUNet(1, 2, depth=3, **small), r"depth must be 4, got 3"),
}


@pytest.mark.parametrize(("build", "says"), ILL.values(), ids=ILL)
def test_ill_settings(build, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        build()
