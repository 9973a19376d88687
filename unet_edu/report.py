"""Two pages about a run on a folder of your own: before training, and after.

Each is one HTML file that needs nothing else: pictures are inside it, no script runs
and nothing is fetched, so that it can be sent to whoever made the pictures.
"""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from torch import Tensor

from unet_edu.checkpoints import write_text
from unet_edu.data.folder import File, Folder, Plan, class_shares
from unet_edu.data.pairs import PARTS, counted, listed, set_of
from unet_edu.plotting import CLASSES, INK, INVENTED, MISSED, PREDICTED, SKIP, TRUTH

MOST_PAIRS = 12
SIDE = 400  # pixels of a picture on the page

STYLE = """
:root { color-scheme: light dark; --ink: #26323d; --ground: #fff; --line: #c9d2da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --ground: #171c21; --line: #46525d; }
}
body { color: var(--ink); background: var(--ground); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9rem; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; font-style: italic; padding-bottom: .4rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0;
  text-align: left; vertical-align: top; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.charts img { width: 30rem; }
figure { margin: 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: #fff; }
.grid { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
.note { border-left: .3rem solid #d55e00; padding: .1rem 1rem; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border: 1px solid var(--ink); }
"""


def sanity_page(plan: Plan, path: Path) -> None:
    """Write what should be looked at before training: pairs, values, split, brightness.

    Raises OSError if the page cannot be written. Derived in chapter 22.
    """
    parts = [
        "<h1>Before training: is this what you meant?</h1>",
        "<p>Nothing has been learned yet. If a picture below carries the wrong mask, "
        "or a class the wrong name, the network would learn that.</p>",
        _notes(plan),
        "<h2>Pairs</h2>",
        _legend(plan),
        _pairs(plan),
        "<h2>What was found</h2>",
        *(f"<pre>{html.escape(sentence)}</pre>" for sentence in plan.said),
        "<h2>Values, classes and their balance</h2>",
        _balance(plan),
        "<h2>Sizes and brightness</h2>",
        _sizes(plan),
        _histogram(plan),
    ]
    _write(path, "Before training", parts)


def report_page(
    path: Path,
    plan: Plan,
    result: dict,
    cases: Sequence[tuple[str, Tensor, Tensor, Tensor]],
    history: Sequence[dict],
    settings: dict[str, object],
) -> None:
    """Write what came of a training: curves, metrics, each picture, best and worst.

    Args:
        path: the HTML file.
        plan: what was trained on.
        result: what :func:`unet_edu.runs.measure` returned for the held-out part.
        cases: a title, an image, its mask and the prediction, for each case shown.
        history: what ``fit`` returned.
        settings: name and value of all that the run depends on.

    Raises OSError if the page cannot be written. Derived in chapter 22.
    """
    parts = [
        "<h1>After training: how good is it, and where not?</h1>",
        f"<p>{html.escape(result['summary'])}</p>",
        _notes(plan),
        "<h2>Quality on pictures that were kept back</h2>",
        _metrics(result),
        "<h2>Best, median and worst</h2>",
        _errors_legend(),
        *(_case(*case) for case in cases),
        "<h2>Training</h2>",
        _curves(history),
        "<h2>Every picture that was kept back</h2>",
        _each(result),
        "<h2>Settings</h2>",
        _table(
            "What the run depends on.",
            ["setting", "value"],
            [[name, str(value)] for name, value in settings.items()],
            numbers=False,
        ),
    ]
    _write(path, "After training", parts)


def _write(path: Path, title: str, parts: Iterable[str]) -> None:
    body = "\n".join(part for part in parts if part)
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
    )


# --- Parts of both pages.


def _notes(plan: Plan) -> str:
    """Warnings and what was skipped, where nobody can miss them."""
    parts = []
    for heading, lines in [
        (counted(len(plan.warnings), "warning"), plan.warnings),
        (f"{counted(len(plan.skipped), 'pair')} skipped", plan.skipped),
    ]:
        if lines:
            items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
            parts.append(f'<div class="note"><h2>{heading}</h2><ul>{items}</ul></div>')
    return "\n".join(parts)


def _table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    raw: bool = False,
    numbers: bool = True,
) -> str:
    """Return a table whose first column names the row; ``numbers`` stand to the right.

    Cells are escaped unless they are ``raw`` HTML.
    """
    write = (lambda cell: cell) if raw else html.escape
    lines = ["".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)]
    for first, *rest in rows:
        cells = "".join(
            f'<td class="n">{write(c)}</td>'
            if numbers and c[:1].isdigit()
            else f"<td>{write(c)}</td>"
            for c in rest
        )
        lines.append(f'<th scope="row">{write(first)}</th>{cells}')
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>\n{body}\n'
        "</table></div>"
    )


def _img(data: bytes, kind: str, alt: str) -> str:
    code = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/{kind};base64,{code}" alt="{html.escape(alt)}">'


def _picture(image: Image.Image, alt: str, caption: str) -> str:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    return (
        f"<figure>{_img(file.getvalue(), 'jpeg', alt)}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _chart(figure, alt: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, facecolor="white")
    return _img(file.getvalue(), "png", alt)


def _figure():
    """Return a figure with its axes, outside of pyplot's list of open figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK)
    return figure, ax


def _swatch(index: int) -> str:
    colour = CLASSES[index % len(CLASSES)]
    return f'<span class="swatch" style="background:{colour}"></span>'


def small(image: Tensor, *masks: Tensor) -> tuple[Image.Image, ...]:
    """Bring an image (C, H, W) and its masks (H, W) to the width of a page.

    Returns an RGB picture and a picture of class indices for each mask. Masks take the
    nearest value.
    """
    array = (image.numpy().clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    array = np.repeat(array, 3, -1) if array.shape[-1] == 1 else array
    height, width = array.shape[:2]
    factor = SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.NEAREST
    pictures = [Image.fromarray(array).resize(size, way)]
    for mask in masks:
        stored = Image.fromarray(mask.numpy().astype(np.uint8))
        pictures.append(stored.resize(size, Image.Resampling.NEAREST))
    return tuple(pictures)


def outlined(
    picture: Image.Image, mask: Image.Image, colour: str | None = None
) -> Image.Image:
    """Draw the border of each class but 0 on a picture, in its colour or in one.

    Two pixels wide, inside the class.
    """
    array, labels = np.array(picture), np.asarray(mask)
    around = np.pad(labels, 2, mode="edge")
    edge = np.zeros(labels.shape, bool)
    for rows, columns in [
        (0, 2),
        (1, 2),
        (3, 2),
        (4, 2),
        (2, 0),
        (2, 1),
        (2, 3),
        (2, 4),
    ]:
        shifted = around[rows : rows + len(labels), columns : columns + labels.shape[1]]
        edge |= shifted != labels
    for value in np.unique(labels[labels > 0]):
        shade = colour or CLASSES[int(value) % len(CLASSES)]
        array[edge & (labels == value)] = ImageColor.getrgb(shade)
    return Image.fromarray(array)


# --- Before training.


def _pairs(plan: Plan) -> str:
    """Show pairs from as many groups as there is room for."""
    by_group = {name: [] for name in set_of(file.group for file in plan.files)}
    for file in plan.files:
        by_group[file.group].append(file)
    turns = max(map(len, by_group.values()))
    order = [
        files[i] for i in range(turns) for files in by_group.values() if i < len(files)
    ]
    return (
        f'<div class="grid">{"".join(_pair(plan, f) for f in order[:MOST_PAIRS])}</div>'
    )


def _pair(plan: Plan, file: File) -> str:
    data = Folder(plan, [file])
    middle = len(data) // 2
    image, mask = data[middle]
    names = [plan.table.classes[i] for i in mask.unique().tolist() if i]
    drawn = listed(names) or "nothing"
    alt = f"{file.pair.image} with the borders of {drawn} drawn on it"
    piece = f", piece {middle + 1} of {len(data)}" if len(data) > 1 else ""
    caption = f"{file.pair.image}, {file.part}, group {file.group}{piece}"
    return _picture(outlined(*small(image, mask)), alt, caption)


def _legend(plan: Plan) -> str:
    items = [
        f"{_swatch(i)}{html.escape(name)}"
        for i, name in enumerate(plan.table.classes)
        if i
    ]
    return f"<p>Borders: {', '.join(items)}.</p>"


def _balance(plan: Plan) -> str:
    shares = {name: class_shares(plan, name) for name in PARTS}
    rows = []
    for index, name in enumerate(plan.table.classes):
        stored = [
            plan.table.name(v) for v, i in plan.table.values.items() if i == index
        ]
        if plan.table.threshold is not None:
            stored = [f"{'above' if index else 'up to'} {plan.table.threshold:g}"]
        balance = [f"{100 * shares[part][index]:.2f} %" for part in PARTS]
        rows.append(
            [
                _swatch(index) + html.escape(listed(stored)),
                str(index),
                html.escape(name),
                *balance,
            ]
        )
    head = ["stored", "class", "name", *PARTS]
    return _table("Share of the pixels of each part.", head, rows, raw=True)


def _sizes(plan: Plan) -> str:
    counted = Counter((file.facts.size, file.facts.pages) for file in plan.files)
    rows = [
        [f"{width} x {height}", str(pages), str(n)]
        for ((height, width), pages), n in counted.most_common(12)
    ]
    caption = f"Sizes, {len(counted)} in all, the most frequent first."
    return _table(caption, ["width x height, pixels", "pages", "pictures"], rows)


def _histogram(plan: Plan) -> str:
    figure, ax = _figure()
    for part, colour in zip(PARTS, (TRUTH, PREDICTED, SKIP), strict=True):
        found = [f.facts for f in plan.part(part)]
        values = [
            (one.sample - plan.scaling[one.dtype][0]) / np.diff(plan.scaling[one.dtype])
            for one in found
        ]
        n, edges = np.histogram(np.concatenate(values).clip(0, 1), 40, (0, 1))
        ax.stairs(n / n.sum(), edges, color=colour, label=part)
    ax.set(xlabel="brightness, 0 to 1", ylabel="share of pixels")
    ax.legend(frameon=False)
    alt = "Histogram of brightness for train, val and held_out: three lines from 0 to 1"
    return f'<p class="charts">{_chart(figure, alt)}</p>'


# --- After training.


def _metrics(result: dict) -> str:
    rows = []
    for row in result["classes"]:
        cells = [_with_interval(row["iou"]), _with_interval(row["dice"])]
        cells += ["absent" if row["trivial"] is None else f"{row['trivial']:.3f}"]
        boundary = row["boundary_f1"]
        cells += ["–" if boundary is None else f"{boundary:.3f}"]
        rows.append([row["name"], *cells])
    head = ["class", "IoU", "Dice", "IoU if all were one class", "boundary F1, 2 px"]
    return _table(result["conditions"], head, rows)


def _with_interval(value: dict) -> str:
    if value["value"] is None:
        return "absent"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _each(result: dict) -> str:
    names = [row["name"] for row in result["classes"]]
    rows = []
    for record in sorted(result["pictures"], key=lambda one: one["score"]):
        ious = ["–" if v is None else f"{v:.3f}" for v in record["iou"]]
        rows.append([record["image"], record["group"], f"{record['score']:.3f}", *ious])
    head = ["picture", "group", "score", *(f"IoU {name}" for name in names)]
    caption = "The worst first. The score is the mean IoU of all classes but the first."
    return _table(caption, head, rows)


def _errors_legend() -> str:
    marks = [
        (TRUTH, "border in the mask"),
        (PREDICTED, "border in the prediction"),
        (MISSED, "called another class than the mask says"),
        (INVENTED, "found where the mask has the first class"),
    ]
    items = [
        f'<span class="swatch" style="background:{colour}"></span>{text}'
        for colour, text in marks
    ]
    return f"<p>{', '.join(items)}.</p>"


def _case(title: str, image: Tensor, mask: Tensor, predicted: Tensor) -> str:
    """Show a picture alone, with both borders, and with what is wrong."""
    picture, truth, found = small(image, mask, predicted)
    both = outlined(outlined(picture, truth, TRUTH), found, PREDICTED)
    t, p = np.asarray(truth), np.asarray(found)
    # Gray and pale, so that colours of errors are not lost among those of the picture.
    wrong = np.array(picture.convert("L").convert("RGB")) // 2 + 127
    for where, colour in [((t > 0) & (p != t), MISSED), ((t == 0) & (p > 0), INVENTED)]:
        wrong[where] = ImageColor.getrgb(colour)
    share = float((mask != predicted).float().mean())
    shown = [
        (picture, "picture", "the picture alone"),
        (
            both,
            "borders",
            "borders of the mask in blue, of the prediction in vermilion",
        ),
        (Image.fromarray(wrong), "errors", f"{100 * share:.1f} % of its pixels wrong"),
    ]
    figures = "".join(
        _picture(one, f"{title}: {alt}", f"{name}: {alt}" if name == "errors" else name)
        for one, name, alt in shown
    )
    return f'<h3>{html.escape(title)}</h3><div class="grid">{figures}</div>'


def _curves(history: Sequence[dict]) -> str:
    epochs = [record["epoch"] for record in history]
    means = [float(np.nanmean(np.array(r["val_iou"], float))) for r in history]
    losses, left = _figure()
    style = {"marker": "o", "ms": 3}
    left.plot(epochs, [r["loss"] for r in history], color=TRUTH, label="train", **style)
    val = [r["val_loss"] for r in history]
    left.plot(epochs, val, color=PREDICTED, label="val", **style)
    left.set(ylabel="loss per pixel", ylim=(0, None))
    left.legend(frameon=False)
    quality, right = _figure()
    right.plot(epochs, means, color=PREDICTED, **style)
    right.set(ylabel="mean IoU, val", ylim=(0, 1))
    for ax in (left, right):
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    best = int(np.argmax(means))
    first = (
        f"Loss on train and on val over {len(epochs)} epochs, the last {val[-1]:.3f}"
    )
    second = (
        f"Mean IoU on val over {len(epochs)} epochs; the best is epoch {epochs[best]} "
        f"with {means[best]:.3f}"
    )
    charts = _chart(losses, first) + _chart(quality, second)
    return f'<p class="charts">{charts}</p>'
