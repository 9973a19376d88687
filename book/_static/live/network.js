// The book's network on pictures of the reader's, in the reader's browser.
//
// First what computes, which knows nothing of the page; then the page.

export const LIMITS = { side: 768, least: 16, megabytes: 20, megapixels: 50 };
const SHEET = { side: 256, ground: 191, pen: 56 };
// Bytes of what is loaded on a click; tests/site/test_network.py compares.
export const BYTES = {
  "ort.wasm.min.mjs": 50126,
  "ort-wasm-simd-threaded.mjs": 24381,
  "ort-wasm-simd-threaded.wasm": 14239897,
  "network.onnx": 492294,
};

// ---------------------------------------------------------------- pictures
// A picture is { gray, width, height }; gray holds bytes, row by row.

// Gray as Pillow makes it, which is how the training images were read.
export function grayOf({ data, width, height }) {
  const gray = new Uint8Array(width * height);
  for (let i = 0; i < gray.length; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    gray[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  }
  return { gray, width, height };
}

export function fittedSize(width, height, limit = LIMITS.side) {
  const scale = Math.min(1, limit / Math.max(width, height));
  return [width, height].map((side) => Math.max(1, Math.round(side * scale)));
}

export const CHANGES = {
  none: { name: "as it is", change: (picture) => picture },
  half: { name: "half as large", change: halved },
  turned: { name: "turned by a quarter", change: turned },
  inverted: { name: "light and dark exchanged", change: inverted },
};

function inverted({ gray, width, height }) {
  return { gray: gray.map((value) => 255 - value), width, height };
}

function turned({ gray, width, height }) {
  const out = new Uint8Array(gray.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      out[(width - 1 - column) * height + row] = gray[row * width + column];
    }
  }
  return { gray: out, width: height, height: width };
}

// Means of squares of 2×2 pixels; an odd last row or column is left out.
function halved({ gray, width, height }) {
  const [w, h] = [width >> 1, height >> 1];
  const out = new Uint8Array(w * h);
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const at = 2 * row * width + 2 * column;
      const sum = gray[at] + gray[at + 1] + gray[at + width] + gray[at + width + 1];
      out[row * w + column] = (sum + 2) >> 2;
    }
  }
  return { gray: out, width: w, height: h };
}

// A sheet with three cells on it, for who does not draw by hand.
export function exampleLines(side = SHEET.side) {
  const ring = (x, y, a, b) =>
    Array.from({ length: 61 }, (_, i) => {
      const angle = (i * Math.PI) / 30;
      return [side * (x + a * Math.cos(angle)), side * (y + b * Math.sin(angle))];
    });
  return [ring(0.3, 0.32, 0.2, 0.24), ring(0.68, 0.36, 0.17, 0.2), ring(0.5, 0.76, 0.3, 0.15)];
}

// ---------------------------------------------------------------- answers

// The probability of one class at each pixel; a single logit goes through a sigmoid.
export function probabilityOf(logits, classes, wanted = 1) {
  const n = logits.length / classes;
  const p = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    let sum = classes === 1 ? Math.exp(-logits[i]) : 0;
    const own = classes === 1 ? 0 : logits[wanted * n + i];
    for (let k = 0; k < classes; k++) {
      sum += classes === 1 ? 1 : Math.exp(logits[k * n + i] - own);
    }
    p[i] = 1 / sum;
  }
  return p;
}

// What the sentence below the pictures says.
export function measures(p, width, threshold, least = 50) {
  let above = 0;
  let certain = 0;
  for (const value of p) {
    if (value > threshold) above++;
    certain += Math.max(value, 1 - value);
  }
  const cells = countCells(p, width, threshold, least);
  return { share: above / p.length, certainty: certain / p.length, cells };
}

// Regions of at least `least` pixels below the threshold, connected through sides.
export function countCells(p, width, threshold, least = 50) {
  const free = Uint8Array.from(p, (value) => (value > threshold ? 0 : 1));
  const stack = new Int32Array(p.length);
  let cells = 0;
  for (let start = 0; start < p.length; start++) {
    if (!free[start]) continue;
    let size = 0;
    let top = 0;
    const visit = (at) => {
      free[at] = 0;
      stack[top++] = at;
    };
    visit(start);
    while (top > 0) {
      const at = stack[--top];
      const column = at % width;
      size++;
      if (column > 0 && free[at - 1]) visit(at - 1);
      if (column < width - 1 && free[at + 1]) visit(at + 1);
      if (at >= width && free[at - width]) visit(at - width);
      if (at + width < p.length && free[at + width]) visit(at + width);
    }
    if (size >= least) cells++;
  }
  return cells;
}

// Dark blue for 0, yellow for 1, gray between: a few stops of "cividis".
const STOPS = [
  [0, 34, 78], [42, 63, 109], [87, 93, 109], [124, 123, 120],
  [165, 156, 116], [209, 192, 96], [254, 232, 56],
];

function colour(value) {
  const place = value * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((from, i) => from + (place - low) * (STOPS[low + 1][i] - from));
}

const MASK = [213, 94, 0]; // what a network says, as in all figures of the book

export function painted({ gray, width, height }, p, { view, threshold, opacity }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < gray.length; i++) {
    let rgb = [gray[i], gray[i], gray[i]];
    if (view === "probability") rgb = colour(p[i]);
    else if (p[i] > threshold) {
      rgb = rgb.map((value, k) => value + opacity * (MASK[k] - value));
    }
    image.data.set([...rgb, 255], 4 * i);
  }
  return image;
}

// ---------------------------------------------------------------- files

const MB = 1e6;

// Return a sentence that says why a file is not taken, or null. `head` are its first
// bytes: a wrong file is told from a picture before anything is decoded.
export function refusal({ name, size }, head) {
  const begins = (...bytes) => bytes.every((byte, i) => head[i] === byte);
  if (size === 0) return `“${name}” is empty: it has 0 bytes.`;
  if (size > LIMITS.megabytes * MB) {
    const has = (size / MB).toFixed(0);
    return `“${name}” has ${has} MB; this page takes up to ${LIMITS.megabytes} MB. Save it smaller, or cut out a part.`;
  }
  if (begins(0x25, 0x50, 0x44, 0x46)) {
    return `“${name}” is a PDF. Save the picture in it as PNG or JPEG, and take that.`;
  }
  if (begins(0x49, 0x49, 0x2a, 0) || begins(0x4d, 0x4d, 0, 0x2a)) {
    return `“${name}” is a TIFF, which most browsers cannot read. Save it as PNG.`;
  }
  if (begins(0x89, 0x50, 0x4e, 0x47) && head.length >= 24) {
    const view = new DataView(head.buffer, head.byteOffset);
    const [width, height] = [view.getUint32(16), view.getUint32(20)];
    if (width * height > LIMITS.megapixels * 1e6) {
      return `“${name}” has ${width}×${height} pixels; this page takes up to ${LIMITS.megapixels} million. Cut out a part.`;
    }
  }
  return null;
}

async function readPicture(file) {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const reason = refusal(file, head);
  if (reason) throw new Error(reason);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(
      `“${file.name}” is not a picture that your browser can read, or it is damaged. PNG and JPEG work.`,
    );
  }
  return pictureOf(bitmap, bitmap.width, bitmap.height);
}

const context = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

// Draw onto white (a picture may be transparent), scaled down to the limit.
function pictureOf(source, fullWidth, fullHeight) {
  const [width, height] = fittedSize(fullWidth, fullHeight);
  if (Math.min(width, height) < LIMITS.least) {
    const size = `${fullWidth}×${fullHeight}`;
    throw new Error(`The picture has ${size} pixels; each side needs ${LIMITS.least} or more.`);
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = context(canvas);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, width, height);
  const scaled = width === fullWidth ? "" : `, scaled down from ${fullWidth}×${fullHeight}`;
  return { ...grayOf(pen.getImageData(0, 0, width, height)), scaled };
}

// ---------------------------------------------------------------- the page

// h("button", { type: "button" }, "Load", …): an element with attributes and children.
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function range(label, attributes, shown) {
  const output = h("output");
  const input = h("input", { type: "range", ...attributes });
  const show = () => (output.textContent = shown(Number(input.value)));
  input.addEventListener("input", show);
  show();
  return { input, row: h("label", {}, h("span", {}, label), input, output) };
}

function choice(label, options) {
  const made = Object.entries(options).map(([value, name]) => h("option", { value }, name));
  const input = h("select", {}, ...made);
  return { input, row: h("label", {}, h("span", {}, label), input) };
}

const FAILED = {
  runtime: "The program that runs networks could not be loaded",
  network: "The network could not be loaded",
  own: "This file is not a network that the page can run",
  run: "The network does not take this picture",
};

export function mount(host) {
  host.before(h("link", { rel: "stylesheet", href: new URL("network.css", import.meta.url) }));
  const cell = host.parentElement;
  // Below the caption of the figure, not between the two.
  if (cell.nextElementSibling?.matches("p")) cell.nextElementSibling.after(host);
  host.setAttribute("aria-label", "A network in this page");

  const total = Object.values(BYTES).reduce((sum, bytes) => sum + bytes, 0);
  const size = `${(total / MB).toFixed(1)} MB`;
  let worker, picture, shown, answer;
  let got = 0;
  let jobs = 0;

  // -- loading
  const bar = h("progress", { max: total, value: 0, "aria-label": "Loaded", hidden: true });
  const status = h("p", { class: "network-status", "aria-live": "polite" });
  const button = h("button", { type: "button", onclick: begin }, `Load the network, ${size}`);
  const privacy = h(
    "p",
    { class: "network-small" },
    "The network and what runs it come from this site, once. Then it computes here: no picture leaves this page, and it goes on working when you are offline. What runs it is onnxruntime-web, under the ",
    h("a", { href: new URL("../ort/LICENSE.txt", import.meta.url) }, "MIT licence"),
    ".",
  );
  const count = h("span", { class: "network-small", "aria-hidden": "true" });
  const title = h("p", { class: "network-title" }, "Slice 24, in your browser");
  const opening = h("div", {}, title, button, bar, count, privacy);

  function begin() {
    if (typeof WebAssembly !== "object" || typeof Worker !== "function") {
      say("This browser does not run WebAssembly, which the network needs.", true);
      return;
    }
    worker?.terminate(); // a new one forgets what did not arrive
    worker = new Worker(new URL("network-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => hear(data);
    worker.onerror = () => fail({ what: "runtime", why: "its first file did not arrive" });
    // The two small files come without a count of their own.
    got = BYTES["ort.wasm.min.mjs"] + BYTES["ort-wasm-simd-threaded.mjs"];
    button.disabled = true;
    bar.hidden = false;
    say("Loading …");
    worker.postMessage({ load: null });
    fetchCells();
  }

  function hear({ progress, loaded, answer: found, failed }) {
    if (progress && !workbench.isConnected) {
      got += progress;
      bar.value = got;
      count.textContent = `${(got / MB).toFixed(1)} of ${size}`;
    } else if (loaded && !workbench.isConnected) {
      opening.replaceWith(workbench);
      pictures.after(status);
      host.append(privacy);
      say("The network is here.");
      // The focus was on the button that is gone.
      buttons.firstElementChild.focus();
      showSlice();
    } else if (loaded) {
      compute();
    } else if (found) {
      if (found.id === jobs) take(found);
    } else if (failed) fail(failed);
  }

  function fail({ what, why }) {
    const reason = String(why).split("\n")[0].slice(0, 200);
    host.classList.remove("network-busy");
    if (workbench.isConnected) {
      say(`${FAILED[what]} (${reason}).`, true);
    } else {
      say(`${FAILED[what]} (${reason}). Are you online?`, true);
      button.disabled = false;
      button.textContent = `Try again, ${size}`;
      bar.hidden = true;
      count.textContent = "";
      button.focus();
    }
  }

  function say(sentence, wrong = false) {
    status.classList.toggle("network-wrong", wrong);
    status.textContent = sentence;
  }

  // -- pictures
  const before = h("canvas", { class: "network-picture" });
  const after = h("canvas", { class: "network-picture", role: "img" });
  const source = h("span");
  const buttons = h(
    "div",
    { class: "network-buttons" },
    h("button", { type: "button", onclick: showSlice }, "Slice 24"),
    h("button", { type: "button", onclick: showCells }, "Drawn by a program"),
    h("button", { type: "button", onclick: startDrawing }, "Draw with a pen"),
  );
  const input = h("input", {
    type: "file", accept: "image/*", onchange: () => takeFile(input.files[0]),
  });
  const file = h(
    "label",
    { class: "network-file" },
    h("span", {}, "A picture of yours (or drop it on the pictures)"),
    input,
  );

  async function use(name, make) {
    try {
      const made = await make();
      stopDrawing();
      picture = { ...made, name };
      compute();
    } catch (error) {
      say(error.message, true);
    }
  }

  function showSlice() {
    use("slice 24", async () => {
      const image = document.querySelector("div.cell.tag_slice-24 img");
      if (!image) throw new Error("This page has no picture of slice 24.");
      image.loading = "eager"; // the page lets pictures below the screen wait
      await image.decode();
      return pictureOf(image, image.naturalWidth, image.naturalHeight);
    });
  }

  // Fetched with the network, so that nothing is missing offline.
  const drawnCells = new Image();

  function fetchCells() {
    drawnCells.src = new URL("cells.png", import.meta.url);
  }

  function showCells() {
    use("cells drawn by a program", async () => {
      if (drawnCells.complete && !drawnCells.naturalWidth) fetchCells();
      try {
        await drawnCells.decode();
      } catch {
        throw new Error("The picture of drawn cells could not be loaded. Are you online?");
      }
      return pictureOf(drawnCells, drawnCells.naturalWidth, drawnCells.naturalHeight);
    });
  }

  function takeFile(chosen) {
    if (chosen) use(`“${chosen.name}”`, () => readPicture(chosen));
    input.value = ""; // so that the same file can be chosen again
  }

  // -- drawing
  let pen = null; // { x, y, down } while the sheet is open
  const width = range("Pen", { min: 1, max: 16, value: 5 }, (value) => `${value} px`);
  const tools = h(
    "div",
    { class: "network-tools", hidden: true },
    width.row,
    h("button", { type: "button", onclick: clearSheet }, "Empty sheet"),
    h("button", { type: "button", onclick: drawExample }, "Three cells"),
    h(
      "p",
      { class: "network-small" },
      "Draw on the first picture by mouse or finger. By keyboard: arrow keys move the pen, the space bar lowers and lifts it.",
    ),
  );

  function startDrawing() {
    picture = { name: "your drawing", scaled: "" };
    [before.width, before.height] = [SHEET.side, SHEET.side];
    tools.hidden = false;
    before.classList.add("network-sheet");
    before.tabIndex = 0;
    before.setAttribute("role", "application");
    clearSheet();
  }

  function stopDrawing() {
    pen = null;
    tools.hidden = true;
    before.classList.remove("network-sheet");
    before.removeAttribute("tabindex");
  }

  const grayCss = (value) => `rgb(${value} ${value} ${value})`;

  function clearSheet() {
    pen = { x: SHEET.side / 2, y: SHEET.side / 2, down: false };
    const sheet = context(before);
    sheet.fillStyle = grayCss(SHEET.ground);
    sheet.fillRect(0, 0, SHEET.side, SHEET.side);
    readSheet();
  }

  function line(points) {
    const sheet = context(before);
    sheet.strokeStyle = grayCss(SHEET.pen);
    sheet.lineWidth = Number(width.input.value);
    sheet.lineCap = sheet.lineJoin = "round";
    sheet.beginPath();
    for (const [x, y] of points) sheet.lineTo(x, y);
    sheet.stroke();
  }

  function drawExample() {
    exampleLines().forEach(line);
    readSheet();
  }

  function readSheet() {
    const sheet = context(before);
    const drawn = grayOf(sheet.getImageData(0, 0, SHEET.side, SHEET.side));
    picture = { ...picture, ...drawn };
    compute();
  }

  function place(event) {
    const box = before.getBoundingClientRect();
    const scale = SHEET.side / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  before.addEventListener("pointerdown", (event) => {
    if (!pen) return;
    before.setPointerCapture(event.pointerId);
    [pen.x, pen.y] = place(event);
    pen.drawing = true;
    line([[pen.x, pen.y], [pen.x, pen.y]]);
  });
  before.addEventListener("pointermove", (event) => {
    if (!pen?.drawing) return;
    const [x, y] = place(event);
    line([[pen.x, pen.y], [x, y]]);
    [pen.x, pen.y] = [x, y];
  });
  for (const end of ["pointerup", "pointercancel"]) {
    before.addEventListener(end, () => {
      if (!pen?.drawing) return;
      pen.drawing = false;
      readSheet();
    });
  }
  const STEPS = { ArrowLeft: [-4, 0], ArrowRight: [4, 0], ArrowUp: [0, -4], ArrowDown: [0, 4] };
  before.addEventListener("keydown", (event) => {
    if (!pen || !(event.key in STEPS || event.key === " ")) return;
    event.preventDefault();
    const [dx, dy] = STEPS[event.key] ?? [0, 0];
    const inside = (value) => Math.min(SHEET.side, Math.max(0, value));
    const [x, y] = [inside(pen.x + dx), inside(pen.y + dy)];
    if (event.key === " ") {
      pen.down = !pen.down;
      const [column, row] = [pen.x, pen.y].map(Math.round);
      say(`The pen is ${pen.down ? "down" : "up"}, at column ${column}, row ${row}.`);
    }
    if (pen.down) line([[pen.x, pen.y], [x, y]]);
    [pen.x, pen.y] = [x, y];
    if (event.key === " " && !pen.down) readSheet();
  });

  // -- the answer
  const changes = Object.entries(CHANGES).map(([key, { name }]) => [key, name]);
  const change = choice("Changed first", Object.fromEntries(changes));
  const view = choice("Show", { mask: "the mask on the picture", probability: "the probability" });
  const classes = choice("Class", {});
  const threshold = range(
    "Threshold", { min: 0.05, max: 0.95, step: 0.05, value: 0.5 }, (value) => value.toFixed(2),
  );
  const opacity = range("Mask", { min: 0, max: 100, step: 5, value: 70 }, (value) => `${value} %`);
  const scale = h("p", { class: "network-scale", hidden: true }, "0", h("span"), "1");
  classes.row.hidden = true;
  change.input.addEventListener("change", compute);
  for (const { input: moved } of [view, classes, threshold, opacity]) {
    moved.addEventListener("input", repaint);
  }

  function compute() {
    if (!picture?.gray) return;
    const changed = CHANGES[change.input.value].change(picture);
    if (Math.min(changed.width, changed.height) < LIMITS.least) {
      say(`Half of it is less than ${LIMITS.least} pixels.`, true);
      return;
    }
    shown = { ...changed, name: picture.name, scaled: picture.scaled };
    if (!pen) {
      [before.width, before.height] = [shown.width, shown.height];
      const flat = painted(shown, new Float32Array(shown.gray.length), { threshold: 1 });
      context(before).putImageData(flat, 0, 0);
      before.setAttribute("role", "img");
    }
    before.setAttribute("aria-label", `The picture: ${shown.name}`);
    jobs += 1;
    host.classList.add("network-busy");
    const x = Float32Array.from(shown.gray, (value) => value / 255);
    const { width: w, height: hgt } = shown;
    worker.postMessage({ run: { id: jobs, x, width: w, height: hgt } }, [x.buffer]);
  }

  function take(found) {
    host.classList.remove("network-busy");
    const [, n, height, w] = found.dims;
    if (found.dims.length !== 4 || height !== shown.height || w !== shown.width) {
      fail({
        what: "run",
        why: `for ${shown.width}×${shown.height} pixels it answers ${found.dims.join("×")}; the page needs an answer for every pixel, as with padding=1`,
      });
      return;
    }
    const same = n === answer?.classes;
    const wanted = same ? Number(classes.input.value) : Math.min(1, n - 1);
    classes.input.replaceChildren(
      ...Array.from({ length: n }, (_, k) => h("option", { value: k, selected: k === wanted }, k)),
    );
    classes.row.hidden = n <= 2;
    answer = { ...found, classes: n };
    repaint();
  }

  function repaint() {
    if (!answer) return;
    const wanted = Math.max(0, Number(classes.input.value));
    const p = probabilityOf(answer.logits, answer.classes, wanted);
    const at = Number(threshold.input.value);
    const settings = {
      view: view.input.value,
      threshold: at,
      opacity: Number(opacity.input.value) / 100,
    };
    scale.hidden = settings.view !== "probability";
    opacity.input.disabled = !scale.hidden;
    [after.width, after.height] = [shown.width, shown.height];
    context(after).putImageData(painted(shown, p, settings), 0, 0);
    const { share, certainty, cells } = measures(p, shown.width, at);
    const percent = (100 * share).toFixed(1);
    const name = answer.classes <= 2 ? "membrane" : `class ${wanted}`;
    after.setAttribute("aria-label", `The answer: ${percent} % ${name}`);
    source.textContent = `${shown.name}, ${shown.width}×${shown.height} pixels${shown.scaled}`;
    say(
      `${percent} % of the pixels are called ${name}; they leave ${cells} ${cells === 1 ? "region" : "regions"} of 50 pixels or more. Mean certainty ${certainty.toFixed(2)}. ${answer.milliseconds.toFixed(0)} ms.`,
    );
    // For tests, and for who wants the numbers.
    const detail = { ...shown, probability: p, threshold: at, share, certainty, cells };
    host.dispatchEvent(new CustomEvent("answer", { detail }));
  }

  // -- a network of the reader's own
  const ownFile = h("input", {
    type: "file", accept: ".onnx", onchange: () => takeNetwork(ownFile.files[0]),
  });
  const own = h(
    "details",
    { class: "network-own" },
    h("summary", {}, "A network of your own"),
    h(
      "p",
      {},
      "A file that ",
      h("code", {}, "to_onnx"),
      " wrote: one gray channel in, an answer for every pixel out. It stays in this page too.",
    ),
    h("label", { class: "network-file" }, h("span", {}, "ONNX file"), ownFile),
    h(
      "button",
      { type: "button", onclick: () => worker.postMessage({ load: null }) },
      "The book's network again",
    ),
  );

  async function takeNetwork(chosen) {
    ownFile.value = "";
    if (!chosen) return;
    if (chosen.size === 0 || chosen.size > 100 * MB) {
      const has = chosen.size === 0 ? "is empty" : `has ${(chosen.size / MB).toFixed(0)} MB`;
      say(`“${chosen.name}” ${has}; the page takes networks of up to 100 MB.`, true);
      return;
    }
    const bytes = new Uint8Array(await chosen.arrayBuffer());
    worker.postMessage({ load: bytes }, [bytes.buffer]);
  }

  const pictures = h(
    "div",
    { class: "network-pictures" },
    h("figure", {}, before, h("figcaption", {}, source)),
    h("figure", {}, after, h("figcaption", {}, "what the network says", scale)),
  );
  for (const type of ["dragover", "drop"]) {
    pictures.addEventListener(type, (event) => {
      event.preventDefault();
      if (type === "drop") takeFile(event.dataTransfer.files[0]);
    });
  }
  const settings = h(
    "fieldset",
    { class: "network-settings" },
    h("legend", {}, "What is shown"),
    ...[change, view, classes, threshold, opacity].map(({ row }) => row),
  );
  const workbench = h(
    "div",
    {},
    h("fieldset", {}, h("legend", {}, "Picture"), buttons, file, tools),
    pictures,
    settings,
    own,
  );
  host.append(opening, status);
}
