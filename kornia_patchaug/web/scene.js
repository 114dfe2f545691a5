"use strict";

// One picture and its objects, painted as `affine_patches` paints them when `RandomPatchAffine` calls it, as fast as a
// slider moves. Options have the names and the values of Python's; boxes are half-open and in pixels, thetas are flat.
const Scene = (() => {
  const ZERO = 0, NEAREST = 1, MIRROR = 2; // what is read beyond the limits
  const PADDINGS = {
    zeros: { beyond: ZERO, surroundings: false, byReach: false },
    border: { beyond: NEAREST, surroundings: false, byReach: false },
    reflection: { beyond: MIRROR, surroundings: false, byReach: false },
    image: { beyond: NEAREST, surroundings: true, byReach: false },
    transparent: { beyond: ZERO, surroundings: false, byReach: true },
  };
  const DEFAULTS = {
    resample: "bilinear",
    padding_mode: "zeros",
    align_corners: false,
    clip: true,
    fill: null, // or a number, or "surroundings"
    matte: null, // or "box", "ellipse", or "mask", that of each object
    feather: 0.2,
    order: "area", // or "rows"
  };
  const COLOURS = 4; // floats a pixel, of which three are used: a power of two is faster to find
  const SOFT = 32; // pixels of a matte, across and down
  const GROW = 0.1, MOST_GROW = 0.5; // of holes, by which share of a box they are larger
  const ILL = 1e-5; // of a determinant to its products: below, rounding decides where a matrix leads
  const EPSILON = 2 ** -23;
  const EDGES = 64; // of a polygon that looks like an ellipse
  const ROOM = 16; // pixels kept around what an object reads of its surroundings, so that it may read a little more
  // Of `fills.py`, which says what they are.
  const CELLS = 32, SEEN = 0.95, AROUND = 0.25, UNKNOWN = 1e-6;

  const { fround } = Math; // Python has float32 where this is

  // Rectangles and numbers

  const clamp = (value, low, high) => (value < low ? low : value > high ? high : value);
  const ratio = (numerator, denominator) => (denominator === 0 ? 0 : numerator / denominator);
  const isEmpty = (rect) => !(rect[2] > rect[0] && rect[3] > rect[1]);
  const overlap = (one, other) =>
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
  const wholePixels = (box) => [Math.floor(box[0]), Math.floor(box[1]), Math.ceil(box[2]), Math.ceil(box[3])];

  // What is painted of a box, its whole pixels within the picture; a rectangle without area of a box without.
  function paintedPixels(box, { width, height }) {
    const [x0, y0, x1, y1] = wholePixels(box);
    const first = [clamp(x0, 0, width), clamp(y0, 0, height)];
    return isEmpty(box) ? [...first, ...first] : [...first, clamp(x1, 0, width), clamp(y1, 0, height)];
  }

  // To the even one of two integers that are as near, as torch and ImageData do.
  function rounded(value) {
    const up = Math.round(value);
    return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
  }

  function check(name, value, allowed) {
    if (!allowed.includes(value)) throw new RangeError(`${name}: expected one of ${allowed.join(", ")}, got ${value}.`);
  }

  // Options with what they stand for, or an error.
  function settled(options = {}) {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const settings = { ...DEFAULTS, ...Object.fromEntries(given) };
    const { padding_mode: padding, clip, matte, feather } = settings, rules = PADDINGS[padding];
    check("resample", settings.resample, ["bilinear", "nearest"]);
    check("padding_mode", padding, Object.keys(PADDINGS));
    if (!clip) check("padding_mode (with clip=False)", padding, ["zeros", "transparent"]);
    check("matte", matte, [null, "box", "ellipse", "mask"]);
    check("order", settings.order, ["area", "rows"]);
    settings.nearest = settings.resample === "nearest";
    settings.beyond = rules.beyond;
    settings.surroundings = rules.surroundings;
    // Beyond a mask the canvas shows.
    settings.byReach = rules.byReach || !clip || (matte === "mask" && rules.beyond === ZERO);
    settings.edge = settings.align_corners ? 0 : 0.5; // mirrors stand on the outermost pixel centres, or on their edges
    settings.grow = settings.grow ?? clamp(feather < 1 ? feather / (1 - feather) : MOST_GROW, GROW, MOST_GROW);
    return settings;
  }

  // Pictures that are read: pixels, and one row and one more, as the pixel beyond the last is read with weight 0.

  function blank(width, height, floats) {
    return new Float32Array((width * (height + 1) + 1) * floats);
  }

  function picture(rgba, width, height) {
    const pixels = blank(width, height, COLOURS), bytes = new Uint8ClampedArray(rgba);
    for (let k = 0; k < bytes.length; k++) {
      pixels[k] = bytes[k] / 255;
      if (k % 4 === 3) bytes[k] = 255;
    }
    return { width, height, pixels, bytes };
  }

  const source = (pixels, stride, [left, top], limits, there) => ({
    pixels,
    stride,
    left,
    top, // of the pixel that comes first
    low: [limits[0], limits[1]],
    high: [limits[2] - 1, limits[3] - 1],
    first: [there[0], there[1]],
    last: [there[2] - 1, there[3] - 1],
  });

  // The opacity of the pixels of `soft_mattes`.
  function softMatte(shape, feather) {
    const pixels = blank(SOFT, SOFT, 1), reach = Math.max(feather, 1.1754943508222875e-38);
    const fromCentre = (k) => Math.abs(2 * k + 1 - SOFT) / SOFT;
    const risen = (depth) => {
      const t = clamp(depth / reach, 0, 1);
      return t * t * (3 - 2 * t);
    };
    for (let row = 0; row < SOFT; row++) {
      for (let column = 0; column < SOFT; column++) {
        const x = fromCentre(column), y = fromCentre(row);
        pixels[row * SOFT + column] = shape === "box" ? risen(1 - x) * risen(1 - y) : risen(1 - Math.hypot(x, y));
      }
    }
    return pixels;
  }

  // An object's mask in its box, in [0, 1]: floats are, bytes are 255 times that.
  function cropped(mask, there, width) {
    const across = there[2] - there[0], down = there[3] - there[1];
    const pixels = blank(Math.max(across, 0), Math.max(down, 0), 1);
    const unit = mask instanceof Uint8Array || mask instanceof Uint8ClampedArray ? 1 / 255 : 1;
    for (let y = 0; y < down; y++) {
      for (let x = 0; x < across; x++) {
        pixels[y * across + x] = mask ? mask[(there[1] + y) * width + there[0] + x] * unit : 1;
      }
    }
    return pixels;
  }

  // How the opacity A of an object is read where its pixels are: of a matte that is stretched over its box, or of its
  // mask, that lies over the picture.
  function alphaOf(scene, item, settings, beyond) {
    if (settings.matte === null) return null;
    const { nearest, edge } = settings;
    if (settings.matte === "mask") {
      const { there, patch } = item, stride = Math.max(there[2] - there[0], 0);
      item.mask ??= cropped(null, there, scene.width);
      return {
        pixels: item.mask,
        stride,
        scaleX: 1,
        scaleY: 1,
        shiftX: -there[0],
        shiftY: -there[1],
        lastX: stride - 1,
        lastY: there[3] - there[1] - 1,
        lowX: patch[0] - there[0],
        lowY: patch[1] - there[1],
        nearest,
        edge,
        mirror: false,
        fades: beyond === ZERO,
      };
    }
    const half = (settings.align_corners ? SOFT - 1 : SOFT) / 2, size = halfSizes(item.box, settings.align_corners);
    const scaleX = fround(ratio(half, size[0])), scaleY = fround(ratio(half, size[1])), middle = (SOFT - 1) / 2;
    return {
      pixels: matteOf(scene, settings),
      stride: SOFT,
      scaleX,
      scaleY,
      shiftX: middle + (0.5 - item.centre[0]) * scaleX,
      shiftY: middle + (0.5 - item.centre[1]) * scaleY,
      lastX: SOFT - 1,
      lastY: SOFT - 1,
      lowX: 0,
      lowY: 0,
      nearest,
      edge,
      mirror: beyond === MIRROR,
      fades: false,
    };
  }

  const mirrorOrNearest = ({ beyond }) => (beyond === MIRROR ? MIRROR : NEAREST);

  function matteOf(scene, { matte, feather }) {
    const key = `${matte} ${feather}`;
    if (scene.matte.key !== key) scene.matte = { key, pixels: softMatte(matte, feather) };
    return scene.matte.pixels;
  }

  function mirrored(position, low, high, edge) {
    const mirror = low - edge, span = high - low + 2 * edge, period = 2 * Math.max(span, 1);
    const from = position - mirror, turn = from - Math.floor(from / period) * period;
    return clamp(mirror + span - Math.abs(turn - span), low, high);
  }

  // The reach along one axis: the sum of the weights of the pixels that exist.
  function reach(position, first, last, low, nearest) {
    if (nearest) {
      const at = rounded(fround(position - low)) + low;
      return at >= first && at <= last ? 1 : 0;
    }
    const before = position - first + 1, after = last + 1 - position;
    const least = before < after ? before : after;
    return least >= 1 ? 1 : least > 0 ? least : 0;
  }

  function alphaAt(alpha, sourceX, sourceY) {
    const { pixels, stride, lastX, lastY, lowX, lowY } = alpha;
    let u = sourceX * alpha.scaleX + alpha.shiftX, v = sourceY * alpha.scaleY + alpha.shiftY, fade = 1;
    if (alpha.fades) fade = reach(u, 0, lastX, lowX, alpha.nearest) * reach(v, 0, lastY, lowY, alpha.nearest);
    if (alpha.mirror) {
      u = mirrored(u, 0, lastX, alpha.edge);
      v = mirrored(v, 0, lastY, alpha.edge);
    }
    if (alpha.nearest) {
      u = rounded(fround(u - lowX)) + lowX;
      v = rounded(fround(v - lowY)) + lowY;
    }
    u = u < 0 ? 0 : u > lastX ? lastX : u;
    v = v < 0 ? 0 : v > lastY ? lastY : v;
    const column = u | 0, row = v | 0, x = u - column, at = row * stride + column, below = at + stride;
    const above = pixels[at] + (pixels[at + 1] - pixels[at]) * x;
    return fade * (above + (pixels[below] + (pixels[below + 1] - pixels[below]) * x - above) * (v - row));
  }

  // Where objects are

  // Half the box frame's extent in pixels: edges, or with `alignCorners` first and last pixel centres.
  function halfSizes(box, alignCorners) {
    const less = alignCorners ? 1 : 0;
    return [Math.max(box[2] - box[0] - less, 0) / 2, Math.max(box[3] - box[1] - less, 0) / 2];
  }

  const centreOf = (box) => [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];

  // `src_from_dst`, in pixels from the centre.
  function centredMatrix(theta, [halfX, halfY]) {
    const [a, b, tx, c, d, ty] = theta;
    return [a, b * ratio(halfX, halfY), tx * halfX, c * ratio(halfY, halfX), d, ty * halfY];
  }

  const isIdentity = ([a, b, tx, c, d, ty]) => a === 1 && b === 0 && tx === 0 && c === 0 && d === 1 && ty === 0;

  // What is painted where boxes clip nothing, within limits; and whether that is somewhere in particular, as `well`.
  function reachedPixels(item, matrix, limits) {
    const [a, b, tx, c, d, ty] = matrix, { there, centre, box } = item;
    if (isEmpty(there) || isEmpty(box)) return { rect: [0, 0, 0, 0], well: true };
    const determinant = a * d - b * c, inverse = [d / determinant, a / determinant];
    const other = [-b / determinant, -c / determinant], shift = [tx, ty];
    const offset = [0, 1].map((axis) => (there[axis] + there[axis + 2]) / 2 - centre[axis] - shift[axis]);
    const beside = [0, 1].map((axis) => (there[axis + 2] - there[axis] + 1) / 2);
    const middle = [], extent = [];
    for (let k = 0; k < 2; k++) {
      middle.push(inverse[k] * offset[k] + other[k] * offset[1 - k] + centre[k]);
      extent.push(Math.abs(inverse[k]) * beside[k] + Math.abs(other[k]) * beside[1 - k]);
    }
    const well =
      Number.isFinite(middle[0] + extent[0] + middle[1] + extent[1]) &&
      Math.abs(determinant) > ILL * (Math.abs(a * d) + Math.abs(b * c));
    if (!well) return { rect: limits, well };
    const [x0, y0] = [0, 1].map((k) => clamp(Math.floor(middle[k] - extent[k] + 0.5), limits[k], limits[k + 2]));
    const [x1, y1] = [0, 1].map((k) => clamp(Math.ceil(middle[k] + extent[k] - 0.5), limits[k], limits[k + 2]));
    return { rect: [x0, y0, Math.max(x0, x1), Math.max(y0, y1)], well };
  }

  // The rows of objects in the order in which they are painted: as they came, or of their "area", large first.
  function order(scene, by = "area") {
    const rows = scene.items.map((_, n) => n);
    return by === "rows" ? rows : rows.sort((one, other) => scene.items[other].area - scene.items[one].area);
  }

  // The share of each pixel from `first` to `stop` that lies in a box, along one axis.
  function shares(first, stop, low, high) {
    const found = new Float32Array(Math.max(stop - first, 0));
    for (let k = 0; k < found.length; k++) {
      found[k] = clamp(high - first - k, 0, 1) + clamp(first + k + 1 - low, 0, 1) - 1;
    }
    return found;
  }

  function coverage(box, rect) {
    return { across: shares(rect[0], rect[2], box[0], box[2]), down: shares(rect[1], rect[3], box[1], box[3]) };
  }

  // An object as it is painted by a theta: pixel (x, y) reads at u = a x + b y + e, v = c x + d y + f.
  function placed(scene, n, theta, settings) {
    const item = scene.items[n], [centreX, centreY] = item.centre, whole = [0, 0, scene.width, scene.height];
    const matrix = centredMatrix(theta, halfSizes(item.box, settings.align_corners));
    const [a, b, tx, c, d, ty] = matrix, x = 0.5 - centreX, y = 0.5 - centreY;
    const rect = settings.clip ? item.there : reachedPixels(item, matrix, whole).rect;
    // A mask does not go on beyond its edge; but where the reach is part of opacity that ends it already.
    const beyond = settings.matte === "mask" && !settings.byReach ? ZERO : mirrorOrNearest(settings);
    return {
      n,
      item,
      matrix,
      moves: !isIdentity(theta),
      rect,
      a,
      b,
      c,
      d,
      e: a * x + b * y + tx - x,
      f: c * x + d * y + ty - y,
      coverage: settings.clip ? coverage(item.box, rect) : null,
      alpha: alphaOf(scene, item, settings, beyond),
      source: null,
    };
  }

  // The pixels that an object may read of the picture, as `read_areas` has them.
  function readArea(layer, there, settings) {
    if (settings.beyond === MIRROR || isEmpty(there)) return there; // a mirror may lead from anywhere to anywhere
    const { a, b, c, d, e, f, rect } = layer, columns = [rect[0], rect[2] - 1], rows = [rect[1], rect[3] - 1];
    const u = [], v = [];
    for (const x of columns) {
      for (const y of rows) {
        u.push(a * x + b * y + e);
        v.push(c * x + d * y + f);
      }
    }
    const low = (found, first, last) => clamp(Math.floor(Math.min(...found)) - 1, first, last);
    const high = (found, first, last) => clamp(Math.ceil(Math.max(...found)) + 1, first, last) + 1;
    return [
      low(u, there[0], there[2] - 1),
      low(v, there[1], there[3] - 1),
      high(u, there[0], there[2] - 1),
      high(v, there[1], there[3] - 1),
    ];
  }

  // Holes

  // An object where it is, and with which opacity it is taken off: larger, if it is soft and moves.
  function holeOf(scene, layer, settings) {
    const { item } = layer, { box, there } = item;
    const more = settings.matte !== null && layer.moves ? settings.grow / 2 : 0;
    const sides = [box[2] - box[0], box[3] - box[1]];
    const large = box.map((edge, k) => edge + (k < 2 ? -more : more) * sides[k % 2]);
    const grown = large.map(fround), rect = isEmpty(there) ? [0, 0, 0, 0] : paintedPixels(large, scene);
    // A matte is stretched over the larger box, and so is what lies in the box of a mask.
    const framed = settings.matte === "mask" ? item : { box: grown, centre: centreOf(grown) };
    const own = halfSizes(framed.box, settings.align_corners), half = halfSizes(grown, settings.align_corners);
    const scale = [0, 1].map((k) => (own[k] === half[k] ? 1 : ratio(own[k], half[k]))), centre = centreOf(grown);
    return {
      box: grown,
      rect,
      scale,
      shift: [0, 1].map((k) => (0.5 - centre[k]) * scale[k] + framed.centre[k] - 0.5),
      alpha: alphaOf(scene, framed, settings, mirrorOrNearest(settings)),
    };
  }

  // The layers of holes from the last to the first, and of what their objects read: lists of their places in the list.
  function layersOf(holes, areas) {
    const layer = new Int32Array(holes.length).fill(-1), found = [];
    for (let n = holes.length - 1; n >= 0; n--) {
      const here = holes[n].rect, there = areas[n];
      if (isEmpty(here)) continue;
      let own = 0;
      for (let m = n + 1; m < holes.length; m++) {
        if (layer[m] < 0) continue;
        if (overlap(holes[m].rect, here) || overlap(holes[m].rect, there)) own = Math.max(own, layer[m] + 1);
        else if (overlap(areas[m], here)) own = Math.max(own, layer[m]);
      }
      layer[n] = own;
      (found[own] ??= []).push(n);
    }
    return found;
  }

  // The square around what is in the picture of a hole, and the side of its cells.
  function squareOf(box, { width, height }) {
    const low = [clamp(box[0], 0, width), clamp(box[1], 0, height)];
    const high = [clamp(box[2], 0, width), clamp(box[3], 0, height)];
    const [across, down] = [fround(high[0] - low[0]), fround(high[1] - low[1])];
    const extent = fround(Math.max(across, down) / 2 + fround(AROUND * Math.min(across, down)));
    const cell = Math.max(Math.ceil((4 * extent) / CELLS) / 2, 1), beside = cell % 2 === 0 ? 0.5 : 0;
    const first = low.map((edge, k) => rounded(fround(fround(edge + high[k]) - CELLS * cell) / 2 - beside) + beside);
    return { first, cell };
  }

  // The pixel in the middle of each cell, and whether it is known, as a fourth colour.
  function lookedAt(pixels, known, { first, cell }, { width, height }) {
    const cells = new Float32Array(CELLS * CELLS * COLOURS);
    const place = (k, axis, last) => clamp(rounded(clamp(first[axis] + (k + 0.5) * cell - 0.5, 0, last)), 0, last);
    const columns = Array.from({ length: CELLS }, (_, k) => place(k, 0, width - 1));
    for (let row = 0, at = 0; row < CELLS; row++) {
      const line = place(row, 1, height - 1) * width;
      for (let column = 0; column < CELLS; column++, at += COLOURS) {
        const pixel = line + columns[column];
        if (!known[pixel]) continue;
        cells.set(pixels.subarray(pixel * COLOURS, pixel * COLOURS + 3), at);
        cells[at + 3] = 1;
      }
    }
    return cells;
  }

  // A number of cells of every size from 1 x 1 on, to be written over: holes are filled one by one.
  const room = () => {
    const sizes = [];
    for (let size = 1; size <= CELLS; size *= 2) sizes.push(size);
    return new Map(sizes.map((size) => [size, new Float32Array(size * size * COLOURS)]));
  };
  const LEVELS = room(), COARSE = room(), MET = room(), ACROSS = room();

  // The mean of each cell and those beside it.
  function besideOf(cells, size) {
    const found = MET.get(size), across = ACROSS.get(size), line = size * COLOURS;
    for (let first = 0; first < cells.length; first += line) {
      for (let k = 0; k < line; k++) {
        const at = first + k, left = k >= COLOURS ? cells[at - COLOURS] : 0;
        across[at] = left + cells[at] + (k + COLOURS < line ? cells[at + COLOURS] : 0);
      }
    }
    for (let first = 0; first < cells.length; first += line) {
      const isFirst = first === 0, isLast = first + line === cells.length, rows = 3 - isFirst - isLast;
      for (let k = 0; k < line; k++) {
        const at = first + k, columns = 3 - (k < COLOURS) - (k + COLOURS >= line);
        const sum = (isFirst ? 0 : across[at - line]) + across[at] + (isLast ? 0 : across[at + line]);
        found[at] = sum / (rows * columns);
      }
    }
    return found;
  }

  // The means of four cells each, where they are known.
  function halved(cells, size) {
    const half = size / 2, found = LEVELS.get(half), line = size * COLOURS;
    for (let row = 0, to = 0; row < half; row++) {
      for (let column = 0; column < half; column++, to += COLOURS) {
        const at = 2 * row * line + 2 * column * COLOURS;
        for (let k = 0; k < COLOURS; k++) {
          const here = at + k, below = here + line;
          found[to + k] = (cells[here] + cells[here + COLOURS] + cells[below] + cells[below + COLOURS]) / 4;
        }
        const known = Math.max(found[to + 3], 0.25); // one known cell of four is enough to know the coarser
        for (let k = 0; k < COLOURS; k++) found[to + k] /= known;
      }
    }
    return found;
  }

  // Twice as many cells, interpolated.
  function doubled(cells, size) {
    const twice = 2 * size, found = COARSE.get(twice);
    const far = (k) => clamp((k >> 1) + (k % 2 === 0 ? -1 : 1), 0, size - 1);
    for (let row = 0, to = 0; row < twice; row++) {
      const near = (row >> 1) * size, other = far(row) * size;
      for (let column = 0; column < twice; column++, to += COLOURS) {
        const one = column >> 1, two = far(column);
        const a = (near + one) * COLOURS, b = (near + two) * COLOURS;
        const c = (other + one) * COLOURS, d = (other + two) * COLOURS;
        for (let k = 0; k < COLOURS; k++) {
          found[to + k] = (9 * cells[a + k] + 3 * (cells[b + k] + cells[c + k]) + cells[d + k]) / 16;
        }
      }
    }
    return found;
  }

  // given + unknown * coarse, into coarse.
  function blended(given, coarse) {
    for (let at = 0; at < given.length; at += COLOURS) {
      const unknown = 1 - given[at + 3];
      for (let k = at; k < at + 3; k++) coarse[k] = given[k] + unknown * coarse[k];
    }
    return coarse;
  }

  const distrusted = (beside) => beside * beside * beside; // beside a hole an object may shine

  // Cells of which what is known goes on smoothly into what is not, by pulling and pushing.
  function continued(cells) {
    const beside = besideOf(cells, CELLS), levels = [LEVELS.get(CELLS)];
    for (let k = 0; k < cells.length; k++) levels[0][k] = cells[k] * distrusted(beside[k | 3]);
    for (let size = CELLS; size > 1; size /= 2) levels.push(halved(levels.at(-1), size));
    let found = levels.pop(), size = 1;
    const known = Math.max(found[3], UNKNOWN);
    for (let k = 0; k < COLOURS; k++) found[k] /= known;
    for (const given of levels.reverse()) {
      const coarse = blended(given, doubled(found, size));
      size *= 2;
      found = blended(given, besideOf(coarse, size));
    }
    return found.slice();
  }

  // The opacity of one row of a hole, without coverage.
  function alphasOf({ alpha, rect, scale, shift }, y, alphas) {
    const count = rect[2] - rect[0], first = rect[0] * scale[0] + shift[0], step = scale[0];
    const v = y * scale[1] + shift[1];
    if (alpha === null) alphas.fill(1, 0, count);
    else for (let k = 0; k < count; k++) alphas[k] = alphaAt(alpha, first + k * step, v);
  }

  // What is known around the holes of a layer: nothing in them, but what no mask hides.
  function hide(known, hole, masked, width, alphas) {
    const [x0, y0, x1, y1] = hole.rect;
    for (let y = y0; y < y1; y++) {
      known.fill(0, y * width + x0, y * width + x1);
      if (!masked) continue;
      alphasOf(hole, y, alphas);
      for (let x = x0; x < x1; x++) known[y * width + x] = alphas[x - x0] < 1 - SEEN ? 1 : 0;
    }
  }

  // Where pixels from `first` to `stop` lie among the cells, along one axis.
  function cellsOf(first, stop, edge, cell) {
    const index = new Int32Array(stop - first), part = new Float32Array(stop - first);
    for (let k = 0; k < index.length; k++) {
      const at = clamp((first + k + 0.5 - edge) / cell - 0.5, 0, CELLS - 1);
      index[k] = Math.min(Math.floor(at), CELLS - 2);
      part[k] = at - index[k];
    }
    return { index, part };
  }

  // Paint a hole with cells that lie over its square, or with a colour.
  function show(pixels, width, hole, fill, cells, square, alphas) {
    const [x0, y0, x1, y1] = hole.rect, { across, down } = coverage(hole.box, hole.rect), line = CELLS * COLOURS;
    const columns = cells && cellsOf(x0, x1, square.first[0], square.cell);
    const rows = cells && cellsOf(y0, y1, square.first[1], square.cell), between = new Float32Array(line);
    for (let y = y0; y < y1; y++) {
      alphasOf(hole, y, alphas);
      if (cells) {
        const first = rows.index[y - y0] * line, part = rows.part[y - y0];
        for (let k = 0; k < line; k++) {
          between[k] = cells[first + k] + (cells[first + line + k] - cells[first + k]) * part;
        }
      }
      for (let k = 0, at = (y * width + x0) * COLOURS; k < x1 - x0; k++, at += COLOURS) {
        const opacity = across[k] * down[y - y0] * alphas[k], keeps = 1 - opacity;
        if (opacity === 0) continue;
        let red = fill, green = fill, blue = fill;
        if (cells) {
          const from = columns.index[k] * COLOURS, part = columns.part[k];
          red = between[from] + (between[from + 4] - between[from]) * part;
          green = between[from + 1] + (between[from + 5] - between[from + 1]) * part;
          blue = between[from + 2] + (between[from + 6] - between[from + 2]) * part;
        }
        pixels[at] = keeps * pixels[at] + opacity * red;
        pixels[at + 1] = keeps * pixels[at + 1] + opacity * green;
        pixels[at + 2] = keeps * pixels[at + 2] + opacity * blue;
      }
    }
  }

  // What objects are painted on, and what each of them reads

  function copied(pixels, width, rect) {
    const across = rect[2] - rect[0], found = blank(across, rect[3] - rect[1], COLOURS);
    for (let y = rect[1]; y < rect[3]; y++) {
      const first = (y * width + rect[0]) * COLOURS;
      found.set(pixels.subarray(first, first + across * COLOURS), (y - rect[1]) * across * COLOURS);
    }
    return found;
  }

  function toBytes(bytes, pixels, width, [x0, y0, x1, y1]) {
    for (let y = y0; y < y1; y++) {
      for (let at = (y * width + x0) * 4; at < (y * width + x1) * 4; at += 4) {
        bytes[at] = fround(pixels[at] * 255); // as torch rounds before it rounds to levels
        bytes[at + 1] = fround(pixels[at + 1] * 255);
        bytes[at + 2] = fround(pixels[at + 2] * 255);
      }
    }
  }

  const contains = (outer, inner) =>
    inner[0] >= outer[0] && inner[1] >= outer[1] && inner[2] <= outer[2] && inner[3] <= outer[3];

  // The picture without its objects, and their pixels, each as those above it left them. Of theta it depends only on
  // which objects move, which go together and, if they read their surroundings, how far: so it is kept.
  function peeled(scene, layers, settings) {
    const { width, height } = scene, whole = [0, 0, width, height];
    const holes = layers.map((layer) => holeOf(scene, layer, settings));
    const readable = layers.map(({ item }) => (settings.surroundings ? whole : item.there));
    const needed = layers.map((layer, k) => readArea(layer, readable[k], settings));
    const steps = layersOf(holes, needed);
    const { resample, padding_mode, align_corners, clip, fill, matte, feather, grow } = settings;
    const options = [resample, padding_mode, align_corners, clip, fill, matte, feather, grow, settings.order];
    const key = [options, layers.map(({ moves }) => moves), ...steps].join(";");
    const last = scene.peeled;
    if (last.key === key && needed.every((area, k) => contains(last.areas[k], area))) return last;

    const wider = ([x0, y0, x1, y1]) => [x0 - ROOM, y0 - ROOM, x1 + ROOM, y1 + ROOM];
    const within = (rect) => rect.map((edge, k) => clamp(edge, 0, k % 2 === 0 ? width : height));
    const areas = settings.surroundings ? needed.map((area) => within(wider(area))) : readable;
    const { pixels = new Float32Array(scene.picture.pixels.length), bytes = scene.picture.bytes.slice() } = last;
    const { known = new Uint8Array(width * height).fill(1) } = last, sources = [];
    pixels.set(scene.picture.pixels);
    bytes.set(scene.picture.bytes);
    for (const step of steps) {
      for (const k of step) {
        const limits = settings.surroundings ? whole : layers[k].item.patch;
        const patch = copied(pixels, width, areas[k]);
        sources[k] = source(patch, areas[k][2] - areas[k][0], areas[k], limits, readable[k]);
      }
      const squares = step.map((k) => squareOf(holes[k].box, scene));
      let cells = [];
      if (fill === "surroundings") {
        for (const k of step) hide(known, holes[k], matte === "mask", width, scene.row.alphas);
        cells = squares.map((square) => continued(lookedAt(pixels, known, square, scene)));
        for (const k of step) {
          const [x0, y0, x1, y1] = holes[k].rect;
          for (let y = y0; y < y1; y++) known.fill(1, y * width + x0, y * width + x1);
        }
      }
      step.forEach((k, at) => show(pixels, width, holes[k], fill, cells[at], squares[at], scene.row.alphas));
    }
    for (const { rect } of holes) toBytes(bytes, pixels, width, rect);
    scene.peeled = { key, areas, pixels, bytes, known, sources };
    return scene.peeled;
  }

  function unpeeled(scene, layers, settings) {
    const { pixels, bytes } = scene.picture, { width, height } = scene, whole = [0, 0, width, height];
    const sources = layers.map(({ item }) =>
      source(pixels, width, whole, ...(settings.surroundings ? [whole, whole] : [item.patch, item.there])),
    );
    return { pixels, bytes, sources };
  }

  // Painting

  // Narrow the columns of a row to those where one coordinate of what is read is within the limits, and a pixel more.
  function narrow(row, step, start, first, last) {
    if (step === 0) {
      if (start < first || start > last) row.to = row.from;
      return;
    }
    const one = (first - start) / step, other = (last - start) / step;
    row.from = Math.max(row.from, Math.floor(Math.min(one, other)));
    row.to = Math.min(row.to, Math.ceil(Math.max(one, other)) + 1);
  }

  // The columns of a row that may show something of a patch, `row.from` to `row.to`; of what `isReached` not, all.
  function span(row, layer, rect, y, isReached) {
    const { a, b, c, d, e, f } = layer, { there } = layer.item;
    row.from = rect[0];
    row.to = rect[2];
    if (!isReached) return;
    narrow(row, a, b * y + e, there[0] - 1, there[2]);
    narrow(row, c, d * y + f, there[1] - 1, there[3]);
  }

  // Lay a span of a layer under what a row shows: what is above it is painted before it, as light that passes is known
  // from the top.
  function lay(row, layer, y, settings) {
    const { a, c, item, coverage: covered, alpha } = layer, { colours, light, from, to } = row;
    const { nearest, beyond, byReach, edge } = settings, { pixels, stride, left, top } = layer.source;
    const [lowX, lowY] = layer.source.low, [highX, highY] = layer.source.high;
    const [firstX, firstY] = layer.source.first, [lastX, lastY] = layer.source.last;
    const across = covered && covered.across, down = covered ? covered.down[y - layer.rect[1]] : 1;
    const e = layer.b * y + layer.e, f = layer.d * y + layer.f, line = stride * COLOURS, x0 = layer.rect[0];
    for (let x = from; x < to; x++) {
      const passed = light[x];
      if (passed === 0) continue;
      let u = a * x + e, v = c * x + f, opacity = covered === null ? 1 : down * across[x - x0], shown = 1;
      if (beyond === ZERO) {
        shown = reach(u, firstX, lastX, lowX, nearest) * reach(v, firstY, lastY, lowY, nearest);
        if (byReach) opacity *= shown;
      }
      if (opacity === 0) continue;
      if (alpha !== null) opacity *= alphaAt(alpha, u, v);
      if (opacity === 0) continue;
      light[x] = passed * (1 - opacity);
      shown = passed * opacity * (byReach ? 1 : shown);
      if (shown === 0) continue;
      if (beyond === MIRROR) {
        u = mirrored(u, lowX, highX, edge);
        v = mirrored(v, lowY, highY, edge);
      }
      if (nearest) {
        u = rounded(fround(u - lowX)) + lowX;
        v = rounded(fround(v - lowY)) + lowY;
      }
      u = u < firstX ? firstX : u > lastX ? lastX : u;
      v = v < firstY ? firstY : v > lastY ? lastY : v;
      const column = u | 0, above = v | 0, partX = u - column, partY = v - above;
      const at = ((above - top) * stride + column - left) * COLOURS, below = at + line, red = 3 * x;
      const w1 = shown * partY, w0 = shown - w1, w01 = w0 * partX, w00 = w0 - w01, w11 = w1 * partX, w10 = w1 - w11;
      colours[red] += w00 * pixels[at] + w01 * pixels[at + 4] + w10 * pixels[below] + w11 * pixels[below + 4];
      colours[red + 1] +=
        w00 * pixels[at + 1] + w01 * pixels[at + 5] + w10 * pixels[below + 1] + w11 * pixels[below + 5];
      colours[red + 2] +=
        w00 * pixels[at + 2] + w01 * pixels[at + 6] + w10 * pixels[below + 2] + w11 * pixels[below + 6];
    }
  }

  function placedInOrder(scene, thetas, settings) {
    return order(scene, settings.order).map((n) => {
      const theta = Array.from(thetas.slice(6 * n, 6 * n + 6), fround);
      return placed(scene, n, theta, settings);
    });
  }

  // RGBA bytes of the picture with its objects moved by `thetas`, (N, 6) flat. The next call writes to the same memory.
  function render(scene, thetas, options) {
    const settings = settled(options), layers = placedInOrder(scene, thetas, settings);
    const ground = (settings.fill === null ? unpeeled : peeled)(scene, layers, settings);
    layers.forEach((layer, k) => (layer.source = ground.sources[k]));
    const painted = layers.filter(({ rect, item }) => !isEmpty(rect) && !isEmpty(item.there)).reverse();
    const { bytes, row, width, height } = scene, { colours, light } = row, { pixels } = ground;
    bytes.set(ground.bytes);
    for (let y = 0; y < height; y++) {
      let first = width, stop = 0;
      for (const layer of painted) {
        const { rect } = layer;
        if (y < rect[1] || y >= rect[3]) continue;
        span(row, layer, rect, y, settings.byReach);
        if (row.from >= row.to) continue;
        if (stop === 0) {
          colours.fill(0);
          light.fill(1);
        }
        first = Math.min(first, row.from);
        stop = Math.max(stop, row.to);
        lay(row, layer, y, settings);
      }
      for (let x = first, at = (y * width + first) * 4, k = 3 * first; x < stop; x++, at += 4, k += 3) {
        const through = light[x];
        if (through === 1) continue;
        bytes[at] = fround(fround(colours[k] + through * pixels[at]) * 255);
        bytes[at + 1] = fround(fround(colours[k + 1] + through * pixels[at + 1]) * 255);
        bytes[at + 2] = fround(fround(colours[k + 2] + through * pixels[at + 2]) * 255);
      }
    }
    return bytes;
  }

  // What is seen of objects

  // The opacity that an object has of its own in a span of a row, before its box clips it: none beyond its patch.
  function owned(row, layer, within, y, nearest) {
    const { a, c } = layer, { there, patch } = layer.item, [x0, y0, x1, y1] = there, { from, to, own } = row;
    const e = layer.b * y + layer.e, f = layer.d * y + layer.f, [lowX, lowY] = patch;
    for (let x = from; x < to; x++) {
      const u = a * x + e, v = c * x + f;
      const reached = reach(u, x0, x1 - 1, lowX, nearest) * reach(v, y0, y1 - 1, lowY, nearest);
      own[x - from] = within === null || reached === 0 ? reached : reached * alphaAt(within, u, v);
    }
  }

  // What an object hides in a span of a row, where that does not end with its patch.
  function hiding(row, layer, y) {
    const { a, c, alpha } = layer, { from, to, alphas } = row;
    const e = layer.b * y + layer.e, f = layer.d * y + layer.f;
    if (alpha === null) alphas.fill(1, 0, to - from);
    else for (let x = from; x < to; x++) alphas[x - from] = alphaAt(alpha, a * x + e, c * x + f);
  }

  // `visible_share` of every object, in the order in which they came.
  function visibleShare(scene, thetas, options) {
    const settings = settled(options), layers = placedInOrder(scene, thetas, settings);
    const { width, height } = scene, { nearest, clip, byReach } = settings, { row } = scene;
    const limits = [-width, -height, 2 * width, 2 * height], found = new Float64Array(layers.length);
    const painted = layers.filter(({ rect, item }) => !isEmpty(rect) && !isEmpty(item.there)).reverse();
    const sums = painted.map((layer) => {
      const within = alphaOf(scene, layer.item, settings, NEAREST);
      const { rect, well } = reachedPixels(layer.item, layer.matrix, limits);
      let total = 0;
      for (let y = rect[1]; well && y < rect[3]; y++) {
        span(row, layer, rect, y, true);
        owned(row, layer, within, y, nearest);
        for (let k = 0; k < row.to - row.from; k++) total += row.own[k];
      }
      return { within, total, seen: 0, whole: 0 };
    });
    for (let y = 0; y < height; y++) {
      row.light.fill(1);
      painted.forEach((layer, k) => {
        const { rect, coverage: covered } = layer, sum = sums[k];
        if (y < rect[1] || y >= rect[3]) return;
        span(row, layer, rect, y, byReach);
        owned(row, layer, sum.within, y, nearest);
        if (!byReach) hiding(row, layer, y);
        const hides = byReach ? row.own : row.alphas, { from, to, own, light } = row;
        for (let x = from, at = 0; x < to; x++, at++) {
          const part = covered === null ? 1 : covered.down[y - rect[1]] * covered.across[x - rect[0]];
          const seen = own[at] * light[x];
          sum.seen += part * seen;
          sum.whole += seen;
          light[x] *= 1 - hides[at] * part;
        }
      });
    }
    painted.forEach(({ n, item }, k) => {
      const { seen, whole, total } = sums[k], { there, box } = item;
      // What is read are whole pixels, of which the box has a part.
      const side = (axis) => clamp(box[axis + 2], there[axis], there[axis + 2]) - Math.max(box[axis], there[axis]);
      const part = (side(0) * side(1)) / ((there[2] - there[0]) * (there[3] - there[1]));
      found[n] = clip ? ratio(Math.min(seen, part * whole), part * total) : ratio(seen, total);
    });
    return found;
  }

  // Labels

  // The corners of a box as theta moves them, clockwise from the top left, or null where it moves them nowhere.
  function movedCorners(box, theta, alignCorners) {
    const [x0, y0, x1, y1] = box.map(fround), centre = centreOf([x0, y0, x1, y1]);
    const numbers = Array.from(theta, fround);
    const size = Math.max(...[0, 1, 3, 4].map((k) => Math.abs(numbers[k])));
    const [a, b, , c, d] = numbers.map((value) => value / size), determinant = a * d - b * c;
    if (!(Math.abs(determinant) > 4 * EPSILON * (Math.abs(a * d) + Math.abs(b * c)))) return null;
    const inverse = [d, -b, -c, a].map((value) => value / determinant / size), [, , tx, , , ty] = numbers;
    const back = [-(inverse[0] * tx + inverse[1] * ty), -(inverse[2] * tx + inverse[3] * ty)];
    const undone = [inverse[0], inverse[1], back[0], inverse[2], inverse[3], back[1]];
    const dstFromSrc = centredMatrix(undone, halfSizes([x0, y0, x1, y1], alignCorners));
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].map((corner) => {
      const [x, y] = corner.map((at, axis) => at - centre[axis]);
      return [0, 1].map((axis) => {
        const [alongX, alongY, shift] = dstFromSrc.slice(3 * axis);
        return alongX * x + alongY * y + shift + centre[axis];
      });
    });
  }

  const mean = (corners) => [0, 1].map((axis) => corners.reduce((sum, corner) => sum + corner[axis], 0) / 4);

  // Where the content of a box goes: its corners, and a polygon that looks like the ellipse in it; or null.
  function outline(box, theta, alignCorners = false) {
    const corners = movedCorners(box, theta, alignCorners);
    if (corners === null) return null;
    const centre = mean(corners), [first, second, , fourth] = corners;
    const ellipse = Array.from({ length: EDGES }, (_, k) => {
      const t = (2 * Math.PI * k) / EDGES;
      const at = (axis) =>
        centre[axis] +
        ((second[axis] - first[axis]) / 2) * Math.cos(t) +
        ((fourth[axis] - first[axis]) / 2) * Math.sin(t);
      return [at(0), at(1)];
    });
    return { corners, ellipse };
  }

  // What a detector is told of a moved box: the box around its outline, as far as it is painted; or null.
  function labelBox({ width, height }, box, theta, options) {
    const { clip, matte, align_corners: alignCorners } = settled(options);
    let points = movedCorners(box, theta, alignCorners);
    if (points === null) return null;
    if (matte === "ellipse") {
      const centre = mean(points), [first, second, , fourth] = points;
      const extent = [0, 1].map((k) => Math.hypot(second[k] - first[k], fourth[k] - first[k]) / 2);
      points = [-1, 1].map((sign) => centre.map((at, k) => at + sign * extent[k]));
    }
    const limits = clip ? paintedPixels(box.map(fround), { width, height }) : [0, 0, width, height];
    const edge = (pick, axis) => clamp(pick(...points.map((p) => p[axis])), limits[axis], limits[axis + 2]);
    return [edge(Math.min, 0), edge(Math.min, 1), edge(Math.max, 0), edge(Math.max, 1)];
  }

  // A picture, as `picture` makes it, and its objects {box, mask}: what a page holds while thetas and options change.
  function open(drawn, objects) {
    const { width, height } = drawn;
    const items = objects.map(({ box, mask }) => {
      const rounds = Array.from(box, fround), there = paintedPixels(rounds, drawn);
      return {
        box: rounds,
        centre: centreOf(rounds),
        area: fround(fround(rounds[2] - rounds[0]) * fround(rounds[3] - rounds[1])),
        patch: wholePixels(rounds),
        there,
        mask: mask == null ? null : cropped(mask, there, width),
      };
    });
    return {
      picture: drawn,
      width,
      height,
      items,
      bytes: new Uint8ClampedArray(width * height * 4),
      // What is worked out of one row at a time. Shares are of rows three pictures wide.
      row: {
        from: 0,
        to: 0,
        colours: new Float32Array(3 * width),
        light: new Float32Array(width),
        alphas: new Float32Array(width),
        own: new Float32Array(3 * width),
      },
      matte: { key: "", pixels: null },
      peeled: { key: "" },
    };
  }

  return { picture, open, order, render, visibleShare, outline, labelBox };
})();
