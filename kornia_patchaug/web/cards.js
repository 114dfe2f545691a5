"use strict";

// A card a picture: its objects as they are painted now, drawn when it is near the window, and anew with what is set.
const Cards = (() => {
  const { now } = State;
  const NEAR = "400px"; // of the window, from where on pictures are decoded
  const MOST = 1 << 20; // pixels of a picture on a card
  const GAP = 16; // pixels of the window between two cards
  const FRAME = 14; // milliseconds of painting between two frames
  const list = document.getElementById("pictures");
  const cards = new Map(), byElement = new WeakMap(); // of an entry, and of an element
  const waiting = new Set(), unseen = new Set(); // cards to be painted, and whose shares are to be found
  let comparing = false, frame = 0, first = null; // the card that goes first

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const isShown = ({ labels }) => labels.length === 0 || labels.some((label) => !now.hidden.has(label));
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const percent = (share) => `${Math.round(100 * share)}%`;

  function add(entry, before = null) {
    const { name, width, height, labels } = entry;
    const picture = make("canvas", { className: "picture", width: 1, height: 1 });
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `${name}: ${summary(entry) || "no objects"}`);
    const marks = make("canvas", { className: "marks" });
    marks.setAttribute("aria-hidden", "true");
    const stage = make("div", { className: "stage" }, picture, marks);
    stage.style.setProperty("--ratio", String(width / height));
    const copy = make("button", { className: "quiet", textContent: "copy thetas", title: "As Python, with its boxes" });
    copy.setAttribute("aria-label", `Copy the thetas of ${name}`);
    copy.addEventListener("click", () => Ui.copy(Takeaway.thetas(entry), `the thetas of ${name}`));
    const size = `${width} × ${height}`, title = make("h2", { textContent: name, title: `${name}, ${size}` });
    const facts = make("p", { className: "facts", textContent: labels.length === 0 ? `${size}, no objects` : size });
    const objects = make("ul", { className: "objects" });
    const element = make("article", { className: "card" }, stage, make("header", {}, title, facts, copy));
    const card = { entry, element, picture, marks, stage, objects };
    Object.assign(card, { opening: null, scene: null, shares: null, spots: null, chips: null, pointed: null });
    if (labels.length > Pictures.MANY) {
      const line = `${count(labels.length, "object")}: ${summary(entry)}`;
      const details = make("details", {}, make("summary", { textContent: line }), objects);
      details.addEventListener("toggle", () => details.open && fill(card));
      element.append(details);
    } else if (labels.length > 0) {
      element.append(objects);
      fill(card);
    }
    stage.addEventListener("click", (event) => pick(card, event));
    stage.addEventListener("pointermove", (event) => {
      first = card;
      stage.classList.toggle("over", objectAt(card, event) !== null);
    });
    cards.set(entry, card);
    byElement.set(element, card);
    element.hidden = !isShown(entry);
    list.insertBefore(element, before);
    watcher.observe(element);
    resizes.observe(element);
  }

  // How many objects there are of each class.
  function summary({ labels }) {
    const counts = new Map();
    for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    return [...counts].map(([label, n]) => (n === 1 ? label : `${n} ${label}`)).join(", ");
  }

  function numberOf(kind) {
    const number = make("span", { className: "number", textContent: String(kind + 1) }), colour = Marks.colourOf(kind);
    number.style.setProperty("--colour", colour);
    number.style.setProperty("--on", Marks.inkOn(colour));
    return number;
  }

  // A button an object.
  function fill(card) {
    if (card.chips) return;
    const { entry, objects } = card;
    card.chips = entry.labels.map((label, n) => {
      const share = make("span", { className: "share" });
      const name = make("span", { className: "name", textContent: label });
      const button = make("button", { className: "object" }, numberOf(entry.kinds[n]), name, share);
      button.addEventListener("click", () => Editor.open(entry, n));
      for (const [event, pointed] of [["pointerenter", n], ["pointerleave", null], ["focus", n], ["blur", null]]) {
        button.addEventListener(event, () => {
          card.pointed = pointed;
          if (card.scene) mark(card);
        });
      }
      objects.append(make("li", {}, button));
      return { button, share };
    });
    tell(card);
  }

  // What buttons say of their objects.
  function tell(card) {
    const { entry, chips, shares } = card;
    if (!chips) return;
    chips.forEach(({ button, share }, n) => {
      const seen = shares && now.shares ? percent(shares[n]) : "", pinned = State.pinned(entry, n) !== undefined;
      share.textContent = seen;
      button.classList.toggle("pinned", pinned);
      button.parentElement.hidden = now.hidden.has(entry.labels[n]);
      const parts = [`Object ${n + 1}, ${entry.labels[n]}`, seen && `${seen} visible`, pinned && "pinned"];
      button.setAttribute("aria-label", parts.filter(Boolean).join(", "));
    });
  }

  // Decoding

  const watcher = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      const card = byElement.get(target);
      if (isIntersecting) load(card);
      else unload(card);
    }
  }, { rootMargin: NEAR });
  const resizes = new ResizeObserver((changes) => {
    for (const { target } of changes) {
      const card = byElement.get(target);
      target.style.gridRowEnd = `span ${Math.ceil(target.offsetHeight) + GAP}`;
      if (card.width === target.clientWidth) continue;
      Object.assign(card, { width: target.clientWidth, spots: null });
      if (card.scene) mark(card);
    }
  });

  async function load(card) {
    if (card.opening) return;
    const opening = (card.opening = Pictures.open(card.entry, MOST));
    try {
      const scene = await opening;
      if (card.opening !== opening) return;
      card.scene = scene;
      card.picture.width = scene.width;
      card.picture.height = scene.height;
      paintSoon(card);
    } catch {
      card.stage.classList.add("failed");
      Ui.say(`${card.entry.name}: not a picture that can be read`);
    }
  }

  // What is far from the window takes no memory.
  function unload(card) {
    Object.assign(card, { opening: null, scene: null });
    waiting.delete(card);
    unseen.delete(card);
    card.element.classList.remove("drawn");
    for (const canvas of [card.picture, card.marks]) canvas.width = canvas.height = 1;
  }

  // Painting

  function paintSoon(card) {
    if (!card.scene) return;
    waiting.add(card);
    frame ||= requestAnimationFrame(work);
  }

  const inWindow = ({ stage }) => {
    const { top, bottom } = stage.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  };

  // Paint as many cards as a frame has time for: that at the pointer first, then each in its turn.
  function work() {
    const start = performance.now(), left = () => performance.now() - start < FRAME;
    frame = 0;
    const seen = [...waiting].filter(inWindow), turn = seen.length > 0 ? seen : [...waiting];
    if (seen.includes(first)) turn.unshift(...turn.splice(turn.indexOf(first), 1));
    for (const card of turn) {
      waiting.delete(card);
      paint(card);
      if (!left()) break;
    }
    while (waiting.size === 0 && unseen.size > 0 && left()) {
      const [card] = unseen;
      unseen.delete(card);
      card.shares = Scene.visibleShare(card.scene, State.thetasOf(card.entry), State.optionsFor(card.entry));
      tell(card);
      Editor.told(card);
    }
    if (waiting.size + unseen.size > 0) frame = requestAnimationFrame(work);
  }

  function paint(card) {
    const { scene, entry, picture } = card, { width, height } = scene;
    const bytes = comparing ? scene.picture.bytes : Scene.render(scene, State.thetasOf(entry), State.optionsFor(entry));
    picture.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(bytes, width, height), 0, 0);
    mark(card);
    card.element.classList.add("drawn");
    if (now.shares && !comparing) unseen.add(card);
  }

  // The points of an ellipse towards the corners around it.
  function onEllipse(corners) {
    const middle = [0, 1].map((axis) => (corners[0][axis] + corners[2][axis]) / 2);
    return corners.map((corner) => corner.map((at, axis) => middle[axis] + (at - middle[axis]) * Math.SQRT1_2));
  }

  // What is drawn over a picture whose points are `zoom` as large: the objects that are shown, as they are moved.
  function itemsOf(entry, zoom, thetas) {
    const options = State.optionsFor(entry), scaled = (points) => points.map(([x, y]) => [x * zoom[0], y * zoom[1]]);
    const isRound = options.matte === "ellipse" && thetas;
    return entry.boxes.map((box, n) => {
      if (now.hidden.has(entry.labels[n])) return null;
      const theta = thetas ? thetas.subarray(6 * n, 6 * n + 6) : [1, 0, 0, 0, 1, 0];
      const outline = Scene.outline(box, theta), label = thetas && Scene.labelBox(entry, box, theta, options);
      return {
        n,
        kind: entry.kinds[n],
        text: String(entry.kinds[n] + 1),
        corners: outline && scaled(isRound ? onEllipse(outline.corners) : outline.corners),
        ring: outline && scaled(isRound ? outline.ellipse : outline.corners),
        label: label && label.map((edge, k) => edge * zoom[k % 2]),
      };
    }).filter((item) => item !== null);
  }

  function mark(card) {
    const { entry, marks, stage } = card, size = [stage.clientWidth, stage.clientHeight], dense = devicePixelRatio || 1;
    if (size[0] === 0) return;
    const pixels = size.map((side) => Math.round(side * dense));
    if (marks.width !== pixels[0] || marks.height !== pixels[1]) [marks.width, marks.height] = pixels;
    const context = marks.getContext("2d"), zoom = [size[0] / entry.width, size[1] / entry.height];
    context.setTransform(dense, 0, 0, dense, 0, 0);
    // One choice for all frames: tags must not jump.
    card.spots ??= Marks.choose(context, itemsOf(entry, zoom, null), size);
    const items = itemsOf(entry, zoom, comparing ? null : State.thetasOf(entry));
    Marks.draw(context, items, card.spots, size, now, card.pointed);
  }

  const measure = document.createElement("canvas").getContext("2d");

  // The object at the pointer: the topmost, as small ones lie above large ones.
  function objectAt({ entry, stage }, event) {
    const { left, top, width, height } = stage.getBoundingClientRect();
    const at = [((event.clientX - left) * entry.width) / width, ((event.clientY - top) * entry.height) / height];
    const thetas = State.thetasOf(entry), area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    let found = null;
    entry.boxes.forEach((box, n) => {
      const outline = Scene.outline(box, thetas.subarray(6 * n, 6 * n + 6));
      if (!outline || now.hidden.has(entry.labels[n])) return;
      const path = new Path2D();
      outline.corners.forEach((corner, k) => path[k === 0 ? "moveTo" : "lineTo"](...corner));
      const above = found === null || (now.order === "area" ? area(box) <= area(entry.boxes[found]) : true);
      if (above && measure.isPointInPath(path, ...at)) found = n;
    });
    return found;
  }
  function pick(card, event) {
    const n = objectAt(card, event);
    if (n !== null) Editor.open(card.entry, n);
  }

  // What is set has changed.
  State.follow((name, entry) => {
    for (const card of cards.values()) {
      if (entry && card.entry !== entry) continue;
      if (name === "hidden" || name === "all") {
        card.element.hidden = !isShown(card.entry);
        card.spots = null;
      }
      if (["hidden", "shares", "pins", "all"].includes(name)) tell(card);
      paintSoon(card);
    }
  });

  function compare(wanted) {
    if (comparing === wanted) return;
    comparing = wanted;
    for (const card of cards.values()) paintSoon(card);
  }

  const sharesOf = (entry) => cards.get(entry).shares;
  const isIdle = () => waiting.size + unseen.size === 0 && frame === 0;

  return { add, compare, itemsOf, sharesOf, isIdle, make, numberOf, count, percent, isShown, list };
})();
