// The geometry explorer: a U-Net draws itself for the size that the reader sets.
// geometry-numbers.js computes, this file puts it into words, pictures and controls.
import * as numbers from "./geometry-numbers.js";

export * from "./geometry-numbers.js";

const book = { part: "unet", size: 572, depth: 4, padding: 0, align: "pad", base: 64 };
/** What a chapter starts from, which controls it shows, and what they are for. */
export const presets = {
  "": {
    ...{ ...book, reach: 1024, shows: ["depth", "padding", "align", "more", "cost"] },
    purpose: "Set the image and the network; see what an output rests on.",
  },
  block: {
    ...{ ...book, size: 12, depth: 0, reach: 100, shows: ["padding"] },
    purpose: "Set the image and the padding; see what two convolutions leave.",
  },
  encoder: {
    ...{ ...book, part: "encoder", reach: 1024, shows: ["depth", "padding", "cost"] },
    purpose: "Set the image, the depth and the padding; see what each level leaves.",
  },
  up: {
    ...{ ...book, part: "up", size: 64, depth: 1, base: 512, reach: 200 },
    ...{ shows: ["padding", "align"] },
    purpose: "Set the skip; see one level down, and what meets on the way back.",
  },
};
const LARGEST = 4096;

// ---------------------------------------------------------------- words

const count = (n) => n.toLocaleString("en-US");
const sides = (h, w) => `${h}×${w}`;
const square = (h, w) => (h === w ? `${h}²` : sides(h, w));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function amount(n) {
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"]]) {
    const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
    if (n >= unit) return `${(n / unit).toLocaleString("en-US", digits)} ${letter}`;
  }
  return count(n);
}

function percent(share) {
  const text = (100 * share).toFixed(1);
  if (text === "100.0" && share < 1) return "more than 99.9 %";
  if (text === "0.0" && share > 0) return "less than 0.1 %";
  return `${text} %`;
}

const stageName = (net, arm, level) =>
  arm === "up" ? `up${net.depth - level}` : level ? `down${level}` : "inc";

/** Say which level fails and why; `axis` is "side", "height" or "width". */
export function explain(problem, net, axis) {
  const { kind, arm, level, from, pooled, enlarged } = problem;
  const where = `Level ${level}`;
  if (kind === "odd") {
    return (
      `${where}: the ${axis} of the map is odd, ${from}. Pooling would drop one row, and ` +
      "the centres of the two maps that meet at the skip would lie half a pixel apart. " +
      "With cropped skips the network refuses."
    );
  }
  const stage = stageName(net, arm, level);
  const takes = "the two unpadded convolutions take 4, and nothing is left.";
  if (arm === "up") {
    const grown = `the ${axis} of ${from} is enlarged to ${enlarged}`;
    return `${where}, ${stage}: ${grown}; ${takes}`;
  }
  if (level === 0) return `${where}, ${stage}: the ${axis} is ${from}; ${takes}`;
  if (pooled === 0) return `${where}, ${stage}: a ${axis} of 1 cannot be halved.`;
  return `${where}, ${stage}: pooling makes ${pooled} of ${from}; ${takes}`;
}

/** Say what comes out, and how far it can be trusted. */
export function result(height, width, net) {
  const [rows, columns] = [numbers.walk(height, net), numbers.walk(width, net)];
  const [h, w] = [rows.output, columns.output];
  const what = { unet: "An image", encoder: "An image", up: "A skip" }[net.part];
  const where = net.part === "encoder" ? " at the bottom" : "";
  const said = [`${what} of ${sides(height, width)} gives ${sides(h, w)}${where}.`];

  if (net.part !== "encoder") {
    const share = numbers.touchedShare(height, width, net);
    const [down, across] = [numbers.trace(height, net), numbers.trace(width, net)];
    if (share === 0) {
      said.push("No output has seen a padded zero.");
      if (net.part === "unet") {
        const border = plural((height - h) / 2, "pixel");
        said.push(`A border of ${border} on each side gets no answer.`);
      }
    } else if (share === 1) said.push("Padded zeros reach every output.");
    else {
      const box = sides(down.output.clean, across.output.clean);
      const reached = `Padded zeros reach ${percent(share)} of the outputs`;
      said.push(`${reached}; the other ${box} have seen none.`);
    }
  }

  // What each pooling leaves behind: where, and whether rows, columns or both.
  const dropped = { row: [], column: [], "row and column": [] };
  rows.down.forEach((stage, i) => {
    const lines = [stage.dropped && "row", columns.down[i].dropped && "column"];
    const lost = lines.filter(Boolean).join(" and ");
    const size = square(stage.from, columns.down[i].from);
    if (lost) dropped[lost].push(`level ${i - 1} (${size})`);
  });
  for (const [lost, levels] of Object.entries(dropped)) {
    if (levels.length) said.push(`Pooling drops the last ${lost} at ${levels.join(", ")}.`);
  }
  const bottom = [rows.down.at(-1).side, columns.down.at(-1).side];
  if (net.part !== "up" && bottom[0] * bottom[1] === 1) {
    said.push(
      "One value a channel is left at the bottom: " +
        "batch norm cannot train on one such image.",
    );
  }
  return said.join(" ");
}

// ---------------------------------------------------------------- pictures

function element(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

/** A map as a rectangle; what lies in it is drawn to its own scale. */
class MapBox {
  constructor(svg, x, y, size, box, kind) {
    Object.assign(this, { svg, x, y, size, box });
    this.part({ class: `map ${kind}` }, [0, size[0]], [0, size[1]]);
  }

  /** Draw a part, given as [start, length] in positions of the map. */
  part(attributes, [top, height], [left, width]) {
    if (height <= 0 || width <= 0) return;
    const [perRow, perColumn] = [this.box[0] / this.size[0], this.box[1] / this.size[1]];
    const place = {
      x: this.x + left * perColumn,
      y: this.y + top * perRow,
      width: width * perColumn,
      height: height * perRow,
    };
    this.svg.append(element("rect", { ...place, ...attributes }));
  }
}

/** Which stage fails first, of two sides; none if both come through. */
function failure(rows, columns, depth) {
  const order = ({ kind, arm, level }) =>
    arm === "up" ? 2 * depth + 2 - level : level + (kind === "odd" ? 0.5 : 0);
  const all = [rows.problem, columns.problem].filter(Boolean);
  return all.sort((a, b) => order(a) - order(b))[0] ?? null;
}

class Picture {
  constructor(state, room) {
    const { height, width, net } = state;
    Object.assign(this, { net, room, height, width });
    [this.rows, this.columns] = [numbers.walk(height, net), numbers.walk(width, net)];
    this.wrong = failure(this.rows, this.columns, net.depth);
    if (!this.wrong) {
      [this.seen, this.across] = [numbers.trace(height, net), numbers.trace(width, net)];
    }
    this.svg = element("svg", { role: "img" });
    const hatch = element("pattern", {
      ...{ id: "geometry-hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse" },
      patternTransform: "rotate(45)",
    });
    hatch.append(element("rect", { width: 5, height: 5, class: "zero-ground" }));
    hatch.append(element("rect", { width: 2, height: 5, class: "zero-line" }));
    this.hatch = element("defs");
    this.hatch.append(hatch);
  }

  text(x, y, words, kind = "", anchor = "middle") {
    const attributes = { x, y, class: kind, "text-anchor": anchor };
    this.svg.append(element("text", attributes, words));
  }

  /** A line through points [x, y], along the axes, with a head at the last. */
  arrow(points, kind) {
    const [[x0, y0], [x, y]] = points.slice(-2);
    const [dx, dy] = [Math.sign(x - x0), Math.sign(y - y0)];
    const [bx, by] = [x - 7 * dx, y - 7 * dy];
    const line = [...points.slice(0, -1), [bx, by]].join(" ");
    this.svg.append(element("polyline", { points: line, class: `arrow ${kind}` }));
    const head = [[x, y], [bx + 4 * dy, by + 4 * dx], [bx - 4 * dy, by - 4 * dx]];
    this.svg.append(element("polygon", { points: head.join(" "), class: `head ${kind}` }));
  }

  /** Pixels on the screen for a side: logarithmic, so that the smallest stay visible. */
  scale(side, largest) {
    const share = Math.log2(side + 1) / Math.log2(Math.max(1024, side) + 1);
    return 8 + (largest - 8) * Math.min(1, share);
  }

  box(size, largest) {
    return size.map((side) => this.scale(side, largest));
  }

  /** Draw a map around the middle (x, y): touched where zeros came, clean inside. */
  map(x, y, size, box, kind, reach = null) {
    const [top, left] = [y - box[0] / 2, x - box[1] / 2];
    const whole = !reach || (reach[0].clean === size[0] && reach[1].clean === size[1]);
    const map = new MapBox(this.svg, left, top, size, box, whole ? kind : "touched");
    if (!whole) this.clean(map, kind, reach, [0, 0]);
    return map;
  }

  clean(map, kind, [rows, columns], [top, left]) {
    map.part(
      { class: kind },
      [top + rows.start, rows.clean],
      [left + columns.start, columns.clean],
    );
  }

  finish(height, label) {
    this.svg.setAttribute("viewBox", `0 0 ${this.room} ${height}`);
    this.svg.setAttribute("width", this.room);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", label);
    return this.svg;
  }

  reached(arm, index) {
    return this.seen && [this.seen[arm][index], this.across[arm][index]];
  }

  /** Sides of both arms, for who cannot see the picture. */
  label() {
    const list = (arm) =>
      this.rows[arm]
        .slice(0, this.columns[arm].length)
        .map((stage, i) => square(stage.side, this.columns[arm][i].side))
        .join(", ");
    const up = list("up");
    const down = `Maps on the way down: ${list("down") || "none"}.`;
    return up ? `${down} On the way up: ${up}.` : down;
  }

  /** Whether a stage is reached, is where it fails, or lies beyond. */
  standing(arm, level) {
    const wrong = this.wrong;
    if (!wrong) return "fine";
    if (wrong.arm === arm && wrong.level === level) return "wrong";
    if (arm === "down") {
      return wrong.arm === "up" || level < wrong.level ? "fine" : "beyond";
    }
    return wrong.arm === "up" && level > wrong.level ? "fine" : "beyond";
  }

  /** One map of the way down with its label; returns its box. */
  downMap(level, x, y, largest) {
    const standing = this.standing("down", level);
    const [row, column] = [this.rows.down[level], this.columns.down[level]];
    if (standing === "beyond" || !row || !column) {
      const kind = standing === "wrong" ? "wrong" : "beyond";
      const box = [22, 22];
      this.map(x, y, [1, 1], box, kind);
      if (kind === "wrong") this.text(x, y + 5, "✕", "cross");
      return { box, kind, big: kind === "wrong" ? ["nothing"] : [], small: [] };
    }
    const size = [row.side, column.side];
    const box = this.box(size, largest);
    const kind = standing === "wrong" ? "wrong" : "down";
    const map = this.map(x, y, size, box, kind, this.reached("down", level));
    const channels = `${count(this.net.base * 2 ** level)} ch`;
    const small = [kind === "wrong" ? "odd" : channels];
    return { map, box, size, kind, big: this.sizeLines(...size), small };
  }

  /** A size as lines of words; in two where there is little room. */
  sizeLines(h, w) {
    return this.tight ? [`${h}`, `×${w}`] : [square(h, w)];
  }

  words(x, y, big, small, kind = "side") {
    const place = (i) => y + 13 + 14 * i;
    big.forEach((line, i) => this.text(x, place(i), line, kind));
    small.forEach((line, i) => this.text(x, place(big.length + i), line, "small"));
  }

  drawU() {
    const { net, room } = this;
    const isUp = net.part === "up";
    const largest = isUp ? 110 : room < 520 ? 58 : 66;
    this.tight = room < 450 && this.height !== this.width;
    const wordsRoom = this.tight ? 60 : 32;
    const [xA, xB, xC] = [0.13, isUp ? 0.56 : 0.6, 0.87].map((share) => share * room);
    const pitch = (level) => {
      const side = (walk) => walk.down[level]?.side ?? 1;
      return this.scale(Math.max(side(this.rows), side(this.columns)), largest);
    };
    // The room of a row: its map, two lines of words, and an arrow to the next.
    let top = isUp ? 6 : 40;
    const places = [];
    for (let level = 0; level <= net.depth; level++) {
      places.push({ top, middle: top + pitch(level) / 2, end: top + pitch(level) });
      top = places[level].end + wordsRoom + 26;
    }

    const down = places.map((place, level) => {
      const drawn = this.downMap(level, xA, place.middle, largest);
      const kind = drawn.kind === "wrong" ? "wrong-text" : "side";
      this.words(xA, place.end, drawn.big, drawn.small, kind);
      if (level) {
        const pale = drawn.kind === "beyond" ? "beyond" : "down";
        const from = [xA, places[level - 1].end + wordsRoom];
        this.arrow([from, [xA, place.top - 3]], pale);
      }
      return drawn;
    });
    if (!isUp) {
      const image = `image ${square(this.height, this.width)}`;
      if (room < 520) this.text(0, 13, image, "side", "start");
      else this.text(xA, 13, image, "side");
      this.arrow([[xA, 18], [xA, places[0].top - 3]], "down");
    }

    for (let level = net.depth - 1; level >= 0; level--) {
      this.upRow(level, places, down, [xA, xB, xC], largest, wordsRoom);
    }
    if (!isUp) {
      const standing = this.wrong ? "beyond" : "ink";
      this.arrow([[xC, places[0].top - 3], [xC, 18]], standing);
      const size = !this.wrong && square(this.rows.output, this.columns.output);
      const out = this.wrong ? "no output" : `output ${size}`;
      const kind = this.wrong ? "wrong-text" : "side";
      if (room < 520) this.text(room, 13, out, kind, "end");
      else this.text(xC, 13, out, kind);
    }
    return this.finish(places.at(-1).end + wordsRoom + 4, this.label());
  }

  upRow(level, places, down, [xA, xB, xC], largest, wordsRoom) {
    const { net } = this;
    const place = places[level];
    const index = net.depth - 1 - level;
    const [row, column] = [this.rows.up[index], this.columns.up[index]];
    const standing = this.standing("up", level);
    const reached = standing === "fine" && row && column;

    // The way from below: from the bottom, or from the right end of the row below.
    const under = places[level + 1];
    const kind = reached || standing === "wrong" ? "up" : "beyond";
    const turn = under.top - 12;
    const start =
      level === net.depth - 1
        ? [[xA + down[level + 1].box[1] / 2 + 4, under.middle], [xB, under.middle]]
        : [[xC, under.top - 3], [xC, turn], [xB, turn]];
    this.arrow([...start, [xB, place.end + wordsRoom + 1]], kind);

    const skip = (box, words = "") => {
      const from = xA + down[level].box[1] / 2 + 4;
      const to = xB - box / 2 - 4;
      const points = [[from, place.middle], [to, place.middle]];
      this.arrow(points, reached ? "skip" : "beyond");
      this.text((from + to) / 2, place.middle - 7, words, "small");
    };
    if (!reached) {
      skip(22);
      for (const x of [xB, xC]) {
        const failed = standing === "wrong" && x === xC;
        this.map(x, place.middle, [1, 1], [22, 22], failed ? "wrong" : "beyond");
        if (failed) {
          this.text(x, place.middle + 5, "✕", "cross");
          this.words(x, place.end, ["nothing"], [], "wrong-text");
        }
      }
      return;
    }

    const both = (name) => [row[name], column[name]];
    const pairs = [row, column].map((side) => `${side.before}+${side.after}`);
    if (pairs[0] === pairs[1]) pairs.pop();
    const differ = row.before + row.after + column.before + column.after > 0;
    const crops = net.align === "crop" && differ;
    if (crops) {
      const { map } = down[level];
      map.part({ class: "cut" }, [0, row.skip], [0, column.skip]);
      map.part({ class: "down kept" }, [row.before, row.joined], [
        column.before,
        column.joined,
      ]);
    }

    // What comes from below, enlarged; zeros around it where it is padded.
    const joined = both("joined");
    const box = this.box(joined, largest);
    const [top, left] = [place.middle - box[0] / 2, xB - box[1] / 2];
    const map = new MapBox(this.svg, left, top, joined, box, "zeros");
    const offset = net.align === "pad" ? both("before") : [0, 0];
    const enlarged = both("enlarged");
    map.part({ class: "touched" }, [offset[0], enlarged[0]], [offset[1], enlarged[1]]);
    const reach = this.reached("up", index)?.map((side) => side.arrived);
    if (reach) this.clean(map, "up", reach, offset);
    else map.part({ class: "up" }, [offset[0], enlarged[0]], [offset[1], enlarged[1]]);
    let note = ["from below"];
    if (net.align === "pad" && differ) {
      const [first, ...rest] = pairs;
      note = this.tight ? [`0s ${first}`, ...rest] : [`zeros ${pairs.join(" / ")}`];
    }
    this.words(xB, place.end, this.sizeLines(...enlarged), note);
    skip(box[1], crops ? `cut ${pairs.join(" / ")}` : "");

    const size = both("side");
    const after = this.box(size, largest);
    const across = [xB + box[1] / 2 + 4, xC - after[1] / 2 - 4];
    this.arrow(across.map((x) => [x, place.middle]), "ink");
    this.map(xC, place.middle, size, after, "up", this.reached("up", index));
    const channels = `${count(net.base * 2 ** level)} ch`;
    this.words(xC, place.end, this.sizeLines(...size), [channels]);
  }

  /** The way down alone, with the arithmetic of each level beside it. */
  drawEncoder() {
    const { net } = this;
    const largest = 64;
    let y = 20;
    this.text(4, 13, `image ${square(this.height, this.width)}`, "side", "start");
    for (let level = 0; level <= net.depth; level++) {
      const side = this.rows.down[level]?.side ?? 1;
      const height = Math.max(48, this.scale(side, largest));
      const middle = y + 16 + height / 2;
      const drawn = this.downMap(level, 38, middle, largest);
      const kind = drawn.kind === "beyond" ? "beyond" : "down";
      this.arrow([[38, y], [38, middle - drawn.box[0] / 2 - 3]], kind);
      this.arithmetic(level, 78, middle - 13, drawn);
      y = middle + drawn.box[0] / 2 + 4;
    }
    return this.finish(y + 16, this.label());
  }

  arithmetic(level, x, y, { kind, big, small }) {
    if (kind === "beyond") return;
    const { net } = this;
    const name = stageName(net, "down", level);
    const stage = this.rows.down[level];
    const failed = kind === "wrong";
    const heading = failed ? `${name}: nothing` : `${name}: ${big}, ${small}`;
    this.text(x, y, heading, failed ? "wrong-text" : "side", "start");
    const source = stage ?? this.wrong;
    const steps = level ? `${source.from} ÷ 2 → ${source.pooled}` : `${this.height}`;
    const taken = net.padding ? "" : `, − 4 → ${stage?.side ?? "nothing"}`;
    this.text(x, y + 17, `${steps}${taken}`, "small", "start");
    if (!stage) return;
    const odd = level > 0 && source.from % 2;
    const sees = this.seen?.down[level].sees;
    const said = sees ? `${odd ? "" : "one value "}sees ${sees} px` : "";
    const line = [odd ? "1 dropped" : "", said].filter(Boolean).join("; ");
    this.text(x, y + 33, line, odd ? "small dropped" : "small", "start");
  }

  /** The image, and in it the outputs, to one linear scale. */
  drawAnswer() {
    const [h, w] = [this.height, this.width];
    const scale = (this.room - 4) / Math.max(h, w);
    const image = new MapBox(this.svg, 2, 2, [h, w], [h * scale, w * scale], "image");
    const out = [this.rows.output, this.columns.output];
    const at = [(h - out[0]) / 2, (w - out[1]) / 2];
    image.part({ class: "touched" }, [at[0], out[0]], [at[1], out[1]]);
    const kind = this.net.depth ? "up" : "down";
    this.clean(image, kind, [this.seen.output, this.across.output], at);
    return this.finish(
      h * scale + 4,
      "The image as a dashed outline, and in it the outputs.",
    );
  }

  draw() {
    this.svg.append(this.hatch);
    if (this.net.part === "encoder") return this.drawEncoder();
    return this.net.depth ? this.drawU() : null;
  }
}

function legend(net, fits, share) {
  const items = [];
  if (net.depth || net.part === "encoder") items.push(["down", "way down"]);
  else items.push(["down", "output"]);
  if (net.part !== "encoder" && net.depth) {
    items.push(["up", "way up"], ["skip", "skip"]);
    if (net.align === "crop" && !net.padding) items.push(["cut", "cut off"]);
    if (net.align === "pad") items.push(["zeros", "zeros set around a map"]);
  }
  if (fits && share > 0) items.push(["touched", "reached by padded zeros"]);
  if (fits && net.part === "unet") items.push(["image", "the image"]);
  return items.map(([kind, words]) => {
    const item = document.createElement("li");
    const swatch = element("svg", { width: 14, height: 14, "aria-hidden": "true" });
    swatch.append(element("rect", { x: 1, y: 1, width: 12, height: 12, class: kind }));
    item.append(swatch, ` ${words}`);
    return item;
  });
}

// ---------------------------------------------------------------- controls

const choice = (name, value, words) =>
  `<label><input type="radio" data-is="${name}" value="${value}"> ${words}</label>`;

const form = (preset) => `
  <p class="purpose">${preset.purpose}</p>
  <form>
    <div class="sizes">
      <label>${preset.part === "up" ? "Skip" : "Image"}, pixels a side
        <input type="number" data-is="size" min="1" max="${LARGEST}" step="1"
          inputmode="numeric"></label>
      <input type="range" data-is="slider" min="1" max="${preset.reach}"
        aria-label="The same, as a slider">
    </div>
    <label data-shows="depth">Depth <output></output>
      <input type="range" data-is="depth" min="${preset.part === "unet" ? 0 : 1}" max="6">
    </label>
    <fieldset data-shows="padding"><legend>Padding of the convolutions</legend>
      ${choice("padding", 0, "0")} ${choice("padding", 1, "1")}</fieldset>
    <fieldset data-shows="align"><legend>At the skip</legend>
      ${choice("align", "pad", "pad")} ${choice("align", "crop", "crop")}</fieldset>
    <button type="reset">Start again</button>
    <details data-shows="more"><summary>Height, channels</summary>
      <label>Height, pixels
        <input type="number" data-is="height" min="1" max="${LARGEST}" step="1"
          inputmode="numeric" placeholder="as the width"></label>
      <label>Channels of the first level
        <select data-is="base">
          ${[4, 8, 16, 32, 64].map((n) => `<option>${n}</option>`).join("")}
        </select></label>
    </details>
  </form>
  <div class="outcome">
    <div>
      <p class="result" aria-live="polite"></p>
      <div class="suggestions" role="group" aria-label="Sizes near it"></div>
    </div>
    <div class="answer"></div>
  </div>
  <ul class="legend" aria-label="Colours"></ul>
  <div class="drawing"></div>
  <p class="cost" data-shows="cost"></p>`;

let groups = 0; // radio buttons of two explorers on a page must not share a name

class Explorer {
  constructor(host, preset) {
    Object.assign(this, { host, preset });
    host.setAttribute("aria-label", "Explore the sizes");
    host.innerHTML = form(preset);
    this.controls = {};
    groups += 1;
    for (const node of host.querySelectorAll("[data-is]")) {
      const name = node.dataset.is;
      if (node.type === "radio") node.name = `geometry-${name}-${groups}`;
      (this.controls[name] ??= []).push(node);
    }
    for (const node of host.querySelectorAll("[data-shows]")) {
      node.hidden = !preset.shows.includes(node.dataset.shows);
    }
    this.start();
    const [size, slider] = [this.controls.size[0], this.controls.slider[0]];
    host.addEventListener("input", ({ target }) => {
      if (target === slider) size.value = slider.value;
      if (target === size) slider.value = size.value;
      this.update();
    });
    const formNode = host.querySelector("form");
    formNode.addEventListener("submit", (event) => event.preventDefault());
    formNode.addEventListener("reset", (event) => {
      event.preventDefault(); // which would empty the fields
      this.start();
      this.update();
    });
    this.update();
    // The drawing is made for the room it has, so that its words keep their size.
    new ResizeObserver(() => {
      if (this.room() !== this.drawnFor) this.update();
    }).observe(host.querySelector(".drawing"));
  }

  start() {
    const { size, depth, padding, align, base, reach } = this.preset;
    const values = { size, slider: size, depth, padding, align, base, height: "" };
    for (const [name, value] of Object.entries(values)) {
      for (const node of this.controls[name]) {
        if (node.type === "radio") node.checked = node.value === String(value);
        else node.value = value;
      }
    }
  }

  value(name) {
    const nodes = this.controls[name];
    return nodes[0].type === "radio"
      ? nodes.find((node) => node.checked).value
      : nodes[0].value;
  }

  /** What the controls say; null where a number is none. */
  read() {
    const pixels = (name) => {
      const text = this.value(name);
      const n = Number(text);
      return text !== "" && Number.isInteger(n) && n >= 1 && n <= LARGEST ? n : null;
    };
    const height = this.controls.height[0];
    const linked = height.value === "" && !height.validity.badInput;
    const width = pixels("size");
    const net = {
      part: this.preset.part,
      depth: Number(this.value("depth")),
      padding: Number(this.value("padding")),
      align: this.value("align"),
      base: Number(this.preset.part === "up" ? this.preset.base : this.value("base")),
    };
    return { width, height: linked ? width : pixels("height"), linked, net };
  }

  room() {
    // Where the part is hidden, as in print, there is none.
    return Math.floor(this.host.querySelector(".drawing").clientWidth) || 320;
  }

  update() {
    const state = this.read();
    const { height, width, net } = state;
    const find = (kind) => this.host.querySelector(kind);
    find("[data-shows=depth] output").value = net.depth || "0 (DoubleConv alone)";
    find("[data-shows=align]").disabled = net.depth === 0;
    const suggestions = find(".suggestions");
    const say = (words) => {
      // A sentence that has not changed must not be read out again.
      if (find(".result").textContent !== words) find(".result").textContent = words;
    };
    if (height === null || width === null) {
      this.host.classList.add("impossible");
      suggestions.replaceChildren();
      say(`A size is a whole number from 1 to ${LARGEST}.`);
      return;
    }

    const bad = [["height", height], ["width", width]].filter(
      ([, side]) => !numbers.fits(side, net),
    );
    const fits = bad.length === 0;
    this.host.classList.toggle("impossible", !fits);
    const named = (axis) => (height === width ? "side" : axis);
    if (fits) say(result(height, width, net));
    else {
      const [axis, side] = bad.at(-1);
      const reasons = (height === width ? [[axis, side]] : bad).map(([name, n]) =>
        explain(numbers.walk(n, net).problem, net, named(name)),
      );
      say(`${sides(height, width)} does not fit. ${reasons.join(" ")}`);
    }
    this.suggest(state, fits);

    this.drawnFor = this.room();
    const drawing = new Picture(state, this.drawnFor).draw();
    find(".drawing").replaceChildren(...(drawing ? [drawing] : []));
    const small = net.depth ? 130 : Math.min(260, this.drawnFor);
    const shown = fits && net.part === "unet";
    const answer = shown ? [new Picture(state, small).drawAnswer()] : [];
    find(".answer").replaceChildren(...answer);
    const share =
      fits && net.part !== "encoder" ? numbers.touchedShare(height, width, net) : 0;
    const reached = net.part === "encoder" ? net.padding : share;
    find(".legend").replaceChildren(...legend(net, fits, reached));
    this.tellCost(state, fits);
  }

  tellCost({ height, width, net }, fits) {
    const line = this.host.querySelector(".cost");
    if (!fits) {
      line.textContent = "";
      return;
    }
    const { parameters, multAdds } = numbers.cost(height, width, net);
    const what = {
      unet: net.depth ? "The network" : "The block",
      encoder: "The way down",
      up: "This Up",
    }[net.part];
    const ends = { unet: "one channel in, one logit out, " }[net.part] ?? "";
    const with_ = net.part === "up" || !net.depth ? "" : ends;
    line.textContent =
      `${what} has ${count(parameters)} parameters (${with_}batch norm) and takes ` +
      `${amount(multAdds)} multiply-adds.`;
  }

  /** Offer the nearest sizes that fit; or, where a pooling drops a row, that do not. */
  suggest(state, fits) {
    const { height, width, linked, net } = state;
    const offers = [];
    const good = fits ? numbers.isWhole : numbers.fits;
    const axes = linked ? [["size", width]] : [["height", height], ["size", width]];
    for (const [name, side] of axes) {
      if (good(side, net)) continue;
      const { below, above } = numbers.nearest(side, net, good);
      for (const n of [below, above]) {
        if (n === null || n > LARGEST) continue;
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = linked ? n : `${name === "size" ? "width" : "height"} ${n}`;
        button.addEventListener("click", () => {
          this.controls[name][0].value = n;
          if (name === "size") this.controls.slider[0].value = n;
          this.update();
          this.controls[name][0].focus(); // the button may be gone
        });
        offers.push(button);
      }
    }
    const words = fits ? "Nothing is dropped at" : "The nearest that fit:";
    const node = this.host.querySelector(".suggestions");
    node.replaceChildren(...(offers.length ? [words, ...offers] : []));
  }
}

/** Put the explorer into `host`; called by loader.js. */
export function mount(host, preset) {
  if (!(preset in presets)) throw new Error(`geometry has no preset ${preset}`);
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("geometry.css", import.meta.url);
  document.head.append(style);
  // The line in italics below the cell belongs to its figure, so the explorer goes
  // behind it.
  const next = host.parentElement.nextElementSibling;
  const isCaption = next?.matches("p") && next.children.length === 1;
  if (isCaption && next.firstElementChild.matches("em")) next.after(host);
  new Explorer(host, presets[preset]);
}
