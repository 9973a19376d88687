"""Wrong answers to assignment 4."""

from mutants import Wrong

ASSIGNMENT = "4-improvements"
ADDED = "self.w_x(x) + self.w_g(g)"
ALPHA = "torch.sigmoid(self.psi(F.relu(self.w_x(x) + self.w_g(g))))"
ENLARGED = 'F.interpolate(coarse, x.shape[-2:], mode="bilinear")'
READY = """            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
"""
SECOND = "out_channels, 3, padding=1),\n        ]"
AFTERWARDS = """
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
"""
RELU_FIRST = """            nn.ReLU(inplace=True),
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
"""
SUM = "self.shortcut(x) + self.residual(x)"
NEEDED = "if stride != 1 or in_channels != out_channels:\n            "
MEAN = "self.whole(x.mean(dim=(2, 3), keepdim=True))"
SCALE = " / math.sqrt(q.shape[-1])"
TO_TOKENS = "x.flatten(2).transpose(1, 2)"
TO_MAP = "layer(tokens).transpose(1, 2).unflatten(2, x.shape[-2:])"
CROSSED = "[distance(s, y) for s in samples for y in annotations]"
EACH = "for y in annotations for z in annotations"
WITHIN = "np.mean(pairs) if pairs else 0.0"
OTHERS = "[distance(samples[i], samples[j]) for i in range(n) for j in range(i)]"
SMALL = 'F.interpolate(mask[:, None].float(), logits.shape[-2:], mode="nearest")'
LARGE = 'F.interpolate(logits, mask.shape[-2:], mode="bilinear")'
PADDED = "F.pad(seen, (0, 0, 0, 0, 0, self.more)) + self.residual(x)"
GAINS = "np.array([one[seed] - other[seed] for seed in one])"
MEANS = "rng.choice(gains, size=(10_000, len(gains))).mean(axis=1)"
LEAD = "(means[:, 1:].max(axis=1) - means[:, 0]).mean()"
UNPAIRED = """
def paired_interval(one, other):
    rng = np.random.default_rng(0)
    a, b = np.array(list(one.values())), np.array(list(other.values()))
    means = rng.choice(a, size=(10_000, len(a))).mean(axis=1)
    means -= rng.choice(b, size=(10_000, len(b))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return a.mean() - b.mean(), low, high


LUCK = 1.078
"""
NORMAL_INTERVAL = """
def paired_interval(one, other):
    gains = np.array([one[seed] - other[seed] for seed in one])
    half = 1.96 * gains.std(ddof=1) / len(gains) ** 0.5
    return gains.mean(), gains.mean() - half, gains.mean() + half


LUCK = 1.078
"""
WRONG = [
    Wrong("q1", "multiplied instead of added", 1.5, {ADDED: ADDED.replace("+", "*")}),
    Wrong("q1", "no sigmoid", 1, {ALPHA: ALPHA.replace("torch.sigmoid", "")}),
    Wrong(
        "q1",
        "a softmax over the single channel",
        0.5,
        {ALPHA: ALPHA.replace("torch.sigmoid", "F.softmax")[:-1] + ", dim=1)"},
    ),
    Wrong("q1", "no ReLU", 1.5, {"F.relu(self.w_x(x) + self.w_g(g))": ADDED}),
    Wrong("q1", "repeated, not interpolated", 1.5, {'"bilinear"': '"nearest"'}),
    Wrong(
        "q1",
        "corners aligned",
        1.5,
        {'"bilinear")': '"bilinear", align_corners=True)'},
    ),
    Wrong(
        "q1",
        "enlarged before the sigmoid",
        1.5,
        {ALPHA: ALPHA.replace("torch.sigmoid", ""), ENLARGED: f"{ENLARGED}.sigmoid()"},
    ),
    Wrong(
        "q1",
        "a coefficient for each channel",
        0,
        {"score(mid_channels, 1, 1)": "score(mid_channels, x_channels, 1)"},
    ),
    Wrong(
        "q1",
        "no batch norm",
        1,
        {"nn.Sequential(conv, nn.BatchNorm2d(n_out))": "nn.Sequential(conv)"},
    ),
    Wrong(
        "q1",
        "added to x as well",
        2,
        {"self.alpha(x, g) * x": "x + self.alpha(x, g) * x"},
    ),
    Wrong(
        "q1",
        "g crosses, not x",
        2,
        {"self.alpha(x, g) * x": "self.alpha(x, g)[..., ::2, ::2] * g"},
    ),
    Wrong(
        "q1",
        "a 1x1 convolution with stride 2",
        1,
        {"kernel_size=step, stride": "kernel_size=1, stride"},
    ),
    Wrong(
        "q1",
        "the class of the package",
        0,
        "from unet_edu.families.skip import AttentionGate",
    ),
    Wrong("q2", "a ReLU after the sum", 0.5, {SUM: f"F.relu({SUM})"}),
    Wrong("q2", "norm and ReLU after the convolutions", 0.5, {READY: AFTERWARDS}),
    Wrong("q2", "ReLU before batch norm, in place", 1, {READY: RELU_FIRST}),
    Wrong(
        "q2",
        "no projection where channels differ",
        0.5,
        {NEEDED: "if False:\n            "},
    ),
    Wrong(
        "q2",
        "no projection where only the size changes",
        1.25,
        {"stride != 1 or in_channels": "in_channels"},
    ),
    Wrong("q2", "projected everywhere", 1.5, {NEEDED: "if True:\n            "}),
    Wrong("q2", "no sum", 0.5, {SUM: "self.residual(x)"}),
    Wrong(
        "q2",
        "a 3x3 projection",
        1,
        {"1, stride=stride)": "3, stride=stride, padding=1)"},
    ),
    Wrong(
        "q2",
        "the shortcut begins behind norm and ReLU",
        0.5,
        {SUM: "self.shortcut(self.residual[:2](x)) + self.residual(x)"},
    ),
    Wrong(
        "q2",
        "the stride in the second convolution",
        2.25,
        {
            "3, stride=stride, padding=1)": "3, padding=1)",
            SECOND: SECOND.replace("padding=1", "stride, 1"),
        },
    ),
    Wrong("q2", "no bias", 1, {"padding=1)": "padding=1, bias=False)"}),
    Wrong(
        "q3", "the kernel's holes forgotten", 1.75, {"sum(dilations)": "len(dilations)"}
    ),
    Wrong("q3", "every kernel added whole", 1.75, {"1 + (kernel - 1)": "kernel"}),
    Wrong("q3", "one half of the kernel", 1.75, {"(kernel - 1) *": "(kernel // 2) *"}),
    Wrong("q3", "only for kernels of 3", 2.25, {"(kernel - 1)": "2"}),
    Wrong("q3", "the pixels left out", 2.5, {"PIXELS = 68": "PIXELS = ...\n_ = 68"}),
    Wrong("q3", "pixels and positions mixed up", 2.5, {"68 + 8 *": "68 +"}),
    Wrong(
        "q3",
        "a position too many",
        2.5,
        {"(span(3, (1, 2, 4)) - 1)": "span(3, (1, 2, 4))"},
    ),
    Wrong(
        "q3",
        "padding of 1 for every dilation",
        1.25,
        {"dilation * (kernel // 2)": "kernel // 2"},
    ),
    Wrong(
        "q3",
        "padding of 2 for every dilation unit",
        1.25,
        {"dilation * (kernel // 2)": "dilation * (kernel - 1)"},
    ),
    Wrong(
        "q3",
        "not dilated",
        1.25,
        {"dilation * (kernel // 2)": "kernel // 2", "dilation=dilation, ": ""},
    ),
    Wrong("q3", "one after the other", 1.25, {"branch(x)": "branch(found[-1])"}),
    Wrong("q3", "the branches added", 1.25, {"torch.cat(found, dim=1)": "sum(found)"}),
    Wrong(
        "q3",
        "no mean of the whole",
        1.25,
        {
            "+ 2)": "+ 1)",
            "        found.append(F.relu(mean).expand_as(found[0]))\n": "",
        },
    ),
    Wrong("q3", "no ReLU behind the mean", 1.75, {"F.relu(mean)": "mean"}),
    Wrong(
        "q3",
        "the largest, not the mean",
        1.75,
        {"x.mean(dim=(2, 3)": "x.amax(dim=(2, 3)"},
    ),
    Wrong("q3", "convolutions with bias", 1.25, {", bias=False": ""}),
    Wrong(
        "q3",
        "the mean first",
        1.75,
        {"torch.cat(found": "torch.cat(found[-1:] + found[:-1]"},
    ),
    Wrong("q4", "softmax over the queries", 1.5, {"softmax(dim=-1)": "softmax(dim=1)"}),
    Wrong("q4", "no scale", 1.5, {SCALE: ""}),
    Wrong("q4", "divided by d, not its root", 1.5, {SCALE: " / q.shape[-1]"}),
    Wrong(
        "q4",
        "the scale of the tokens' channels",
        1.5,
        {SCALE: " / math.sqrt(tokens.shape[-1])"},
    ),
    Wrong(
        "q4",
        "the scale of the number of tokens",
        1.5,
        {SCALE: " / math.sqrt(q.shape[1])"},
    ),
    Wrong("q4", "queries and keys swapped", 2, {"q @ k.transpose": "k @ q.transpose"}),
    Wrong("q4", "sigmoid instead of softmax", 1.5, {"softmax(dim=-1)": "sigmoid()"}),
    Wrong(
        "q4",
        "softmax over everything",
        1.5,
        {"scores.softmax(dim=-1)": "scores.flatten(1).softmax(1).view_as(scores)"},
    ),
    Wrong(
        "q4",
        "the tokens as values",
        1.5,
        {"dim=-1) @ v": "dim=-1) @ tokens[..., : v.shape[-1]]"},
    ),
    Wrong(
        "q4",
        "a view instead of a transposition",
        1.5,
        {TO_TOKENS: "x.reshape(len(x), -1, x.shape[1])"},
    ),
    Wrong(
        "q4",
        "a view on the way back",
        2,
        {TO_MAP: "layer(tokens).reshape(len(x), -1, *x.shape[-2:])"},
    ),
    Wrong(
        "q4",
        "column by column",
        1.5,
        {TO_TOKENS: "x.transpose(2, 3).flatten(2).transpose(1, 2)"},
    ),
    Wrong(
        "q4",
        "channels as tokens",
        1.5,
        {TO_TOKENS: "x.flatten(2)", TO_MAP: "layer(tokens).unflatten(2, x.shape[-2:])"},
    ),
    Wrong(
        "q4",
        "rows and columns swapped on the way back",
        1.5,
        {"2, x.shape[-2:])": "2, x.shape[:-3:-1])"},
    ),
    Wrong(
        "q5", "the samples' own distance left out", 1, {"- within - among": "- among"}
    ),
    Wrong(
        "q5",
        "the annotations' own distance left out",
        0,
        {"- within - among": "- within"},
    ),
    Wrong(
        "q5",
        "no annotation with itself",
        0,
        {
            EACH: "for k, y in enumerate(annotations) for z in annotations[:k]",
        },
    ),
    Wrong(
        "q5",
        "a draw with itself",
        1,
        {OTHERS: "[distance(s, t) for s in samples for t in samples]"},
    ),
    Wrong("q5", "the first term once", 0, {"2 * across": "across"}),
    Wrong(
        "q5",
        "in pairs, not all with all",
        0,
        {CROSSED: "[distance(s, y) for s, y in zip(samples, annotations)]"},
    ),
    Wrong(
        "q5",
        "the root",
        0,
        {"2 * across - within - among": "max(0, 2 * across - within - among) ** 0.5"},
    ),
    Wrong("q5", "sums, not means", 0, {"np.mean(": "np.sum("}),
    Wrong(
        "q5",
        "its own distance, not the one given",
        0,
        {
            "def ged(": (
                "from unet_edu.metrics import distance as of_iou\n\n\ndef ged("
            ),
            "[distance(": "[of_iou(",
        },
    ),
    Wrong(
        "q6",
        "KL(p || q)",
        0,
        {
            "(mean_q, log_std_q, mean_p, log_std_p)": (
                "(mean_p, log_std_p, mean_q, log_std_q)"
            )
        },
    ),
    Wrong("q6", "a mean over the numbers", 1, {"sum(dim=1)": "mean(dim=1)"}),
    Wrong("q6", "summed over the images too", 0, {"sum(dim=1)": "sum()"}),
    Wrong(
        "q6",
        "deviations taken for variances",
        0,
        {
            "/ log_std_p.exp()) ** 2": ") ** 2 / log_std_p.exp()",
            "2 * (log_std_q": "(log_std_q",
        },
    ),
    Wrong("q6", "the 1 forgotten", 0, {" - 1 - ": " - "}),
    Wrong("q6", "the half forgotten", 0, {"0.5 * ": ""}),
    Wrong("q6", "divided by q's deviation", 0.5, {"/ log_std_p": "/ log_std_q"}),
    Wrong(
        "q6",
        "the logarithm added, not taken off",
        0,
        {"- 1 - spread": "- 1 + spread"},
    ),
    Wrong("q7", "interpolated labels", 0.75, {'"nearest"': '"bilinear"'}),
    Wrong(
        "q7",
        "interpolated labels, rounded",
        0.75,
        {SMALL: SMALL.replace("nearest", "bilinear") + ".round()"},
    ),
    Wrong(
        "q7",
        "the largest class of each block",
        0.75,
        {SMALL: "F.adaptive_max_pool2d(mask[:, None].float(), logits.shape[-2:])"},
    ),
    Wrong(
        "q7",
        "softmax before the loss",
        0.25,
        {"loss(logits, small": "loss(logits.softmax(1), small"},
    ),
    Wrong("q7", "the weights ignored", 0.25, {"weight * loss": "loss"}),
    Wrong(
        "q7",
        "divided by the number of outputs",
        0.25,
        {"return total": "return total / len(outputs)"},
    ),
    Wrong(
        "q7",
        "the mask cut to the corner",
        0.75,
        {SMALL: "mask[:, None, : logits.shape[-2], : logits.shape[-1]]"},
    ),
    Wrong(
        "q7",
        "the last output alone",
        0.25,
        {"total = total + weight": "total = weight"},
    ),
    Wrong(
        "q7",
        "the logits enlarged instead",
        0.75,
        {"loss(logits, small[:, 0].long())": f"loss({LARGE}, mask)"},
    ),
    Wrong("q8", "the luck left out", 2, {"LUCK = (": "LUCK = ...\n_ = ("}),
    Wrong("q8", "not paired", 1, UNPAIRED),
    Wrong(
        "q8",
        "paired by place, not by seed",
        1,
        {GAINS: "np.subtract(list(one.values()), list(other.values()))"},
    ),
    Wrong(
        "q8",
        "the difference turned round",
        1,
        {"one[seed] - other[seed]": "other[seed] - one[seed]"},
    ),
    Wrong(
        "q8",
        "the spread of the values, not of their mean",
        1.75,
        {MEANS: "rng.choice(gains, size=10_000)"},
    ),
    Wrong("q8", "drawn without replacement", 1.75, {"len(gains)))": "1))"}),
    Wrong("q8", "a normal interval", 1, NORMAL_INTERVAL),
    Wrong("q8", "both per cents at each end", 1.75, {") / 2": ")"}),
    Wrong("q8", "one run each", 2, {" / 3**0.5": ""}),
    Wrong("q8", "divided by the number of runs", 2, {"3**0.5": "3"}),
    Wrong(
        "q8",
        "another U-Net for each rival",
        2,
        {LEAD: "(means[:, 1:] - means[:, 1:][:, ::-1]).max(axis=1).mean()"},
    ),
    Wrong("q8", "no selection", 2, {"max(axis=1)": "mean(axis=1)"}),
    Wrong(
        "q8",
        "the largest distance, up or down",
        2,
        {LEAD: "np.abs(means[:, 1:] - means[:, :1]).max(axis=1).mean()"},
    ),
    # The other variants: the questions that are put differently there.
    Wrong(
        "q1",
        "alpha computed on the coarse grid",
        1.5,
        {
            "g = F.interpolate(g, x.shape[-2:]": "x = F.interpolate(x, g.shape[-2:]",
            f"return {ALPHA}": f"return F.interpolate({ALPHA}, scale_factor=2)",
        },
        seed=1,
    ),
    Wrong(
        "q1", "g repeated, not interpolated", 1.5, {'"bilinear"': '"nearest"'}, seed=1
    ),
    Wrong(
        "q2",
        "the zeros before the channels",
        1.5,
        {"0, 0, self.more)": "0, self.more, 0)"},
        seed=1,
    ),
    Wrong(
        "q2",
        "the mean of four pixels",
        2.25,
        {"x[:, :, :: self.stride, :: self.stride]": "F.avg_pool2d(x, self.stride)"},
        seed=1,
    ),
    Wrong(
        "q2",
        "a ReLU after the sum",
        0.5,
        {f"return {PADDED}": f"return F.relu({PADDED})"},
        seed=1,
    ),
    Wrong("q3", "the largest, not the mean", 1.75, {"x.mean(": "x.amax("}, seed=1),
    Wrong(
        "q3",
        "a softmax over the channels",
        1.25,
        {"torch.sigmoid(": "torch.softmax(", "(squeezed))))": "(squeezed))), dim=1)"},
        seed=1,
    ),
    Wrong(
        "q3",
        "no ReLU between",
        1.75,
        {"F.relu(self.narrow(squeezed))": "self.narrow(squeezed)"},
        seed=1,
    ),
    Wrong(
        "q3",
        "no sigmoid",
        1.25,
        {"torch.sigmoid(self.widen(": "(self.widen("},
        seed=1,
    ),
    Wrong("q3", "added instead of multiplied", 1.25, {"x * self": "x + self"}, seed=1),
    Wrong(
        "q4",
        "scores of 0 where nothing is allowed",
        1.5,
        {"~allowed, -math.inf": "~allowed, 0"},
        seed=1,
    ),
    Wrong(
        "q4",
        "shares taken away after the softmax",
        1.5,
        {
            "scores = scores.masked_fill(~allowed, -math.inf)": "",
            "scores.softmax(dim=-1)": "(scores.softmax(dim=-1) * allowed)",
        },
        seed=1,
    ),
    Wrong(
        "q4",
        "the table turned over",
        1.5,
        {"~allowed, ": "~allowed.transpose(1, 2), "},
        seed=1,
    ),
    Wrong("q4", "forbidden taken for allowed", 1.5, {"~allowed": "allowed"}, seed=1),
    Wrong(
        "q4",
        "strips instead of windows",
        1.5,
        {
            "x.transpose(2, 3).flatten": "x.flatten",
            "y.transpose(2, 3).flatten": "y.flatten",
        },
        seed=1,
    ),
    Wrong(
        "q4",
        "put back without the transposition",
        1.5,
        {"y.transpose(2, 3).flatten": "y.flatten"},
        seed=1,
    ),
    Wrong(
        "q5",
        "different draws only",
        1,
        {
            "for s in samples for t in samples]": (
                "for i, s in enumerate(samples) for t in samples[:i]] or [0]"
            )
        },
        seed=1,
    ),
    Wrong(
        "q6",
        "variances taken for deviations",
        0,
        {
            "** 2 / log_var_p": "** 2 / (2 * log_var_p)",
            "spread = ": "spread = 2 * ",
        },
        seed=1,
    ),
    Wrong("q7", "repeated, not interpolated", 1, {'"bilinear"': '"nearest"'}, seed=1),
    Wrong(
        "q7",
        "the mask made small instead",
        0.75,
        {
            LARGE: "mask[:, :: len(mask[0]) // logits.shape[2]]",
            "(large, mask)": "(logits, large[..., :: len(mask[0]) // logits.shape[2]])",
        },
        seed=1,
    ),
    Wrong(
        "q8", "95 % where 90 % was asked", 1.75, {"(100 - 90)": "(100 - 95)"}, seed=1
    ),
]
