"use strict";

// Files that are given to the page -> pictures and their objects, or a draw that was saved. Nothing leaves the page.
const Files = (() => {
  const { refuse, Unusable } = Labels;
  const PICTURES = /\.(png|jpe?g|webp|bmp|gif|avif)$/i;
  const LABELS = /\.(json|txt|xml|ya?ml)$/i;
  const NAMES = /^(classes\.txt|.*\.ya?ml)$/i;
  const LARGEST = 1 << 26; // bytes of a label file
  const MOST = 200; // pictures at once
  const COUNTERPARTS = new Map([["images", "labels"], ["JPEGImages", "Annotations"]]); // of pictures, and of their labels
  const paths = new WeakMap(); // of files that were in a folder

  const pathOf = (file) => paths.get(file) ?? (file.webkitRelativePath || file.name);
  const stem = (path) => path.replace(/\.[^./]*$/, "");
  const nameOf = (path) => path.split("/").pop();

  function kept(file, path) {
    paths.set(file, path);
    return [file];
  }

  // The files of a folder: by its handle, for in a page that is a file Chromium lets no entry be read,
  async function filesOfHandle(handle, path) {
    if (handle.kind === "file") return kept(await handle.getFile(), path);
    const inside = [];
    for await (const each of handle.values()) inside.push(...(await filesOfHandle(each, `${path}/${each.name}`)));
    return inside;
  }

  // and elsewhere by its entry, which tells a hundred at a time.
  async function filesOfEntry(entry, path) {
    if (entry.isFile) return kept(await new Promise((...done) => entry.file(...done)), path);
    const reader = entry.createReader(), inside = [];
    for (;;) {
      const some = await new Promise((...done) => reader.readEntries(...done));
      if (some.length === 0) return inside;
      for (const each of some) inside.push(...(await filesOfEntry(each, `${path}/${each.name}`)));
    }
  }

  // The files of what is dropped, with those of its folders. To be called in the event, which knows them no longer.
  async function dropped({ items }) {
    const found = [...items].filter(({ kind }) => kind === "file").map(async (item) => {
      const entry = item.webkitGetAsEntry?.();
      if (!entry?.isDirectory) return [item.getAsFile()];
      const handle = item.getAsFileSystemHandle?.();
      return handle ? filesOfHandle(await handle, entry.name) : filesOfEntry(entry, entry.name);
    });
    return (await Promise.all(found)).flat().sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1));
  }

  async function textOf(file) {
    if (file.size > LARGEST) refuse(`labels of more than ${LARGEST >> 20} MB`);
    return (await file.text()).replace(/^\ufeff/, "");
  }

  // Where labels may lie that are of a picture by their place: beside it, or in the folder that goes with its own.
  function placesOf(path) {
    const parts = path.split("/"), at = parts.findLastIndex((part, k) => k < parts.length - 1 && COUNTERPARTS.has(part));
    return [path, ...(at < 0 ? [] : [parts.with(at, COUNTERPARTS.get(parts[at])).join("/")])].map(stem);
  }

  const onlyOne = (found) => (found.length > 1 ? refuse("more than one label file that fits") : (found[0] ?? null));

  // A function that finds what reads the objects of a picture, of the label files beside it; and the draws among these.
  async function readersOf(files, say) {
    const lists = [], single = [], draws = [];
    const named = files.find(({ name }) => NAMES.test(name));
    const names = named ? Labels.namesOf(named.name, await textOf(named)) : { classes: new Map(), keypoints: 0 };
    if (named && names.classes.size === 0) say(`${named.name}: no names of classes that this page can read`);
    for (const file of files.filter(({ name }) => !NAMES.test(name))) {
      try {
        const { name } = file, text = await textOf(file), path = stem(pathOf(file));
        const told = /\.json$/i.test(name) ? Labels.parsed(text) : null;
        if (told !== null && Takeaway.isDraw(told)) draws.push({ name, told });
        else if (told !== null) lists.push({ name, read: Labels.coco(told) });
        else single.push({ name, path, read: /\.xml$/i.test(name) ? Labels.voc(text) : Labels.yolo(text, names) });
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        say(`${file.name}: ${error.message}`);
      }
    }
    function readerFor(picture) {
      const places = placesOf(picture), name = nameOf(places[0]);
      const near = single.filter(({ path }) => places.includes(path));
      const own = onlyOne(near.length > 0 ? near : single.filter(({ path }) => nameOf(path) === name));
      const about = lists.length > 1 ? lists.filter(({ read }) => read.fits(picture)) : lists;
      return own ?? onlyOne(about);
    }
    return { readerFor, draws };
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

  // The pictures among some files, with the objects that the others tell, and the saved draws among them; `say` is told
  // of what is left out.
  async function read(given, say) {
    const files = given.filter((file) => !/(^|\/)\./.test(pathOf(file))); // hidden ones are none of ours
    const pictures = files.filter(({ name }) => PICTURES.test(name)), added = [];
    const labels = files.filter(({ name }) => LABELS.test(name));
    for (const file of files) {
      if (!pictures.includes(file) && !labels.includes(file)) say(`${file.name}: neither a picture nor labels`);
    }
    const { readerFor, draws } = await readersOf(labels, say);
    if (pictures.length + draws.length === 0) {
      say("No picture among these files: drop pictures together with their labels");
    }
    if (pictures.length > MOST) say(`The first ${MOST} of ${pictures.length} pictures`);
    for (const file of pictures.slice(0, MOST)) {
      try {
        const path = pathOf(file), size = await sizeOf(file), reader = readerFor(path);
        if (reader === null) {
          refuse("no labels among these files: COCO JSON, or YOLO txt or Pascal VOC XML of the same name");
        }
        const note = (k, text) => say(`${reader.name}, object ${k + 1}: ${text}`);
        const found = reader.read(path, size, note), column = (name) => found.map((object) => object[name]);
        const shapes = found.some(({ shape }) => shape) ? column("shape") : null;
        const told = { name: file.name, ...size, boxes: column("box"), labels: column("label"), shapes };
        added.push(Pictures.add(told, file));
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        say(`${file.name}: ${error.message}`);
      }
    }
    return { added, draws };
  }

  return { dropped, read };
})();
