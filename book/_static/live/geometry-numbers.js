// What a U-Net does to the size of an image. Pure functions: no page, no drawing.
//
// A net is { part, depth, padding, align, base }:
//   part   "unet"     the whole network (depth 0: DoubleConv alone),
//          "encoder"  its way down,
//          "up"       one Down and one Up; the size is that of the map on the skip;
//   align  "pad" or "crop", what makes two maps fit at the skip;
//   base   channels of the first level.
// Height and width go their ways apart, so most functions take one side, in pixels.
// The rules are those of unet_edu.UNet; tests/site/test_geometry.py compares them.

const lostBy = (net) => 4 - 4 * net.padding;

/** Follow one side through the network, until it comes out or there is a problem. */
export function walk(side, net) {
  const lost = lostBy(net);
  const result = { input: side, down: [], up: [], output: null, problem: null };
  const fail = (kind, arm, level, detail) => {
    result.problem = { kind, arm, level, ...detail };
    return result;
  };

  const first = net.part === "up" ? side : side - lost;
  if (first < 1) return fail("vanishes", "down", 0, { from: side, pooled: side });
  result.down.push({ level: 0, side: first });
  for (let level = 1; level <= net.depth; level++) {
    const from = result.down.at(-1).side;
    // The package takes odd maps only where the map from below is padded.
    if (net.part === "unet" && net.align === "crop" && from % 2) {
      return fail("odd", "down", level - 1, { from });
    }
    const pooled = Math.floor(from / 2);
    if (pooled - lost < 1) return fail("vanishes", "down", level, { from, pooled });
    result.down.push({ level, from, pooled, dropped: from % 2, side: pooled - lost });
  }

  let below = result.down.at(-1).side;
  if (net.part !== "encoder") {
    for (let level = net.depth - 1; level >= 0; level--) {
      const skip = result.down[level].side;
      const enlarged = 2 * below;
      // An odd difference: the extra row lies at the bottom, the column on the right.
      const before = Math.floor((skip - enlarged) / 2);
      const after = skip - enlarged - before;
      const joined = net.align === "pad" ? skip : enlarged;
      if (joined - lost < 1) {
        return fail("vanishes", "up", level, { from: below, enlarged, joined });
      }
      below = joined - lost;
      result.up.push({ level, skip, enlarged, before, after, joined, side: below });
    }
  }
  result.output = below;
  return result;
}

/** Whether the network takes the side. */
export const fits = (side, net) => walk(side, net).problem === null;

/** Whether it takes the side, and no pooling meets an odd map. */
export const isWhole = (side, net) => {
  const { problem, down } = walk(side, net);
  return problem === null && down.every((stage) => !stage.dropped);
};

/** The nearest sides below and above for which `good` holds; null where none is. */
export function nearest(side, net, good = fits) {
  let below = Math.floor(side) - 1;
  while (below > 0 && !good(below, net)) below--;
  let above = Math.max(0, Math.floor(side)) + 1;
  while (!good(above, net)) above++;
  return { below: below > 0 ? below : null, above };
}

// A map, along one side, is a list of positions. Each knows the first and the last
// image pixel that can reach it, and whether a padded zero can (`made`).
const ZERO = { first: Infinity, last: -Infinity, made: true };

const merge = (positions) => ({
  first: Math.min(...positions.map((p) => p.first)),
  last: Math.max(...positions.map((p) => p.last)),
  made: positions.some((p) => p.made),
});

const list = (length, make) => Array.from({ length }, (_, i) => make(i));
const zeros = (length) => list(length, () => ZERO);

function doubleConv(map, padding) {
  for (let i = 0; i < 2; i++) {
    const wide = [...zeros(padding), ...map, ...zeros(padding)];
    map = list(wide.length - 2, (j) => merge(wide.slice(j, j + 3)));
  }
  return map;
}

/** What can be said of a map: its side, what one position sees, where no zero came. */
function summary(map) {
  const clean = map.flatMap((p, i) => (p.made ? [] : [i]));
  return {
    sees: Math.max(0, ...map.map((p) => p.last - p.first + 1)),
    clean: clean.length,
    // The clean positions lie in one piece: from `start`, `clean` of them.
    start: clean.length ? clean[0] : 0,
  };
}

/** Follow every position of one side; null if the network does not take it. */
export function trace(side, net) {
  const way = walk(side, net);
  if (way.problem) return null;
  let map = list(side, (i) => ({ first: i, last: i, made: false }));
  const maps = [net.part === "up" ? map : doubleConv(map, net.padding)];
  for (const stage of way.down.slice(1)) {
    const pooled = list(stage.pooled, (i) => merge(maps.at(-1).slice(2 * i, 2 * i + 2)));
    maps.push(doubleConv(pooled, net.padding));
  }
  const down = maps.map(summary);
  map = maps.at(-1);
  const up = way.up.map(({ level, enlarged, before, after, joined }) => {
    let skip = maps[level];
    let below = list(enlarged, (i) => map[i >> 1]);
    const arrived = summary(below);
    if (net.align === "pad") below = [...zeros(before), ...below, ...zeros(after)];
    else skip = skip.slice(before, before + joined);
    map = doubleConv(
      list(joined, (i) => merge([skip[i], below[i]])),
      net.padding,
    );
    return { ...summary(map), arrived };
  });
  return { down, up, output: up.at(-1) ?? down.at(-1) };
}

/** Share of the values of the last map that a padded zero can reach, from 0 to 1. */
export function touchedShare(height, width, net) {
  const [rows, columns] = [trace(height, net), trace(width, net)];
  const [h, w] = [walk(height, net).output, walk(width, net).output];
  return 1 - (rows.output.clean * columns.output.clean) / (h * w);
}

/**
 * Parameters and multiply-adds, counted as unet_edu.ledger does: one channel in, one
 * logit out, batch norm, biases included. Of the part "up" it is the Up that counts.
 */
export function cost(height, width, net) {
  const [rows, columns] = [walk(height, net), walk(width, net)];
  const lost = lostBy(net) / 2; // by one convolution
  let parameters = 0;
  let multAdds = 0;
  const convolve = (kernel, from, to, h, w) => {
    parameters += (kernel * from + 1) * to;
    multAdds += (kernel * from + 1) * to * h * w;
  };
  const double = (from, to, h, w) => {
    convolve(9, from, to, h - lost, w - lost);
    convolve(9, to, to, h - 2 * lost, w - 2 * lost);
    parameters += 4 * to; // two batch norms
  };
  const channels = (level) => net.base * 2 ** level;

  if (net.part !== "up") {
    double(1, net.base, height, width);
    for (let level = 1; level <= net.depth; level++) {
      const [h, w] = [rows.down[level].pooled, columns.down[level].pooled];
      double(channels(level - 1), channels(level), h, w);
    }
  }
  rows.up.forEach((row, i) => {
    const column = columns.up[i];
    const [from, to] = [channels(row.level + 1), channels(row.level)];
    // A transposed convolution writes each value of its input four times.
    parameters += (4 * from + 1) * to;
    multAdds += (from + 1) * to * row.enlarged * column.enlarged;
    double(from, to, row.joined, column.joined);
  });
  if (net.part === "unet" && net.depth > 0) {
    convolve(1, net.base, 1, rows.output, columns.output);
  }
  return { parameters, multAdds };
}
