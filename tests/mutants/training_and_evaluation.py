"""Wrong answers to assignment 3."""

from mutants import Wrong

ASSIGNMENT = "3-training-and-evaluation"

EACH_BY_ITSELF = """
def scores(pairs, n_classes):
    each = []
    for predicted, mask in pairs:
        table = confusion_matrix(predicted, mask, n_classes)
        right = table.diag().double()
        each.append(right / (table.sum(0) + table.sum(1) - right))
    return torch.stack(each).nanmean(dim=0)
"""
ALL_TOGETHER = """
def scores(pairs, n_classes):
    table = sum(confusion_matrix(guess, mask, n_classes) for guess, mask in pairs)
    return 2 * table.diag().double() / (table.sum(0) + table.sum(1))
"""
PACKAGE_COUNTS = """
from unet_edu import metrics


def scores(pairs, n_classes):
    return metrics.iou(sum(confusion_matrix(p, m, n_classes) for p, m in pairs))
"""
BY_PACKAGE = """
    from unet_edu.data import augment

    return augment.warp(image, field), augment.warp(mask, field)
"""
BY_PYTORCH = """
def weighted_cross_entropy(logits, mask, weights):
    return (weights * F.cross_entropy(logits, mask, reduction="none")).mean()
"""
ONE_STACK = """
def evaluate(net, data):
    was_training = net.training
    net.eval()
    costs = []
    with torch.no_grad():
        for image, mask in data:
            each = F.cross_entropy(net(image[None]), mask[None], reduction="none")
            costs.extend(each.flatten().tolist())
    net.train(was_training)
    return sum(costs) / len(costs)
"""
EACH_IMAGE = """
    def score(data, threshold):
        each = []
        for probability, mask in zip(*data, strict=True):
            table = metrics.confusion_matrix((probability > threshold).long(), mask, 2)
            each.append(metrics.iou(table)[1].item())
        return sum(each) / len(each)
"""
TOGETHER = """
    def score(data, threshold):
        probability, masks = data
        table = metrics.confusion_matrix((probability > threshold).long(), masks, 2)
        return metrics.iou(table)[1].item()
"""
WINNER = "F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1)"
NEW_OPTIMIZER = """\
optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
        net.train()"""
LOG_SUM = "logits.logsumexp(dim=1) - true"
BEST = "score(validation, threshold)"
STEP = "kept // grid * grid"
SEEN = "slice(start, start + tile)"
AFTER = "starts[-1] + tile - margin - side"
FILLED = "slice(start, start + n)"
SEEN_INSIDE = "slice(start - margin, start - margin + tile)"
FILLED_LATER = "slice(start + margin, start + margin + n)"
WRONG = [
    Wrong("q1", "mean of ratios, not ratio of sums", 0, EACH_BY_ITSELF),
    Wrong("q1", "Dice for IoU", 0, ALL_TOGETHER),
    Wrong(
        "q1",
        "an absent class scored 0",
        1.25,
        {"sum(1) - right)": "sum(1) - right).clamp(min=1)"},
    ),
    Wrong(
        "q1",
        "an absent class scored 1",
        1.25,
        {
            "return right / (table": "return (right / (table",
            "- right)": "- right)).nan_to_num(1)",
        },
    ),
    Wrong("q1", "the overlap counted twice in the union", 0, {" - right)": ")"}),
    Wrong(
        "q1",
        "the share of the true class, without what was invented",
        0,
        {"table.sum(0) + table.sum(1) - right": "table.sum(1)"},
    ),
    Wrong("q1", "the functions of the package", 0, PACKAGE_COUNTS),
    Wrong(
        "q2",
        "labels interpolated and rounded",
        2,
        {'"nearest"': '"bilinear"', "[0, 0].long()": "[0, 0].round().long()"},
    ),
    Wrong(
        "q2",
        "labels interpolated",
        1,
        {'"nearest"': '"bilinear"', "[0, 0].long()": "[0, 0]"},
    ),
    Wrong(
        "q2",
        "the image by nearest neighbour too",
        1.5,
        {'"bilinear"': '"nearest"'},
    ),
    Wrong("q2", "the mask not bent", 1, {"bent_mask[0, 0].long()": "mask"}),
    Wrong("q2", "rows and columns swapped", 0, {"[x, y]": "[y, x]"}),
    Wrong(
        "q2",
        "moved the other way",
        0,
        {"+ field[0]": "- field[0]", "+ field[1]": "- field[1]"},
    ),
    Wrong(
        "q2",
        "one too many in the scale",
        0,
        {"(width - 1)": "width", "(height - 1)": "height"},
    ),
    Wrong("q2", "zeros beyond the edge", 1, {'"reflection"': '"zeros"'}),
    Wrong(
        "q2",
        "the function of the package",
        0,
        {"    height, width = mask.shape\n": BY_PACKAGE},
    ),
    Wrong(
        "q3",
        "softmax before cross-entropy",
        0,
        {"true =": "logits = logits.softmax(dim=1)\n    true ="},
    ),
    Wrong(
        "q3",
        "the logarithm of a softmax",
        1.5,
        {LOG_SUM: "-logits.softmax(1).gather(1, mask[:, None])[:, 0].log()"},
    ),
    Wrong(
        "q3",
        "the logarithm of a softmax, kept off 0",
        1.5,
        {LOG_SUM: "-(logits.softmax(1).gather(1, mask[:, None])[:, 0] + 1e-8).log()"},
    ),
    Wrong(
        "q3",
        "exponentials that overflow",
        1.5,
        {"logits.logsumexp(dim=1)": "logits.exp().sum(dim=1).log()"},
    ),
    Wrong("q3", "weights forgotten", 0, {"weights * each": "each"}),
    Wrong("q3", "the sum instead of the mean", 0, {".mean()": ".sum()"}),
    Wrong(
        "q3",
        "divided by the sum of the weights",
        0,
        {".mean()": ".sum() / weights.sum()"},
    ),
    Wrong("q3", "a number without a gradient", 0, {".mean()": ".mean().item()"}),
    Wrong("q3", "the function of PyTorch", 0, BY_PYTORCH),
    Wrong(
        "q4",
        "all classes pooled",
        0,
        {
            "dice = 2 * overlap / (called + true)\n": (
                "return 1 - 2 * overlap.sum() / (called + true).sum()\n"
            )
        },
    ),
    Wrong("q4", "image by image", 0, {"(0, 2, 3)": "(2, 3)"}),
    Wrong("q4", "an absent class scored 0", 1.5, {"dice[true > 0]": "dice"}),
    Wrong(
        "q4",
        "an absent class scored 1",
        1.5,
        {"dice[true > 0]": "torch.where(true > 0, dice, 1.0)"},
    ),
    Wrong(
        "q4", "the background left out", 0, {"dice[true > 0]": "dice[1:][true[1:] > 0]"}
    ),
    Wrong(
        "q4",
        "a smoothing constant",
        0,
        {"2 * overlap / (called + true)": "(2 * overlap + 1) / (called + true + 1)"},
    ),
    Wrong("q4", "a sigmoid for each class", 0.5, {"softmax(dim=1)": "sigmoid()"}),
    Wrong("q4", "softmax along the rows", 0, {"softmax(dim=1)": "softmax(dim=2)"}),
    Wrong(
        "q4",
        "counted by the class that wins",
        0,
        {"logits.softmax(dim=1)": WINNER},
    ),
    Wrong("q4", "the score instead of the loss", 0, {"1 - dice": "dice"}),
    Wrong("q4", "the two forgotten", 0, {"2 * overlap": "overlap"}),
    Wrong("q5", "eval mode forgotten", 1.5, {"net.eval()": "pass"}),
    Wrong("q5", "left in eval mode", 1, {"net.train(was_training)": "pass"}),
    Wrong(
        "q5",
        "always left in train mode",
        1.5,
        {"net.train(was_training)": "net.train()"},
    ),
    Wrong("q5", "the mean over pixels", 1, ONE_STACK),
    Wrong("q5", "gradients recorded", 1.5, {"torch.no_grad()": "torch.enable_grad()"}),
    Wrong(
        "q5",
        "gradients switched off for good",
        1.5,
        {"with torch.no_grad():": "torch.set_grad_enabled(False)\n    if True:"},
    ),
    Wrong(
        "q5",
        "softmax before cross-entropy",
        1,
        {"net(image[None])": "net(image[None]).softmax(1)"},
    ),
    Wrong("q5", "the sum over images", 1, {" / len(costs)": ""}),
    Wrong("q6", "gradients not zeroed", 1, {"optimizer.zero_grad()": "pass"}),
    Wrong(
        "q6",
        "gradients zeroed before the step",
        0.5,
        {
            "optimizer.zero_grad()": "pass",
            "optimizer.step()": "optimizer.zero_grad()\n            optimizer.step()",
        },
    ),
    Wrong(
        "q6",
        "gradients zeroed after the step",
        2,
        {
            "optimizer.zero_grad()": "pass",
            "optimizer.step()": "optimizer.step()\n            optimizer.zero_grad()",
        },
    ),
    Wrong(
        "q6",
        "gradients zeroed once an epoch",
        1,
        {
            "optimizer.zero_grad()": "pass",
            "net.train()": "net.train(), net.zero_grad()",
        },
    ),
    Wrong("q6", "train mode forgotten", 0.5, {"net.train()": "pass"}),
    Wrong(
        "q6",
        "train mode only before the first epoch",
        1,
        {
            "net.train()": "pass",
            "losses, values =": "net.train()\n    losses, values =",
        },
    ),
    Wrong("q6", "left in train mode", 2, {"net.eval()": "net.train()"}),
    Wrong(
        "q6",
        "softmax before cross-entropy",
        0.5,
        {"net(images)": "net(images).softmax(1)"},
    ),
    Wrong("q6", "an optimizer for each epoch", 1.5, {"net.train()": NEW_OPTIMIZER}),
    Wrong("q6", "the rate ignored", 1, {", lr=lr": ""}),
    Wrong("q6", "tensors instead of numbers", 2, {"loss.item()": "loss.detach()"}),
    Wrong("q6", "another optimizer", 1, {"AdamW": "Adam"}),
    Wrong(
        "q6",
        "validated after each step",
        0.5,
        {"\n        values.append": "\n            values.append"},
    ),
    Wrong("q7", "chosen on the test images", 0, {BEST: "score(test, threshold)"}),
    Wrong(
        "q7",
        "chosen on both",
        0,
        {BEST: "score(validation, threshold) + score(test, threshold)"},
    ),
    Wrong(
        "q7",
        "the score of the validation images",
        0,
        {"score(test, best)": "score(validation, best)"},
    ),
    Wrong(
        "q7",
        "at the threshold counted as above",
        1.5,
        {"probability > threshold": "probability >= threshold"},
    ),
    Wrong(
        "q7",
        "the mean over images",
        0.5,
        {TOGETHER.strip("\n"): EACH_IMAGE.strip("\n")},
    ),
    Wrong(
        "q7",
        "the highest of equal thresholds",
        1.5,
        {"sorted(tries)": "sorted(tries)[::-1]"},
    ),
    Wrong("q7", "the first of equal thresholds", 2, {"sorted(tries)": "tries"}),
    Wrong(
        "q7",
        "accuracy instead of IoU",
        0,
        {"metrics.iou(table)[1].item()": "metrics.pixel_accuracy(table)"},
    ),
    Wrong(
        "q7",
        "the mean over both classes",
        0,
        {"metrics.iou(table)[1]": "metrics.iou(table).mean()"},
    ),
    Wrong(
        "q7",
        "the optimism left out",
        2,
        {"OPTIMISM = flattered - honest": "OPTIMISM = ..."},
    ),
    Wrong(
        "q7",
        "optimism with the wrong sign",
        2,
        {"flattered - honest": "honest - flattered"},
    ),
    Wrong(
        "q7",
        "optimism from the validation score",
        2,
        {
            "_, honest = choose_and_score(validation, test, tries)": (
                "_, honest = choose_and_score(validation, validation, tries)"
            )
        },
    ),
    Wrong(
        "q8",
        "tiles side by side without a margin",
        0.5,
        {"kept = tile - 2 * margin": "kept = tile"},
    ),
    Wrong("q8", "the margin counted once", 0.5, {"2 * margin\n": "margin\n"}),
    Wrong("q8", "not rounded to the grid", 2.5, {STEP: "kept"}),
    Wrong("q8", "rounded up to the grid", 2.5, {STEP: "-(-kept // grid) * grid"}),
    Wrong(
        "q8",
        "one pixel off",
        0.5,
        {SEEN: "slice(start + 1, start + 1 + tile)"},
    ),
    Wrong("q8", "places of the image, not extended", 0.5, {SEEN: SEEN_INSIDE}),
    Wrong("q8", "the margin at the end forgotten", 0.5, {AFTER: f"{AFTER} - margin"}),
    Wrong("q8", "extended by the margin alone", 0.5, {AFTER: "margin"}),
    Wrong("q8", "the last answer not cut", 0.5, {"min(kept, side - start)": "kept"}),
    Wrong("q8", "filled in the extended image", 0.5, {FILLED: FILLED_LATER}),
    Wrong(
        "q8",
        "the last tiles left out",
        0.5,
        {"range(0, side, step)": "range(0, side - kept + 1, step)"},
    ),
    Wrong(
        "q8", "the number of tiles left out", 2.5, {"TILES = (": "TILES = ...\n_ = ("}
    ),
    Wrong("q8", "tiles counted in one row only", 2.5, {" ** 2  # S": "  # S"}),
    Wrong("q8", "tiles counted without rounding up", 2.5, {"(-(-4000 //": "((4000 //"}),
    Wrong("q8", "tiles counted without the grid", 2.5, {" // 8 * 8": ""}),
    # The other variants: the questions that are put differently there.
    Wrong("q1", "ratio of sums, not mean of ratios", 0, ALL_TOGETHER, seed=1),
    Wrong(
        "q1",
        "an absent class scored 0",
        0.75,
        {"sum(1)))": "sum(1)).clamp(min=1))"},
        seed=1,
    ),
    Wrong("q2", "mirrored beyond the edge", 1, {'"border"': '"reflection"'}, seed=1),
    Wrong("q3", "divided by the pixels", 0, {"weights.sum()": "mask.numel()"}, seed=1),
    Wrong("q4", "pooled over the batch", 0, {"(2, 3)": "(0, 2, 3)"}, seed=1),
    Wrong("q5", "every image counted alike", 1, {"mask.numel()": "1"}, seed=1),
    Wrong("q6", "momentum forgotten", 1, {", momentum=0.9": ""}, seed=1),
    Wrong(
        "q7",
        "all images together",
        0.5,
        {EACH_IMAGE.strip("\n"): TOGETHER.strip("\n")},
        seed=1,
    ),
    Wrong(
        "q8",
        "the edges of the tiles kept",
        0.5,
        {"slice(margin, margin + n)": "slice(0, n)"},
        seed=1,
    ),
    Wrong(
        "q8",
        "cut off by one",
        0.5,
        {"slice(margin, margin + n)": "slice(margin + 1, margin + 1 + n)"},
        seed=1,
    ),
]
