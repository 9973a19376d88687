// The metric playground: a true mask, a predicted mask to paint on, and what four metrics
// and a count of regions make of it. The first half is numbers only, the second the page.
//
// A mask is a flat list of 0 and 1, row by row, and the width of a row.

export const SIDE = 48;

// Numbers. The definitions are those of unet_edu/metrics.py; 0 / 0 is NaN here too.

// Rows are what is true, columns what was called so.
export function confusionMatrix(predicted, truth) {
  const counts = [[0, 0], [0, 0]];
  truth.forEach((t, i) => (counts[t][predicted[i]] += 1));
  return counts;
}

export function pixelAccuracy([[right, invented], [missed, found]]) {
  return (right + found) / (right + invented + missed + found);
}

export function iou(c) {
  return [0, 1].map((k) => c[k][k] / (c[k][k] + c[k][1 - k] + c[1 - k][k]));
}

export function dice(c) {
  return [0, 1].map((k) => (2 * c[k][k]) / (2 * c[k][k] + c[k][1 - k] + c[1 - k][k]));
}

// An absent class is NaN and does not count.
export function meanOverPresent(values) {
  const present = values.filter((value) => !Number.isNaN(value));
  return present.reduce((sum, value) => sum + value, 0) / present.length;
}

// The four neighbours of pixel i that lie in the image.
function neighbours(i, width, length) {
  const x = i % width;
  const near = [];
  if (x > 0) near.push(i - 1);
  if (x < width - 1) near.push(i + 1);
  if (i >= width) near.push(i - width);
  if (i + width < length) near.push(i + width);
  return near;
}

// A boundary pixel is foreground and has a neighbour that is not. Beyond the image lies
// more of the same, so the image's edge is no boundary.
export function boundary(mask, width) {
  const edge = (value, i) => value && neighbours(i, width, mask.length).some((j) => !mask[j]);
  return Uint8Array.from(mask, (value, i) => (edge(value, i) ? 1 : 0));
}

// The share of the pixels of `edge` within `tolerance` of one of `other`.
function shareNear(edge, other, width, tolerance) {
  const height = edge.length / width;
  const reach = Math.floor(tolerance);
  let all = 0;
  let near = 0;
  edge.forEach((value, i) => {
    if (!value) return;
    all += 1;
    const [y, x] = [Math.floor(i / width), i % width];
    for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v += 1) {
      for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u += 1) {
        if (other[v * width + u] && Math.sqrt((v - y) ** 2 + (u - x) ** 2) <= tolerance) {
          near += 1;
          return;
        }
      }
    }
  });
  return near / all;
}

export function boundaryF1(predicted, truth, width, tolerance = 2) {
  if (!predicted.includes(1) && !truth.includes(1)) return NaN;
  const [found, real] = [boundary(predicted, width), boundary(truth, width)];
  if (!found.includes(1) || !real.includes(1)) {
    return truth.every((value, i) => value === predicted[i]) ? 1 : 0;
  }
  const precision = shareNear(found, real, width, tolerance);
  const recall = shareNear(real, found, width, tolerance);
  return precision + recall ? (2 * precision * recall) / (precision + recall) : 0;
}

// Number the pieces of background, 1, 2, ...: connected to four neighbours. Foreground is
// 0. The package thins the walls afterwards, which changes no number of pieces.
export function regions(mask, width) {
  const labels = new Int32Array(mask.length);
  let n = 0;
  mask.forEach((value, start) => {
    if (value || labels[start]) return;
    labels[start] = n += 1;
    const open = [start];
    while (open.length) {
      for (const j of neighbours(open.pop(), width, mask.length)) {
        if (mask[j] || labels[j]) continue;
        labels[j] = n;
        open.push(j);
      }
    }
  });
  return labels;
}

export function countRegions(mask, width) {
  return regions(mask, width).reduce((most, label) => Math.max(most, label), 0);
}

// Shift by one pixel or more; what comes in repeats the edge.
export function shifted(mask, width, dx, dy) {
  const height = mask.length / width;
  const within = (value, size) => Math.min(size - 1, Math.max(0, value));
  return Uint8Array.from(mask, (_, i) => {
    const [y, x] = [Math.floor(i / width) - dy, (i % width) - dx];
    return mask[within(y, height) * width + within(x, width)];
  });
}

export function grown(mask, width) {
  const touched = (i) => neighbours(i, width, mask.length).some((j) => mask[j]);
  return Uint8Array.from(mask, (value, i) => (value || touched(i) ? 1 : 0));
}

export function shrunk(mask, width) {
  const edge = boundary(mask, width);
  return Uint8Array.from(mask, (value, i) => (value && !edge[i] ? 1 : 0));
}

export function measure(predicted, truth, width, tolerance) {
  const table = confusionMatrix(predicted, truth);
  const [[right, invented], [missed, found]] = table;
  return {
    accuracy: pixelAccuracy(table),
    iou: iou(table)[1],
    dice: dice(table)[1],
    boundary: boundaryF1(predicted, truth, width, tolerance),
    meanIou: meanOverPresent(iou(table)),
    counts: { found, missed, invented, right },
    regions: countRegions(predicted, width),
    trueRegions: countRegions(truth, width),
  };
}

// Words.

const WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const NAMES = { accuracy: "accuracy", iou: "IoU", dice: "Dice", boundary: "boundary F1" };

const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

// As the book's prose writes numbers: .997 and 1.000.
export function shown(value) {
  return Number.isNaN(value) ? "NaN" : value.toFixed(3).replace(/^0\./, ".");
}

// How often each region of `to` is where most of a region of `from` lies.
function heirs(from, to) {
  const overlaps = new Map();
  from.forEach((label, i) => {
    if (!label || !to[i]) return;
    if (!overlaps.has(label)) overlaps.set(label, new Map());
    const row = overlaps.get(label);
    row.set(to[i], (row.get(to[i]) ?? 0) + 1);
  });
  const counts = new Map();
  for (const row of overlaps.values()) {
    const [heir] = [...row].reduce((best, next) => (next[1] > best[1] ? next : best));
    counts.set(heir, (counts.get(heir) ?? 0) + 1);
  }
  return [...counts.values()].filter((n) => n > 1);
}

// What became of the regions from one mask to the next, in words; "" if as many as before.
export function regionsChanged(before, after, width, noun = "region") {
  const [from, to] = [regions(before, width), regions(after, width)];
  const [n, m] = [from, to].map((labels) => labels.reduce((a, b) => Math.max(a, b), 0));
  if (n === m) return "";
  const [joined, cut] = [heirs(from, to), heirs(to, from)];
  const one = (list, change) => list.length === 1 && list[0] === change + 1 && list[0] < 10;
  if (!cut.length && one(joined, n - m)) return `${WORDS[joined[0]]} ${noun}s became one`;
  if (!joined.length && one(cut, m - n)) return `one ${noun} became ${WORDS[cut[0]]}`;
  return `${plural(m, noun)} instead of ${n}`;
}

// What an absent foreground means, wherever it comes up.
function absent(now) {
  if (!Number.isNaN(now.iou)) return "";
  return (
    " The foreground is in neither mask. It is absent, neither right nor wrong: NaN. " +
    `The mean IoU over the classes that are present leaves it out: ${shown(now.meanIou)}.`
  );
}

// One sentence on a change of the predicted mask: how many pixels, which numbers, which
// regions. `order` is the metrics' order on this page.
export function sentence(before, after, was, now, order, width, noun) {
  let [gone, come] = [0, 0];
  before.forEach((value, i) => {
    gone += value > after[i];
    come += value < after[i];
  });
  if (!gone && !come) return "Nothing changed.";
  const pixels =
    gone && come
      ? `${plural(gone, "pixel")} gone and ${come} new`
      : `${plural(gone + come, "pixel")} ${gone ? "gone" : "new"}`;
  const moved = order.filter((name) => shown(was[name]) !== shown(now[name]));
  const numbers = moved.length
    ? moved.map((name) => `${NAMES[name]} ${shown(now[name])}`).join(", ")
    : "the four numbers as before, to three digits";
  const cells = regionsChanged(before, after, width, noun);
  return `${pixels}: ${numbers}${cells && `, ${cells}`}.${absent(now)}`;
}

// Where to start from.

const where = (rule) =>
  Uint8Array.from({ length: SIDE * SIDE }, (_, i) =>
    rule(Math.floor(i / SIDE), i % SIDE) ? 1 : 0,
  );

const NOTHING = where(() => false);
const DISC = where((y, x) => (y - 24) ** 2 + (x - 24) ** 2 < 14.5 ** 2);
const LINE = where((y) => y === 24);
const SPECKS = where((y, x) => y % 8 === 3 && x % 8 === 3);

// Five cells: each pixel belongs to the nearest centre, and a wall is where neighbours,
// diagonal ones too, belong to different centres.
const CENTRES = [[10, 10], [10, 34], [36, 5], [32, 24], [36, 43]];
const nearest = (y, x) => {
  const far = CENTRES.map(([v, u]) => (y - v) ** 2 + (x - u) ** 2);
  return far.indexOf(Math.min(...far));
};
const WALLS = where((y, x) => {
  const last = SIDE - 1;
  const around = [-1, 0, 1].flatMap((v) =>
    [-1, 0, 1].map((u) =>
      nearest(Math.min(last, Math.max(0, y + v)), Math.min(last, Math.max(0, x + u))),
    ),
  );
  return around.some((owner) => owner !== around[0]);
});
const inGap = (i) => {
  const [y, x] = [Math.floor(i / SIDE), i % SIDE];
  return y >= 5 && y < 8 && x >= 22 && x < 24;
};

const start = (group, label, truth, predicted, note = "") => ({
  ...{ group, label, truth, predicted, note },
  noun: group === "Cells" ? "cell" : "region",
});

export const PRESETS = {
  disc: start("Disc", "disc, perfect", DISC, DISC),
  "disc-shifted": start("Disc", "disc, shifted 1 px", DISC, shifted(DISC, SIDE, 1, 0)),
  specks: start("Disc", "disc, specks of noise", DISC, DISC.map((v, i) => v ^ SPECKS[i])),
  background: start(
    "Disc",
    "disc, all background",
    DISC,
    NOTHING,
    "Accuracy is the share of background; nothing has been found.",
  ),
  foreground: start(
    "Disc",
    "disc, all foreground",
    DISC,
    NOTHING.map(() => 1),
    "Accuracy and IoU are both the share of the disc. A foreground that fills the image " +
      "has no boundary, and the disc has one.",
  ),
  line: start("Line", "line, perfect", LINE, LINE),
  "line-shifted": start("Line", "line, shifted 1 px", LINE, shifted(LINE, SIDE, 0, 1)),
  cells: start("Cells", "five cells, perfect", WALLS, WALLS),
  gap: start("Cells", "a gap in a wall", WALLS, WALLS.map((v, i) => (inGap(i) ? 0 : v))),
  "cells-shifted": start("Cells", "walls shifted 1 px", WALLS, shifted(WALLS, SIDE, 1, 0)),
  "cells-thicker": start("Cells", "walls 1 px thicker", WALLS, grown(WALLS, SIDE)),
  "cells-specks": start("Cells", "specks of noise", WALLS, WALLS.map((v, i) => v | SPECKS[i])),
  empty: start("Neither", "both masks empty", NOTHING, NOTHING),
};

// What a page puts in front, and where it starts.
const PAGES = {
  pixels: { order: ["accuracy", "iou", "dice", "boundary"], first: "disc" },
  boundary: { order: ["boundary", "accuracy", "iou", "dice"], first: "cells" },
};

// The page.

const PIXEL = 16; // of the canvas; the style sheet scales it
const COLOURS = { right: "#ffffff", found: "#c9d2da", missed: "#e69f00", invented: "#cc79a7" };
const [INK, TRUTH, PREDICTED] = ["#26323d", "#0072b2", "#d55e00"];
const LEGEND = {
  found: "found: foreground in both",
  missed: "missed: foreground in the truth only",
  invented: "invented: foreground in the prediction only",
  right: "background in both",
};
const ARROWS = {
  ArrowLeft: [-1, 0, "←", "left"],
  ArrowUp: [0, -1, "↑", "up"],
  ArrowDown: [0, 1, "↓", "down"],
  ArrowRight: [1, 0, "→", "right"],
};

function state(truth, predicted) {
  if (truth) return predicted ? "found" : "missed";
  return predicted ? "invented" : "right";
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(canvas, truth, predicted, cursor) {
  const pen = canvas.getContext("2d");
  truth.forEach((value, i) => {
    pen.fillStyle = COLOURS[state(value, predicted[i])];
    pen.fillRect((i % SIDE) * PIXEL, Math.floor(i / SIDE) * PIXEL, PIXEL, PIXEL);
  });
  // The outlines: the prediction's is drawn a little further in, so that both are seen
  // where they agree.
  outline(pen, predicted, PREDICTED, 4);
  outline(pen, truth, TRUTH, 1.25);
  if (!cursor) return;
  for (const [colour, by] of [["#ffffff", -3], [INK, 0]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = 3;
    const size = PIXEL - 2 * by;
    pen.strokeRect(cursor[0] * PIXEL + by, cursor[1] * PIXEL + by, size, size);
  }
}

// The sides of a mask's pixels beyond which it ends, `inset` units within.
function outline(pen, mask, colour, inset) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2.5;
  pen.beginPath();
  const within = (value) => Math.min(SIDE - 1, Math.max(0, value));
  const inside = (x, y) => mask[within(y) * SIDE + within(x)];
  const middle = PIXEL / 2 - inset;
  mask.forEach((value, i) => {
    if (!value) return;
    const [x, y] = [i % SIDE, Math.floor(i / SIDE)];
    for (const [dx, dy] of [[-1, 0], [1, 0], [0, -1], [0, 1]]) {
      if (inside(x + dx, y + dy)) continue;
      // How far the line goes: short of an outer corner, round an inner one.
      const end = (sign) => {
        const [u, v] = [x + sign * dy, y + sign * dx];
        if (!inside(u, v)) return sign * middle;
        return sign * (PIXEL / 2 + (inside(u + dx, v + dy) ? inset : 0));
      };
      const [cx, cy] = [(x + 0.5) * PIXEL + dx * middle, (y + 0.5) * PIXEL + dy * middle];
      pen.moveTo(cx + dy * end(-1), cy + dx * end(-1));
      pen.lineTo(cx + dy * end(1), cy + dx * end(1));
    }
  });
  pen.stroke();
}

// The pixels from one to the next, so that a fast stroke has no holes.
function between([x0, y0], [x1, y1]) {
  const n = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
  return Array.from({ length: n + 1 }, (_, k) => [
    Math.round(x0 + ((x1 - x0) * k) / n),
    Math.round(y0 + ((y1 - y0) * k) / n),
  ]);
}

function dab(mask, [x, y], size, value) {
  const reach = (size - 1) / 2;
  for (let v = Math.max(0, y - reach); v <= Math.min(SIDE - 1, y + reach); v += 1) {
    mask.fill(value, v * SIDE + Math.max(0, x - reach), v * SIDE + Math.min(SIDE, x + reach + 1));
  }
}

let mounted = 0; // makes ids unique where a page has two

export function mount(host, preset) {
  const { order, first } = PAGES[preset] ?? PAGES.pixels;
  const id = `metrics-${(mounted += 1)}`;
  addStyle();

  const now = { preset: PRESETS[first], predicted: null, cursor: [24, 24], keys: false };
  const undone = []; // the masks before each change, the last one at the end
  let was; // the numbers before the last change

  // Elements.
  const canvas = make("canvas", {
    width: SIDE * PIXEL,
    height: SIDE * PIXEL,
    tabindex: 0,
    role: "application",
    "aria-roledescription": "grid to paint on",
    "aria-describedby": `${id}-help`,
  });
  const place = make("p", { class: "place", "aria-live": "polite" });
  const says = make("p", { class: "says", "aria-live": "polite" });

  const groups = [...new Set(Object.values(PRESETS).map(({ group }) => group))];
  const select = make(
    "select",
    { id: `${id}-preset` },
    ...groups.map((group) =>
      make(
        "optgroup",
        { label: group },
        ...Object.entries(PRESETS)
          .filter(([, one]) => one.group === group)
          .map(([name, { label }]) => make("option", { value: name }, label)),
      ),
    ),
  );
  const tool = (value, label) => {
    const radio = make("input", { type: "radio", name: `${id}-tool`, value });
    return make("label", {}, radio, ` ${label}`);
  };
  const paint = tool("1", "paint");
  const brush = make(
    "select",
    {},
    ...[1, 3, 5].map((size) => make("option", { value: size }, `${size} px`)),
  );
  const button = (label, action, name) => {
    const element = make("button", { type: "button", ...(name && { "aria-label": name }) }, label);
    element.addEventListener("click", action);
    return element;
  };
  const back = button("undo", undo);
  const tolerance = make("input", {
    type: "range",
    id: `${id}-tolerance`,
    min: 0,
    max: 3,
    step: 0.5,
  });
  const px = make("span", { class: "px", "aria-hidden": "true" });

  const meters = Object.fromEntries(order.map((name) => [name, meter(NAMES[name], name)]));
  const pieces = make("dd", { "data-count": "regions" });
  const pieceName = make("dt");
  const pieceWas = make("dd", { class: "was" });
  const legend = Object.fromEntries(
    Object.keys(LEGEND).map((name) => [name, make("b", { "data-count": name })]),
  );

  host.setAttribute("aria-label", "Metric playground");
  host.append(
    make(
      "p",
      { class: "start" },
      make("label", { for: `${id}-preset` }, "Start from"),
      select,
      button("start again", () => load(now.preset)),
    ),
    make(
      "div",
      { class: "stage" },
      make("div", { class: "picture" }, canvas, place),
      make(
        "div",
        { class: "numbers" },
        // The theme indents a list of definitions unless it is "simple".
        make("dl", { class: "meters simple" }, ...order.map((name) => meters[name].row)),
        make(
          "p",
          { class: "tolerance" },
          make("label", { for: `${id}-tolerance` }, "boundary tolerance"),
          tolerance,
          px,
        ),
        make("dl", { class: "pieces simple" }, make("div", {}, pieceName, pieces, pieceWas)),
        says,
      ),
    ),
    make(
      "div",
      { class: "tools" },
      make(
        "fieldset",
        {},
        make("legend", {}, "Brush"),
        paint,
        tool("0", "erase"),
        make("label", {}, "size ", brush),
        back,
      ),
      make(
        "fieldset",
        {},
        make("legend", {}, "Whole prediction"),
        ...Object.values(ARROWS).map(([dx, dy, sign, name]) =>
          button(sign, () => change(shifted(now.predicted, SIDE, dx, dy)), `shift ${name}`),
        ),
        button("grow", () => change(grown(now.predicted, SIDE))),
        button("shrink", () => change(shrunk(now.predicted, SIDE))),
        button("copy the truth", () => change(now.preset.truth.slice())),
      ),
    ),
    make(
      "ul",
      { class: "legend" },
      ...Object.entries(LEGEND).map(([name, label]) =>
        make("li", { class: name }, make("i"), legend[name], ` ${label}`),
      ),
      make("li", { class: "lines" }, make("i"), "outline of the truth"),
      make("li", { class: "lines predicted" }, make("i"), "outline of the prediction"),
    ),
    make(
      "p",
      { class: "help", id: `${id}-help` },
      "Paint with a mouse or a finger. By keyboard: the arrow keys move a cursor, space " +
        "paints or erases there, shift and an arrow key shift the whole prediction.",
    ),
  );
  paint.firstChild.checked = true;
  tolerance.value = 2;
  // The figure compares the presets side by side, which one canvas does not: it stays,
  // above its caption, and what the reader can move comes before it.
  host.parentElement.querySelector(":scope > .cell_output")?.before(host);

  // State.
  function numbers() {
    return measure(now.predicted, now.preset.truth, SIDE, Number(tolerance.value));
  }

  function load(chosen) {
    now.preset = chosen;
    now.predicted = chosen.predicted.slice();
    undone.length = 0;
    was = null;
    show();
    const values = numbers();
    const list = order.map((name) => `${NAMES[name]} ${shown(values[name])}`).join(", ");
    const { missed, invented } = values.counts;
    const cells = regionsChanged(chosen.truth, chosen.predicted, SIDE, chosen.noun);
    says.textContent =
      `${chosen.label[0].toUpperCase()}${chosen.label.slice(1)}: ${missed} missed, ` +
      `${invented} invented; ${list}${cells && `; ${cells}`}.` +
      `${absent(values)}${chosen.note && ` ${chosen.note}`}`;
  }

  // Replace the prediction by another, and say what that did.
  function change(predicted) {
    const before = now.predicted;
    const old = numbers();
    now.predicted = predicted;
    tell(before, old);
  }

  function tell(before, old) {
    if (before.some((value, i) => value !== now.predicted[i])) undone.push(before);
    was = old;
    says.textContent = sentence(
      ...[before, now.predicted, old, numbers(), order, SIDE, now.preset.noun],
    );
    show();
  }

  function undo() {
    if (!undone.length) return;
    change(undone.pop());
    undone.pop(); // what change has just put there
    show();
  }

  // Drawing.
  function show() {
    const values = numbers();
    const { counts } = values;
    const { noun, truth } = now.preset;
    draw(canvas, truth, now.predicted, now.keys && now.cursor);
    for (const name of order) meters[name].show(values[name], was?.[name]);
    for (const [name, cell] of Object.entries(legend)) cell.textContent = counts[name];
    pieceName.textContent = `${noun}s`;
    pieces.textContent = values.regions;
    pieceWas.textContent =
      (was ? `before ${was.regions}, ` : "") + `truth ${values.trueRegions}`;
    px.textContent = ` ${tolerance.value} px`;
    tolerance.setAttribute("aria-valuetext", plural(Number(tolerance.value), "pixel"));
    back.disabled = !undone.length;
    canvas.setAttribute(
      "aria-label",
      `Masks of ${SIDE} by ${SIDE} pixels: ${counts.found} found, ${counts.missed} missed, ` +
        `${counts.invented} invented; ${plural(values.regions, noun)} in the prediction, ` +
        `${values.trueRegions} in the truth`,
    );
  }

  // Input.
  select.addEventListener("change", () => load(PRESETS[select.value]));
  tolerance.addEventListener("input", () => {
    const old = Number(px.textContent.replace(" px", ""));
    was = measure(now.predicted, now.preset.truth, SIDE, old);
    show();
    const value = shown(numbers().boundary);
    says.textContent =
      `Tolerance ${plural(Number(tolerance.value), "pixel")}: boundary F1 ${value}` +
      `${value === shown(was.boundary) ? ", as before" : ""}.`;
  });

  let stroke = null; // the mask and the numbers before it, the last pixel, the pointer
  const pixelAt = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    const within = (part) => Math.min(SIDE - 1, Math.max(0, Math.floor(part * SIDE)));
    return [within((clientX - box.left) / box.width), within((clientY - box.top) / box.height)];
  };
  const strokeTo = (pixel) => {
    const value = paint.firstChild.checked ? 1 : 0;
    for (const one of between(stroke.last, pixel)) {
      dab(now.predicted, one, Number(brush.value), value);
    }
    stroke.last = now.cursor = pixel;
    was = stroke.old;
    show();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    now.keys = false;
    const last = pixelAt(event);
    stroke = { before: now.predicted, old: numbers(), last };
    now.predicted = now.predicted.slice();
    strokeTo(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (stroke && event.isPrimary) strokeTo(pixelAt(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!stroke || !event.isPrimary) return;
    const { before, old } = stroke;
    stroke = null;
    tell(before, old);
  });
  // Two fingers zoom the page: then the stroke was not meant.
  canvas.addEventListener("pointercancel", () => {
    if (!stroke) return;
    now.predicted = stroke.before;
    stroke = null;
    show();
  });

  const tellPlace = () => {
    const [x, y] = now.cursor;
    const i = y * SIDE + x;
    const here = state(now.preset.truth[i], now.predicted[i]).replace("right", "background");
    place.textContent = `row ${y + 1}, column ${x + 1}: ${here}`;
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || stroke) return;
    const [x, y] = now.cursor;
    if (event.key in ARROWS) {
      const [dx, dy] = ARROWS[event.key];
      if (event.shiftKey) {
        change(shifted(now.predicted, SIDE, dx, dy));
      } else {
        const within = (value) => Math.min(SIDE - 1, Math.max(0, value));
        now.cursor = [within(x + dx), within(y + dy)];
      }
    } else if (event.key === " ") {
      const next = now.predicted.slice();
      dab(next, now.cursor, Number(brush.value), next[y * SIDE + x] ? 0 : 1);
      change(next);
    } else {
      return;
    }
    event.preventDefault(); // the page does not scroll
    now.keys = true;
    tellPlace();
    show();
  });
  canvas.addEventListener("focus", () => {
    now.keys = canvas.matches(":focus-visible");
    if (now.keys) tellPlace();
    show();
  });
  canvas.addEventListener("blur", () => {
    now.keys = false;
    place.textContent = "";
    show();
  });

  select.value = first;
  load(now.preset);
}

// A number, where it was before the last change, and both as a bar.
function meter(label, name) {
  const value = make("dd", { class: "now", "data-metric": name });
  const was = make("dd", { class: "was" });
  const bar = make("dd", { class: "bar", "aria-hidden": "true" }, make("i"), make("b"));
  return {
    row: make("div", {}, make("dt", {}, label), value, was, bar),
    show(number, before) {
      value.textContent = shown(number);
      value.dataset.value = number;
      was.textContent = before === undefined ? "" : `before ${shown(before)}`;
      bar.style.setProperty("--now", number || 0);
      bar.style.setProperty("--was", before || 0);
      bar.classList.toggle("absent", Number.isNaN(number));
      bar.classList.toggle("moved", before !== undefined && !Number.isNaN(before));
    },
  };
}

function addStyle() {
  const href = new URL("metrics.css", import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return;
  document.head.append(make("link", { rel: "stylesheet", href }));
}
