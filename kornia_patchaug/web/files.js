"use strict";

// Files that are dropped on the page -> pictures and their objects. Nothing leaves the page.
const Files = (() => {
  const { refuse, Unusable } = Labels;
  const PICTURES = /\.(png|jpe?g|webp|bmp|gif|avif)$/i;
  const LABELS = /\.(json|txt|xml|ya?ml)$/i;
  const LARGEST = 1 << 26; // bytes of a label file

  const stem = (name) => name.replace(/\.[^.]*$/, "");
  async function textOf(file) {
    if (file.size > LARGEST) refuse(`labels of more than ${LARGEST >> 20} MB`);
    return (await file.text()).replace(/^\ufeff/, "");
  }

  function readerOf({ name }, text, names) {
    if (/\.json$/i.test(name)) return Labels.coco(text);
    return /\.xml$/i.test(name) ? Labels.voc(text) : Labels.yolo(text, names);
  }

  // A function that reads the objects of a picture from the label files beside it, each of which is looked at once.
  async function readersOf(files, say) {
    const some = [], byStem = new Map();
    const named = files.find(({ name }) => /^(classes\.txt|.*\.ya?ml)$/i.test(name));
    const names = named ? Labels.namesOf(named.name, await textOf(named)) : { classes: new Map(), keypoints: 0 };
    for (const file of files.filter((each) => each !== named)) {
      try {
        const reader = { name: file.name, read: readerOf(file, await textOf(file), names) };
        if (/\.json$/i.test(file.name)) some.push(reader);
        else byStem.set(stem(file.name), reader);
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        say(`${file.name}: ${error.message}`);
      }
    }
    return (picture) => byStem.get(stem(picture)) ?? some[0] ?? null;
  }

  async function sizeOf(file) {
    try {
      const bitmap = await createImageBitmap(file), { width, height } = bitmap;
      bitmap.close();
      return { width, height };
    } catch {
      return refuse("not a picture that can be read");
    }
  }

  // The pictures among some files, with the objects that the others tell; `say` is told of what is left out.
  async function read(files, say) {
    const pictures = files.filter(({ name }) => PICTURES.test(name)), added = [];
    const labels = files.filter(({ name }) => LABELS.test(name));
    for (const file of files) {
      if (!pictures.includes(file) && !labels.includes(file)) say(`${file.name}: neither a picture nor labels`);
    }
    const readerFor = await readersOf(labels, say);
    if (pictures.length === 0) say("No picture among these files: drop pictures together with their labels");
    for (const file of pictures) {
      try {
        const size = await sizeOf(file), reader = readerFor(file.name);
        if (reader === null) {
          refuse("no labels among these files: COCO JSON, or YOLO txt or Pascal VOC XML of the same name");
        }
        const note = (k, text) => say(`${reader.name}, object ${k + 1}: ${text}`);
        const found = reader.read(file.name, size, note), column = (name) => found.map((object) => object[name]);
        const shapes = found.some(({ shape }) => shape) ? column("shape") : null;
        const told = { name: file.name, ...size, boxes: column("box"), labels: column("label"), shapes };
        added.push(Pictures.add(told, file));
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        say(`${file.name}: ${error.message}`);
      }
    }
    return added;
  }

  return { read };
})();
