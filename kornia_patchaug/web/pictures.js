"use strict";

// The pictures of the page: {name, width, height, boxes, labels, shapes, blob}; decoded only when they are looked at.
const Pictures = (() => {
  const MANY = 12; // objects from which on colours and numbers are those of classes

  const given = JSON.parse(document.getElementById("given").textContent);

  function embedded(id) {
    const [head, data] = JSON.parse(document.getElementById(id).textContent).split(",");
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return new Blob([bytes], { type: head.slice("data:".length).split(";")[0] });
  }

  const numbers = new Map(); // of classes, the same in all pictures
  const byClass = given.pictures.some(({ labels }) => labels.length > MANY);

  // By which number each object is known: its own, or where there are many that of its class.
  function kindsOf(labels) {
    for (const label of labels) if (!numbers.has(label)) numbers.set(label, numbers.size);
    return labels.map((label, n) => (byClass || labels.length > MANY ? numbers.get(label) : n));
  }

  const entryOf = (told, key, blob) => ({ ...told, key, blob, kinds: kindsOf(told.labels), noise: { key: "" } });

  const all = given.pictures.map((told, k) => entryOf(told, String(k), () => embedded(`picture-${k}`)));

  // As Python has them: no colour is managed, what lies down is turned up, what is not opaque lies over white.
  const DECODING = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };

  // A scene of a picture of no more than so many pixels; thetas do not change with its size, boxes do.
  async function open(entry, most = Infinity) {
    const share = Math.min(1, Math.sqrt(most / (entry.width * entry.height)));
    const [width, height] = [entry.width, entry.height].map((side) => Math.max(1, Math.round(side * share)));
    const smaller = share < 1 ? { resizeWidth: width, resizeHeight: height, resizeQuality: "high" } : {};
    const bitmap = await createImageBitmap(entry.blob(), { ...DECODING, ...smaller });
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const { data } = context.getImageData(0, 0, width, height);
    const ratio = [width / entry.width, height / entry.height];
    const objects = entry.boxes.map((box, n) => ({
      box: box.map((edge, k) => edge * ratio[k % 2]),
      mask: entry.shapes && reduced(Shapes.mask(entry.shapes[n], box, entry.width, entry.height), entry, width, height),
    }));
    return Scene.open(Scene.picture(data, width, height), objects);
  }

  function reduced(mask, entry, width, height) {
    if (width === entry.width && height === entry.height) return mask;
    const found = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(((y + 0.5) * entry.height) / height) * entry.width;
      for (let x = 0; x < width; x++) found[y * width + x] = mask[row + Math.floor(((x + 0.5) * entry.width) / width)];
    }
    return found;
  }

  function add(told, blob) {
    const entry = entryOf(told, `own ${all.length}`, () => blob);
    all.push(entry);
    return entry;
  }

  const classes = () => [...numbers.keys()];

  return { given, all, add, open, classes, MANY };
})();
