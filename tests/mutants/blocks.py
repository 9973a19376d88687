"""Wrong answers to assignment 1."""

from mutants import Wrong

ASSIGNMENT = "1-blocks"
ROUNDED_UP = """
def conv_output(size, kernel, padding=0, stride=1):
    return -((kernel - size - 2 * padding) // stride) + 1
"""
INTERPOLATED = """
def crop_to(skip, height, width):
    return F.interpolate(skip, size=(height, width), mode="bilinear")
"""
BOTH_ENDS = """
def crop_to(skip, height, width):
    rows = (skip.shape[-2] - height) // 2
    columns = (skip.shape[-1] - width) // 2
    return skip[:, :, rows:-rows, columns:-columns]
"""
SHARED_LAYERS = """
class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels, mid_channels=None, padding=0):
        super().__init__()
        mid_channels = mid_channels or out_channels
        self.conv1 = nn.Conv2d(in_channels, mid_channels, 3, padding=padding)
        self.conv2 = nn.Conv2d(mid_channels, out_channels, 3, padding=padding)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return F.relu(self.norm(self.conv2(F.relu(self.norm(self.conv1(x))))))
"""
BILINEAR = """
class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv = given_double_conv(in_channels + in_channels // 2, out_channels)

    def forward(self, below, skip):
        x, skip = given_fit(self.up(below), skip)
        return self.conv(torch.cat([skip, x], dim=1))
"""
BY_BUILDING = """
def double_conv_parameters(in_channels, out_channels):
    block = given_double_conv(in_channels, out_channels)
    return sum(p.numel() for p in block.parameters())


PARAMETERS = 31_042_434
"""
WINDOW = "top : top + height, left : left + width"
MARGINS = "(left, columns - left, top, rows - top)"
NORM = "nn.BatchNorm2d({0}),\n            nn.ReLU(),"
SWAPPED = "nn.ReLU(),\n            nn.BatchNorm2d({0}),"
WRONG = [
    Wrong("q1", "the one forgotten", 0, {" + 1": ""}),
    Wrong("q1", "padding counted on one side only", 0, {"2 * padding": "padding"}),
    Wrong("q1", "stride applied before the window", 0, {") // stride": " // stride)"}),
    Wrong("q1", "rounded up", 0, ROUNDED_UP),
    Wrong("q1", "a division that leaves fractions", 0, {"// stride": "/ stride"}),
    Wrong("q1", "never more than 2 at a time", 0.5, {"// stride": "// min(stride, 2)"}),
    Wrong("q1", "stride ignored", 0, {" // stride": ""}),
    Wrong("q2", "strides forgotten", 0, {"jump *= stride": "pass"}),
    Wrong(
        "q2",
        "the jump grows before it is used",
        0,
        {
            "seen += (": "jump *= stride\n        seen += (",
            "\n        jump *= stride\n    r": "\n    r",
        },
    ),
    Wrong("q2", "kernels added up, not what they add", 0, {"(kernel - 1)": "kernel"}),
    Wrong("q2", "begun at zero", 0, {"seen, jump = 1, 1": "seen, jump = 0, 1"}),
    Wrong(
        "q2",
        "strides added, not multiplied",
        0,
        {"jump *= stride": "jump += stride - 1"},
    ),
    Wrong(
        "q2", "the number left out", 1.5, {"SEEN = recept": "SEEN = ...\n_ = recept"}
    ),
    Wrong("q2", "the first level forgotten", 1.5, {"[(3, 1), (3, 1)] + ": ""}),
    Wrong("q2", "one level too few", 1.5, {"4 * level": "3 * level"}),
    Wrong(
        "q3",
        "no ReLU at the end",
        0.5,
        {NORM.format("out_channels"): "nn.BatchNorm2d(out_channels),"},
    ),
    Wrong(
        "q3",
        "no ReLU between the convolutions",
        1,
        {NORM.format("mid_channels"): "nn.BatchNorm2d(mid_channels),"},
    ),
    Wrong("q3", "padded where valid was asked", 1.5, {"padding=padding": "padding=1"}),
    Wrong("q3", "never padded", 1.5, {"padding=padding": "padding=0"}),
    Wrong("q3", "one batch norm used twice", 0.5, SHARED_LAYERS),
    Wrong(
        "q3",
        "no batch norm",
        0.5,
        {"nn.BatchNorm2d(mid_channels),": "", "nn.BatchNorm2d(out_channels),": ""},
    ),
    Wrong(
        "q3",
        "ReLU before batch norm",
        0.5,
        {
            NORM.format("mid_channels"): SWAPPED.format("mid_channels"),
            NORM.format("out_channels"): SWAPPED.format("out_channels"),
        },
    ),
    Wrong(
        "q3", "mid_channels ignored", 2, {"if mid_channels is None:\n            ": ""}
    ),
    Wrong(
        "q3",
        "convolutions without bias",
        0.5,
        {"padding=padding)": "padding=padding, bias=False)"},
    ),
    Wrong(
        "q3",
        "left in eval mode",
        1,
        {"return self.layers(x)": "return self.layers.eval()(x)"},
    ),
    Wrong("q3", "the class of the package", 0, "from unet_edu import DoubleConv"),
    Wrong("q4", "mean instead of maximum", 0.5, {"MaxPool2d": "AvgPool2d"}),
    Wrong(
        "q4",
        "pooled after the block",
        0,
        {"self.conv(self.pool(x))": "self.pool(self.conv(x))"},
    ),
    Wrong(
        "q4",
        "odd maps rounded up",
        1,
        {"MaxPool2d(2)": "MaxPool2d(2, ceil_mode=True)"},
    ),
    Wrong("q4", "stride 1", 0, {"MaxPool2d(2)": "MaxPool2d(2, stride=1)"}),
    Wrong(
        "q4",
        "a window of 3",
        0,
        {"MaxPool2d(2)": "MaxPool2d(3, stride=2, padding=1)"},
    ),
    Wrong("q4", "pooling forgotten", 0, {"self.conv(self.pool(x))": "self.conv(x)"}),
    Wrong("q5", "cut from the top left corner", 0, {WINDOW: ":height, :width"}),
    Wrong(
        "q5",
        "off by one where the difference is odd",
        1.5,
        {"- height) // 2": "- height + 1) // 2", "- width) // 2": "- width + 1) // 2"},
    ),
    Wrong(
        "q5",
        "rows and columns swapped",
        1.5,
        {WINDOW: "left : left + width, top : top + height"},
    ),
    Wrong("q5", "the same cut at both ends", 1, BOTH_ENDS),
    Wrong("q5", "interpolated instead of cut", 0, INTERPOLATED),
    Wrong("q5", "one row too many", 0, {"top + height": "top + height + 1"}),
    Wrong("q6", "the skip second", 0.5, {"[skip, x]": "[x, skip]"}),
    Wrong(
        "q6",
        "added instead of concatenated",
        0.5,
        {
            "conv(in_channels, ": "conv(in_channels // 2, ",
            "torch.cat([skip, x], dim=1)": "skip + x",
        },
    ),
    Wrong("q6", "the skip never used", 0.5, {"[skip, x]": "[x, x]"}),
    Wrong(
        "q6",
        "not made to fit",
        1.5,
        {"given_fit(self.up(below), skip)": "self.up(below), skip"},
    ),
    Wrong("q6", "bilinear instead of transposed", 0.5, BILINEAR),
    Wrong("q6", "concatenated along the rows", 0, {"dim=1": "dim=2"}),
    Wrong("q7", "softmax at the end", 0, {"self.conv(x)": "self.conv(x).softmax(1)"}),
    Wrong("q7", "ReLU at the end", 0, {"self.conv(x)": "self.conv(x).relu()"}),
    Wrong("q7", "a 3x3 window", 0.5, {"kernel_size=1": "kernel_size=3, padding=1"}),
    Wrong("q7", "no bias", 0, {"kernel_size=1": "kernel_size=1, bias=False"}),
    Wrong(
        "q7",
        "the best class instead of scores",
        0,
        {"self.conv(x)": "self.conv(x).argmax(1)"},
    ),
    Wrong("q8", "biases forgotten", 0, {"3 if True": "2 if True"}),
    Wrong("q8", "batch norm forgotten", 0, {"3 if True": "1 if True"}),
    Wrong("q8", "running statistics counted", 0, {"3 if True": "5 if True"}),
    Wrong(
        "q8",
        "the second convolution like the first",
        0,
        {"9 * out_channels * out_channels": "9 * in_channels * out_channels"},
    ),
    Wrong("q8", "counted by building", 0.75, BY_BUILDING),
    Wrong("q8", "the whole left out", 1.25, {"PARAMETERS = count": "PARAMETERS = ..."}),
    Wrong("q8", "transposed convolutions without bias", 1.25, {"+ above +": "+"}),
    Wrong("q8", "transposed convolutions 3x3", 1.25, {"4 * deep": "9 * deep"}),
    Wrong(
        "q8",
        "the last 1x1 convolution forgotten",
        1.25,
        {"count += 64 * 2 + 2": ""},
    ),
    Wrong(
        "q8",
        "a block of Up without the skip",
        1.25,
        {"_parameters(deep, above)": "_parameters(above, above)"},
    ),
    Wrong("q9", "two pixels a block", 0, {"- 4": "- 2"}),
    Wrong(
        "q9",
        "the first level halved too",
        0,
        {"sizes = [size - 4]": "sizes = [size // 2 - 4]"},
    ),
    Wrong("q9", "one level too few", 0, {"range(depth)": "range(depth - 1)"}),
    Wrong(
        "q9", "a vanished map not noticed", 0.5, {" if min(sizes) >= 1 else None": ""}
    ),
    Wrong("q9", "the side left out", 1.5, {"FITS = side": "FITS = ..."}),
    Wrong("q9", "odd maps not looked at", 1.5, {"side += 1": "break"}),
    Wrong("q9", "the deepest map asked to be even", 1.5, {"[:-1])": ")"}),
    Wrong("q9", "rounded up", 1, {"sizes[-1] // 2": "(sizes[-1] + 1) // 2"}),
    # The other variants: the questions that are put differently there.
    Wrong("q1", "the window forgotten", 0, {" + kernel": ""}, seed=1),
    Wrong("q1", "one step too many", 0, {"(size - 1)": "size"}, seed=1),
    Wrong(
        "q3",
        "batch norm where none was asked",
        0.5,
        {"nn.ReLU(),": "nn.BatchNorm2d(out_channels), nn.ReLU(),"},
        seed=1,
    ),
    Wrong("q4", "maximum instead of mean", 0.5, {"AvgPool2d": "MaxPool2d"}, seed=1),
    Wrong(
        "q5",
        "zeros at the bottom and on the right only",
        0,
        {MARGINS: "(0, columns, 0, rows)"},
        seed=1,
    ),
    Wrong(
        "q5",
        "rows and columns swapped",
        2,
        {MARGINS: "(top, rows - top, left, columns - left)"},
        seed=1,
    ),
    Wrong(
        "q6",
        "concatenated instead of added",
        0.5,
        {
            "(in_channels // 2, out_channels)": "(in_channels, out_channels)",
            "skip + x": "torch.cat([skip, x], dim=1)",
        },
        seed=1,
    ),
]
