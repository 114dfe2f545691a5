"use strict";

// Label files -> the objects of pictures: COCO JSON, YOLO txt and Pascal VOC XML, by the rules of `readers.py`. Each
// form makes of a text a function of a picture's name, its size, and whom to tell of objects that are left out.
const Labels = (() => {
  const FAR = 1e7; // pixels; numbers beyond are none of a picture
  const ROUNDING = 1; // pixels that boxes may stick out of their picture without a note: tools round
  const OBJECT = "object"; // what is of no class
  const DECIMAL = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i; // and nothing else that JavaScript reads as a number

  // Why something is left out, as a noun.
  class Unusable extends Error {}

  const refuse = (reason) => {
    throw new Unusable(reason);
  };

  function number(value, what) {
    const isText = typeof value === "string" && DECIMAL.test(value.trim());
    const found = typeof value === "number" || isText ? Number(value) : NaN;
    return Math.abs(found) < FAR ? found : refuse(`${what} of which something is no number`);
  }
  const numbers = (values, what) => values.map((value) => number(value, what));

  function checkSize(told, size, from) {
    for (const side of ["width", "height"]) {
      if (told[side] == null || told[side] === "") continue;
      const value = number(told[side], `a ${side}`); // some tools write 0
      if (value === size[side] || value === 0) continue;
      refuse(`the picture's upright ${side} is ${size[side]}, but ${from} says ${value}`);
    }
  }

  // An object with its box cut to the picture.
  function kept(found, { width, height }, note) {
    const [x1, y1, x2, y2] = found.box;
    if (!(x2 > x1 && y2 > y1)) refuse("a box without area");
    const inside = [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, width), Math.min(y2, height)];
    if (!(inside[2] > inside[0] && inside[3] > inside[1])) refuse("a box beside its picture");
    const sticksOut = inside.some((edge, k) => Math.abs(edge - found.box[k]) > ROUNDING);
    if (sticksOut) note("a box that sticks out, cut to the picture");
    return { ...found, box: inside };
  }

  // Each of some rows that can be used.
  function usable(rows, read, size, note) {
    const found = [];
    rows.forEach((row, k) => {
      try {
        const object = read(row, k);
        if (object && !object.crowd) found.push(kept(object, size, (text) => note(k, text)));
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        note(k, `left out: ${error.message}`);
      }
    });
    return found;
  }

  // COCO JSON

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const idOf = (value) => {
    if (typeof value === "string") return /^\s*[-+]?\d+\s*$/.test(value) ? Number(value) : value;
    return Number.isInteger(value) ? value : null;
  };
  const partsOf = (name) => {
    const parts = name.normalize("NFC").replaceAll("\\", "/").split("/");
    return parts.filter((part) => part !== "" && part !== ".");
  };
  // How many parts the ends of two paths have in common.
  function commonEnd(one, other) {
    let count = 0;
    while (count < Math.min(one.length, other.length) && one.at(-1 - count) === other.at(-1 - count)) count++;
    return count;
  }

  function ring(part) {
    const isNumber = (value) => typeof value === "number" && Math.abs(value) < FAR;
    if (!Array.isArray(part) || part.length % 2 !== 0 || !part.every(isNumber)) {
      refuse("a polygon that is no list of numbers x, y, x, y, ...");
    }
    return part.length < 6 ? null : part.flatMap((x, k) => (k % 2 === 0 ? [[x, part[k + 1]]] : []));
  }

  function shapeOf(told, { width, height }) {
    if (told == null || (Array.isArray(told) && told.length === 0)) return null;
    if (Array.isArray(told)) {
      const rings = told.map(ring).filter((each) => each !== null);
      return rings.length > 0 ? { rings } : null;
    }
    if (!isObject(told)) refuse("a segmentation that is neither polygons nor run lengths");
    const { size, counts } = told;
    const sized = Array.isArray(size) && size.length === 2 && size.every((side) => Number.isInteger(side) && side > 0);
    if (!sized) refuse("run lengths without a size");
    let runs = counts;
    try {
      if (typeof counts === "string") runs = Shapes.decoded(counts);
    } catch {
      runs = null;
    }
    const whole = Array.isArray(runs) && runs.every((count) => Number.isInteger(count) && count >= 0);
    if (!whole || runs.reduce((sum, count) => sum + count, 0) !== size[0] * size[1]) {
      refuse("run lengths that do not fit their size");
    }
    if (size[0] !== height || size[1] !== width) refuse("run lengths of a picture of another size");
    return { counts: runs, size };
  }

  // From parsed JSON. The function tells, too, whether a picture `fits`: whether it has one entry.
  function coco(data) {
    const rows = {};
    for (const name of ["images", "annotations", "categories"]) {
      rows[name] = isObject(data) ? (data[name] ?? (name === "categories" ? [] : null)) : null;
      if (Array.isArray(rows[name]) && rows[name].every(isObject)) continue;
      refuse(`not COCO JSON: expected an object with ${name}, a list of objects`);
    }
    const named = rows.categories.filter(({ name }) => name != null);
    const names = new Map(named.map(({ id, name }) => [idOf(id), String(name)]));
    const entries = rows.images.filter(({ file_name: name }) => typeof name === "string");
    const byName = Map.groupBy(entries, ({ file_name: name }) => partsOf(name).at(-1));
    const byId = Map.groupBy(rows.images, ({ id }) => idOf(id));
    const about = Map.groupBy(rows.annotations, (row) => idOf(row.image_id));
    // Those that have most of the end of a picture's path.
    function entriesOf(path) {
      const own = partsOf(path), named = byName.get(own.at(-1)) ?? [];
      const scores = named.map(({ file_name: name }) => commonEnd(own, partsOf(name))), best = Math.max(...scores);
      return named.filter((_, k) => scores[k] === best);
    }
    const read = (picture, size, note) => {
      const found = entriesOf(picture);
      if (found.length !== 1) refuse(`${found.length || "no"} entries with this file_name`);
      const [entry] = found, id = idOf(entry.id);
      checkSize(entry, size, "the JSON");
      if (id === null || byId.get(id).length > 1) refuse("an entry without an id of its own");
      return usable(about.get(id) ?? [], (row, k) => {
        let shape = null;
        try {
          shape = shapeOf(row.segmentation, size);
        } catch (error) {
          if (!(error instanceof Unusable)) throw error;
          note(k, `shape left out: ${error.message}`);
        }
        let box = null;
        if (row.bbox == null && shape !== null) box = Shapes.boxOf(shape);
        else if (Array.isArray(row.bbox) && row.bbox.length === 4) {
          const [x, y, w, h] = numbers(row.bbox, "a bbox");
          box = [x, y, x + w, y + h];
        } else refuse("no bbox x y w h, and no segmentation");
        const category = row.category_id;
        const label = category == null ? OBJECT : (names.get(idOf(category)) ?? `class ${category}`);
        return { box, label, shape, crowd: Boolean(number(row.iscrowd || 0, "an iscrowd")) };
      }, size, note);
    };
    return Object.assign(read, { fits: (picture) => entriesOf(picture).length === 1 });
  }

  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch (error) {
      return refuse(`not JSON (${error.message})`);
    }
  }

  // YOLO txt

  // `names`: of the classes, and how many numbers keypoints after a box are.
  const yolo = (text, { classes, keypoints }) => (picture, size, note) => usable(text.split(/\r\n|\r|\n/), (line) => {
    if (line.trim() === "") return null;
    const [kind, ...shares] = numbers(line.trim().split(/\s+/), "a line");
    if (kind < 0 || !Number.isInteger(kind)) refuse("a class that is no whole number");
    const label = classes.get(kind) ?? `class ${kind}`, count = shares.length;
    const isBox = count === 4 || count === 5 || (keypoints > 0 && count === 4 + keypoints); // 5: how sure a model is
    if (!isBox && !(count >= 6 && count % 2 === 0)) {
      refuse(`${1 + count} numbers, where a box has 5, and a polygon an odd number from 7 on`);
    }
    if (isBox) shares.length = 4;
    if (shares.some((share) => Math.abs(share) > 2)) refuse("numbers that are no shares of the picture");
    const { width, height } = size;
    if (!isBox) {
      const points = shares.flatMap((x, k) => (k % 2 === 0 ? [[x * width, shares[k + 1] * height]] : []));
      return { box: Shapes.boxOf({ rings: [points] }), label, shape: { rings: [points] } };
    }
    const [x, y, w, h] = shares.map((share, k) => share * (k % 2 === 0 ? width : height));
    return { box: [x - w / 2, y - h / 2, x + w / 2, y + h / 2], label, shape: null };
  }, size, note);

  const bare = (text) => text.trim().replace(/^(["'])(.*)\1$/, "$2");

  // What a key of data.yaml holds: the parts of a list or of a table of one level, as text.
  function listed(lines, key) {
    const at = lines.findIndex((line) => line.replace(/\s*:.*$/, "") === key);
    if (at < 0) return [];
    const below = lines.slice(at + 1), stop = below.findIndex((line) => /^[^\s\-\]}]/.test(line));
    const own = stop < 0 ? below : below.slice(0, stop), first = lines[at].slice(lines[at].indexOf(":") + 1);
    const all = [first, ...own].join(" ").trim();
    const parts = /^[[{]/.test(all) ? all.replace(/^[[{]|[\]}]$/g, "").split(",") : own;
    return parts.filter((part) => part.trim() !== "");
  }

  // The classes that data.yaml tells, and how many numbers keypoints are; or a file with a line a class.
  function namesOf(name, text) {
    const lines = text.trimEnd().split(/\r\n|\r|\n/), classes = new Map();
    if (!/\.ya?ml$/i.test(name)) {
      lines.forEach((line, k) => classes.set(k, line.trim()));
      return { classes, keypoints: 0 };
    }
    const told = lines.map((line) => line.replace(/(^|\s)#.*$/, "").trimEnd());
    for (const part of listed(told, "names")) {
      const [, key, label] = part.match(/^\s*(?:(\d+)\s*:\s|-\s+)?(.*)$/);
      classes.set(key === undefined ? classes.size : Number(key), bare(label));
    }
    const shape = listed(told, "kpt_shape").map((part) => Number(part.replace("-", "")));
    return { classes, keypoints: shape.length === 2 && shape.every(Number.isInteger) ? shape[0] * shape[1] : 0 };
  }

  // Pascal VOC XML

  const childText = (item, path) => {
    const step = (at, name) => at && [...at.children].find((child) => child.tagName === name);
    const found = path.split("/").reduce(step, item);
    return found ? found.textContent.trim() : null;
  };

  function voc(text) {
    const root = new DOMParser().parseFromString(text, "application/xml");
    if (root.getElementsByTagName("parsererror").length > 0) refuse("labels that are not XML");
    const top = root.documentElement;
    if (top.tagName !== "annotation") refuse(`labels that are not Pascal VOC XML, but ${top.tagName}`);
    const told = { width: childText(top, "size/width"), height: childText(top, "size/height") };
    return (picture, size, note) => {
      checkSize(told, size, "the XML");
      return usable([...top.getElementsByTagName("object")], (item) => {
        const words = ["xmin", "ymin", "xmax", "ymax"].map((name) => childText(item, `bndbox/${name}`));
        const [x1, y1, x2, y2] = numbers(words, "a bndbox");
        const label = (childText(item, "name") ?? "").split(/\s+/).join(" ") || OBJECT;
        return { box: [x1 - 1, y1 - 1, x2, y2], label, shape: null };
      }, size, note);
    };
  }

  return { parsed, coco, yolo, voc, namesOf, refuse, Unusable };
})();
