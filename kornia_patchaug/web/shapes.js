"use strict";

// Shapes of objects, {counts, size} of run lengths or {rings} of polygons, as in `shapes.py`; and masks of pixels.
const Shapes = (() => {
  // COCO's run lengths as text: 5 bits a letter, of which the sixth says whether there are more.
  function decoded(text) {
    const numbers = [];
    let value = 0, shift = 0;
    for (const letter of text) {
      const bits = letter.charCodeAt(0) - 48;
      if (!(bits >= 0 && bits < 64) || shift > 45) throw new RangeError("run lengths that do not fit their size");
      value += (bits & 31) * 2 ** shift;
      shift += 5;
      if (bits & 32) continue;
      if (bits & 16) value -= 2 ** shift;
      numbers.push(value + (numbers.length > 2 ? numbers.at(-2) : 0));
      value = shift = 0;
    }
    return numbers;
  }

  function ofRuns({ counts, size: [height, width] }) {
    const numbers = typeof counts === "string" ? decoded(counts) : counts, found = new Uint8Array(width * height);
    let at = 0;
    numbers.forEach((count, k) => {
      for (const stop = at + count; at < stop; at++) {
        if (k % 2 === 1) found[(at % height) * width + Math.floor(at / height)] = 255;
      }
    });
    return found;
  }

  // The pixels whose centre is inside of a ring, by the even-odd rule.
  function ofRings(rings, width, height) {
    const found = new Uint8Array(width * height);
    for (const ring of rings) {
      for (let row = 0; row < height; row++) {
        const y = row + 0.5, crossings = [];
        ring.forEach(([x1, y1], k) => {
          const [x2, y2] = ring[(k + 1) % ring.length];
          if (y1 <= y !== y2 <= y) crossings.push(x1 + ((y - y1) * (x2 - x1)) / (y2 - y1));
        });
        const edges = crossings.map((x) => Math.min(Math.max(Math.ceil(x - 0.5), 0), width)).sort((a, b) => a - b);
        for (let k = 0; k + 1 < edges.length; k += 2) {
          found.fill(255, row * width + edges[k], row * width + edges[k + 1]);
        }
      }
    }
    return found;
  }

  const ofBox = ([x1, y1, x2, y2], width, height) =>
    ofRings([[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]], width, height);

  // The mask of an object as bytes, row by row: of its shape, or of its box if that is all that is told.
  function mask(shape, box, width, height) {
    if (!shape) return ofBox(box, width, height);
    return shape.rings ? ofRings(shape.rings, width, height) : ofRuns(shape);
  }

  // x1 y1 x2 y2 around a shape.
  function boxOf(shape) {
    const points = shape.rings ? shape.rings.flat() : [];
    if (!shape.rings) {
      const [height, width] = shape.size, pixels = ofRuns(shape);
      pixels.forEach((inside, at) => {
        const x = at % width, y = Math.floor(at / width);
        if (inside) points.push([x, y], [x + 1, y + 1]);
      });
      if (points.length === 0 || height === 0) return [0, 0, 0, 0];
    }
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [x, y] of points) {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
    return box;
  }

  return { mask, boxOf, decoded };
})();
