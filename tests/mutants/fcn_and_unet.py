"""Wrong answers to assignment 2."""

from mutants import Wrong

ASSIGNMENT = "2-fcn-and-unet"
THE_LAYER_ITSELF = """
def stamp(x, kernel, stride):
    return F.conv_transpose2d(x[None, None], kernel[None, None], stride=stride)[0, 0]


TENT = [1 / 8, 3 / 8, 5 / 8, 7 / 8, 7 / 8, 5 / 8, 3 / 8, 1 / 8]
"""
INTERPOLATED = """
def add_scores(scores, stride, height, width):
    total = scores[0]
    for finer in scores[1:]:
        size = finer.shape[-2:]
        total = F.interpolate(total, size=size, mode="bilinear") + finer
    return F.interpolate(total, size=(height, width), mode="bilinear")
"""
FROM_THE_MIDDLE = """
def add_scores(scores, stride, height, width):
    def cut(x, rows, columns):
        top, left = (x.shape[-2] - rows + 1) // 2, (x.shape[-1] - columns + 1) // 2
        return x[..., top : top + rows, left : left + columns]

    total = scores[0]
    for finer in scores[1:]:
        total = cut(given_up(total, 2), *finer.shape[-2:]) + finer
    return cut(given_up(total, stride), height, width)
"""
EACH_ALONE = """
def add_scores(scores, stride, height, width):
    total = 0
    for level, score in enumerate(reversed(scores)):
        total = total + given_up(score, stride * 2**level)[..., :height, :width]
    return total
"""
NEAREST = """
def add_scores(scores, stride, height, width):
    total = scores[0]
    for finer in scores[1:]:
        rows, columns = finer.shape[-2:]
        total = F.interpolate(total, scale_factor=2)[..., :rows, :columns] + finer
    return F.interpolate(total, scale_factor=stride)[..., :height, :width]
"""
PACKAGE_INSIDE = """
from unet_edu import UNet


class MyUNet(nn.Module):
    def __init__(self, n_channels, n_classes, widths):
        super().__init__()
        options = {"base_channels": widths[0], "depth": len(widths) - 1}
        self.net = UNet(n_channels, n_classes, align="crop", norm=False, **options)

    def forward(self, x):
        return self.net(x)
"""
BY_BUILDING = """
def coefficients(depth):
    from unet_edu import UNet

    def count(w):
        network = UNet(1, 2, base_channels=w, depth=depth, norm=False)
        return sum(p.numel() for p in network.parameters())

    a = (count(3) - 2 * count(2) + count(1)) // 2
    b = count(2) - count(1) - 3 * a
    return a, b, count(1) - a - b


WIDEST = 66
"""
LAYER_1D = """
def conv_matrix(kernel, size, stride):
    places = (size - len(kernel)) // stride + 1
    matrix = torch.zeros(places, size)
    for place in range(places):
        matrix[place, place * stride : place * stride + len(kernel)] = kernel
    return matrix


def enlarge(row, kernel, stride):
    layer = nn.ConvTranspose1d(1, 1, len(kernel), stride=stride, bias=False)
    layer.weight.data = kernel[None, None]
    return layer(row[None, None])[0, 0]


TENT = [1 - abs(i - 5.5) / 6 for i in range(12)]
"""
MASK = "(probabilities(logits)[:, 1] > 0.3).long()"
POOLED = "maps.append(block(F.max_pool2d(maps[-1], 2)))"
PAIR_OF_WEIGHTS = "[added.weight, added.weight]"
COPY = "layers = copy.deepcopy(network).eval()"
NAN = 'x = F.pad(x, amounts, value=float("nan"))'
FRAME = "x[..., [0, -1], :] = x[..., :, [0, -1]] = float('nan')"
WRONG = [
    Wrong(
        "q1",
        "rows and columns of the kernel swapped",
        0.5,
        {
            "(height, width))": "(width, height))",
            "channels, height, width)": "channels, width, height)",
        },
    ),
    Wrong(
        "q1",
        "read as if the channels came last",
        0.5,
        {
            "view(-1, channels, height, width)": (
                "view(-1, height, width, channels).permute(0, 3, 1, 2)"
            )
        },
    ),
    Wrong("q1", "biases not copied", 0.5, {"conv.bias[:] = dense.bias": "pass"}),
    Wrong(
        "q1",
        "weights not copied",
        0.5,
        {"conv.weight[:] = dense.weight.view(-1, channels, height, width)": "pass"},
    ),
    Wrong(
        "q1",
        "no bias at all",
        0.5,
        {
            "(height, width))": "(height, width), bias=False)",
            "conv.bias[:] = dense.bias": "pass",
        },
    ),
    Wrong("q1", "square windows only", 0.5, {"(height, width))": "height)"}),
    Wrong(
        "q1",
        "padded so that the map keeps its size",
        0.5,
        {"(height, width))": '(height, width), padding="same")'},
    ),
    Wrong("q1", "one place of the window too few", 1.5, {" + 1": ""}),
    Wrong(
        "q1",
        "poolings that round up",
        1.5,
        {"250 // STEP": "-(-250 // STEP)", "340 // STEP": "-(-340 // STEP)"},
    ),
    Wrong("q1", "strides added, not multiplied", 1.5, {"2**3": "2 * 3"}),
    Wrong("q2", "stamps that overwrite", 1, {"+= x[i, j]": "= x[i, j]"}),
    Wrong("q2", "stride forgotten", 1, {"i * stride, j * stride": "i, j"}),
    Wrong("q2", "kernel turned over", 1, {"* kernel": "* kernel.flip(0, 1)"}),
    Wrong(
        "q2",
        "sized as if stamps never overlapped",
        1,
        {
            "(rows - 1) * stride + size": "rows * size",
            "(columns - 1) * stride + size": "columns * size",
        },
    ),
    Wrong("q2", "one stride too large", 1, {"(rows - 1) * stride": "rows * stride"}),
    Wrong("q2", "rows and columns swapped", 1, {"x[i, j]": "x.T[i, j]"}),
    Wrong("q2", "the layer itself", 1, THE_LAYER_ITSELF),
    Wrong(
        "q2",
        "a tent that adds up to one",
        1.5,
        {"1 - abs(i + 0.5 - 4) / 4": "0.25 - abs(i + 0.5 - 4) / 16"},
    ),
    Wrong(
        "q2",
        "a tent divided by its largest weight",
        1.5,
        {"1 - abs(i + 0.5 - 4) / 4": "8 / 7 * (1 - abs(i + 0.5 - 4) / 4)"},
    ),
    Wrong("q2", "the tent left out", 1.5, {"TENT = [": "TENT = ...\n_ = ["}),
    Wrong("q2", "a tent half a position off", 1.5, {"i + 0.5 - 4": "i - 4"}),
    Wrong("q2", "a tent as wide as one stride", 1.5, {"range(2 * 4)": "range(2, 6)"}),
    Wrong(
        "q3",
        "added in reversed order",
        0,
        {"scores[0]": "scores[-1]", "scores[1:]": "scores[-2::-1]"},
    ),
    Wrong("q3", "begun with the finest", 0, {"scores[0]": "scores[-1]"}),
    Wrong("q3", "aligned by interpolation", 0, INTERPOLATED),
    Wrong("q3", "cut from the middle", 1.5, FROM_THE_MIDDLE),
    Wrong(
        "q3",
        "the surplus cut off at the top left",
        1.5,
        {
            ":rows, :columns": "-rows:, -columns:",
            ":height, :width": "-height:, -width:",
        },
    ),
    Wrong("q3", "every level enlarged by itself", 0.5, EACH_ALONE),
    Wrong("q3", "nearest neighbour", 0, NEAREST),
    Wrong(
        "q3", "enlarged once too often", 0, {"(total, stride)": "(total, 2 * stride)"}
    ),
    Wrong("q3", "the mean of two levels", 0, {"+ finer": "/ 2 + finer / 2"}),
    Wrong(
        "q3",
        "the finest level left out",
        0,
        {"scores[1:]": "scores[1:-1]", "(total, stride)": "(total, 2 * stride)"},
    ),
    Wrong("q3", "the surplus left on the way", 1.5, {"[..., :rows, :columns]": ""}),
    Wrong("q3", "the surplus left at the end", 1.5, {"[..., :height, :width]": ""}),
    Wrong(
        "q4",
        "the map from below first",
        0.5,
        {
            "[over_skip.weight, over_below.weight]": (
                "[over_below.weight, over_skip.weight]"
            )
        },
    ),
    Wrong("q4", "side by side along the outputs", 0, {"dim=1": "dim=0"}),
    Wrong("q4", "one bias forgotten", 0.5, {" + over_below.bias": ""}),
    Wrong("q4", "padding forgotten", 1, {"padding=over_skip.padding": "padding=0"}),
    Wrong("q4", "the bias written twice", 1, {"added.bias": "2 * added.bias"}),
    Wrong(
        "q4",
        "half a kernel each",
        1,
        {PAIR_OF_WEIGHTS: "[added.weight / 2, added.weight / 2]"},
    ),
    Wrong(
        "q4",
        "the second half left at zero",
        1,
        {PAIR_OF_WEIGHTS: "[added.weight, 0 * added.weight]"},
    ),
    Wrong("q5", "the skip second", 2, {"[skip, x]": "[x, skip]"}),
    Wrong(
        "q5",
        "skips from the wrong level",
        0.5,
        {"given_fit(up(x), maps.pop())": "given_fit(up(x), maps.pop(0))"},
    ),
    Wrong(
        "q5",
        "skips taken after the pooling",
        0.5,
        {
            POOLED: "maps[-1] = F.max_pool2d(maps[-1], 2)\n"
            "            maps.append(block(maps[-1]))"
        },
    ),
    Wrong(
        "q5",
        "added where concatenation was asked",
        0.5,
        {"(2 * wide, wide": "(wide, wide", "torch.cat([skip, x], dim=1)": "skip + x"},
    ),
    Wrong("q5", "the skip never used", 2, {"[skip, x]": "[x, x]"}),
    Wrong("q5", "padded where valid was asked", 0.5, {'"padding": 0': '"padding": 1'}),
    Wrong("q5", "batch norm left in", 0.5, {'"norm": False': '"norm": True'}),
    Wrong("q5", "never pooled", 0.5, {"F.max_pool2d(maps[-1], 2)": "maps[-1]"}),
    Wrong("q5", "mean instead of maximum", 2, {"max_pool2d": "avg_pool2d"}),
    Wrong(
        "q5",
        "layers in a plain list",
        0,
        {"(nn.ModuleList() for _ in range(3))": "([], [], [])"},
    ),
    Wrong(
        "q5",
        "widths taken to double",
        2.5,
        {"(deep, wide, 2,": "(deep, deep // 2, 2,", "(2 * wide, wide": "(deep, wide"},
    ),
    Wrong("q5", "softmax at the end", 1.5, {"self.outc(x)": "self.outc(x).softmax(1)"}),
    Wrong("q5", "ReLU at the end", 1.5, {"self.outc(x)": "self.outc(x).relu()"}),
    Wrong(
        "q5", "no bias at the end", 0, {"n_classes, 1)": "n_classes, 1, bias=False)"}
    ),
    Wrong("q5", "the network of the package", 0, PACKAGE_INSIDE),
    Wrong("q6", "clean instead of touched", 0, {"x.isnan()": "~x.isnan()"}),
    Wrong(
        "q6",
        "the frame of the image marked, not what is around it",
        0,
        {COPY: f"{COPY}\n    {FRAME}", NAN: "x = F.pad(x, amounts)"},
    ),
    Wrong(
        "q6",
        "the first convolution only",
        0.5,
        {"nn.Conv2d)": "nn.Conv2d) and layer is layers[0]"},
    ),
    Wrong("q6", "left in training mode", 0.5, {".eval()": ""}),
    Wrong("q6", "the network changed", 0, {"copy.deepcopy(network)": "network"}),
    Wrong("q6", "padded twice", 0, {"layer.padding = (0, 0)": "pass"}),
    Wrong(
        "q6",
        "rows and columns swapped",
        1,
        {"(columns, columns, rows, rows)": "(rows, rows, columns, columns)"},
    ),
    Wrong("q6", "always one pixel", 0, {"columns = layer.padding": "columns = 1, 1"}),
    Wrong(
        "q6",
        "transposed convolutions taken to pad",
        1.5,
        {"nn.Conv2d)": "nn.Conv2d | nn.ConvTranspose2d)"},
    ),
    Wrong("q7", "transposed convolutions without bias", 0, {"b += wide\n": "pass\n"}),
    Wrong("q7", "transposed convolutions 3x3", 0, {"4 * deep": "9 * deep"}),
    Wrong("q7", "the joint without the skip", 0, {'{"concat": 2': '{"concat": 1'}),
    Wrong("q7", "one convolution a block", 0, {" + 9 * deep * deep": ""}),
    Wrong("q7", "the image's channels forgotten", 0, {"9 * 1 + ": ""}),
    Wrong("q7", "the last biases forgotten", 0.5, {"+ 2, 2\n": "+ 2, 0\n"}),
    Wrong("q7", "biases of 3x3 convolutions forgotten", 0, {"1  # a bias": "0  #"}),
    Wrong(
        "q7",
        "every level like the first",
        0,
        {"2**level, 2 ** (level + 1)": "1, 2"},
    ),
    Wrong(
        "q7",
        "channels that grow by steps, not by doubling",
        0,
        {"2**level, 2 ** (level + 1)": "level + 1, level + 2"},
    ),
    Wrong("q7", "counted by building", 0, BY_BUILDING),
    Wrong(
        "q7", "the widest left out", 1.5, {"WIDEST = max(": "WIDEST = ...\n_ = max("}
    ),
    Wrong("q7", "one channel too many", 1.5, {"<= 33000000)": "<= 33000000) + 1"}),
    Wrong(
        "q7", "the budget of another depth", 1.5, {"coefficients(4)": "coefficients(3)"}
    ),
    Wrong("q8", "softmax over one logit", 0.5, {"logits.shape[1] == 1": "False"}),
    Wrong(
        "q8",
        "sigmoid where softmax was due",
        0.5,
        {"logits.softmax(dim=1)": "logits.sigmoid()"},
    ),
    Wrong("q8", "softmax over the columns", 0.5, {"dim=1)\n    #": "dim=3)\n    #"}),
    Wrong(
        "q8", "classes swapped", 0.5, {"[1 - of_one, of_one]": "[of_one, 1 - of_one]"}
    ),
    Wrong("q8", "threshold of one half", 1.5, {"> 0.3": "> 0.5"}),
    Wrong(
        "q8",
        "threshold on the logit",
        1.5,
        {"probabilities(logits)[:, 1] >": "logits[:, -1] >"},
    ),
    Wrong(
        "q8",
        "the more probable class",
        1.5,
        {MASK: "probabilities(logits).argmax(1)"},
    ),
    Wrong("q8", "a mask of bool", 1.5, {".long()": ""}),
    Wrong("q8", "a mask with an axis of channels", 1, {"[:, 1] >": "[:, 1:] >"}),
    Wrong("q8", "the head left out", 1.5, {"    return one": "    return None"}),
    Wrong(
        "q8",
        "class 0 minus class 1",
        1.5,
        {
            "head.weight[1:] - head.weight[:1]": "head.weight[:1] - head.weight[1:]",
            "head.bias[1:] - head.bias[:1]": "head.bias[:1] - head.bias[1:]",
        },
    ),
    Wrong(
        "q8",
        "the logit of class 1 by itself",
        1.5,
        {" - head.weight[:1]": "", " - head.bias[:1]": ""},
    ),
    Wrong(
        "q8",
        "the bias forgotten",
        1.5,
        {"one.bias[:] = head.bias[1:] - head.bias[:1]": "one.bias.zero_()"},
    ),
    # The other variants: the questions that are put differently there.
    Wrong(
        "q1",
        "read as if the channels came first",
        0.5,
        {
            "view(-1, height, width, channels)": "view(-1, channels, height, width)",
            "kernel.permute(0, 3, 1, 2)": "kernel",
        },
        seed=1,
    ),
    Wrong("q2", "the layer itself", 1, LAYER_1D, seed=1),
    Wrong("q2", "the matrix not turned", 1, {".T @ row": " @ row"}, seed=1),
    Wrong("q2", "a place at every position", 1, {"place * stride": "place"}, seed=1),
    Wrong("q2", "one place too few", 1, {"// stride + 1": "// stride"}, seed=1),
    Wrong(
        "q3",
        "zeros at the top left",
        1.5,
        {
            "(0, columns - x.shape[-1], 0, rows - x.shape[-2])": (
                "(columns - x.shape[-1], 0, rows - x.shape[-2], 0)"
            )
        },
        seed=1,
    ),
    Wrong("q3", "aligned by interpolation", 0, INTERPOLATED, seed=1),
    Wrong(
        "q4",
        "the bias in both",
        0.5,
        {"over_below.bias.zero_()": "over_below.bias[:] = joint.bias"},
        seed=1,
    ),
    Wrong(
        "q4",
        "both maps in the first channels",
        1,
        {"[for_skip, below]": "[below, for_skip]"},
        seed=1,
    ),
    Wrong("q5", "not padded", 0.5, {'"padding": 1': '"padding": 0'}, seed=1),
    Wrong(
        "q5",
        "concatenated where addition was asked",
        0.5,
        {"(wide, wide,": "(2 * wide, wide,", "skip + x": "torch.cat([skip, x], dim=1)"},
        seed=1,
    ),
    Wrong("q6", "touched instead of clean", 0, {"~x.isnan()": "x.isnan()"}, seed=1),
    Wrong("q7", "running statistics counted", 0.5, {"3 if True": "5 if True"}, seed=1),
    Wrong("q7", "batch norm forgotten", 0, {"3 if True": "1 if True"}, seed=1),
    Wrong(
        "q8",
        "the negative logit for class 0",
        1.5,
        {"= 0, 0": "= -head.weight[0], -head.bias[0]"},
        seed=1,
    ),
]
