"use strict";

// The dialog of one object: before and after at full size; dragged, turned and scaled by handles, fields and keys.
const Editor = (() => {
  const { make } = Cards;
  const LEAST = 0.02, MOST = 50; // scales
  const LARGE = 1 << 22, ROUGH = 1 << 20; // pixels from where on what changes is painted of fewer first, and of how many
  const SETTLED = 200; // milliseconds without a change until all are painted
  const isFinger = matchMedia("(pointer: coarse)").matches;
  const KNOB = 34, REACH = isFinger ? 11 : 7; // pixels of the window: from the object to the knob, and half a handle
  const TURNS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  const MOVES = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const FIELDS = [
    ["angle", "degrees", 1, 1], ["x", "shift x, px", 1, 1], ["y", "shift y, px", 1, 1],
    ["scaleX", "scale x", 0.01, 3], ["scaleY", "scale y", 0.01, 3], ["shear", "shear", 1, 1],
  ];
  const $ = (id) => document.getElementById(id);
  const dialog = $("editor"), after = $("after"), before = $("before"), handles = $("handles"), zoomed = $("zoom");
  let entry = null, n = 0, scene = null, frame = 0, held = null;
  let latest = null, leader = null; // the picture that is opened, and the pane that is slid
  let rough = null, settling = 0; // the scene of fewer pixels
  const draft = document.createElement("canvas");

  const svg = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    handles.append(element);
    return element;
  };
  const label = svg("polygon", { class: "label" });
  const halo = svg("polygon", { class: "halo" });
  const ring = svg("polygon", { class: "ring" });
  const stem = svg("line", { class: "stem" });
  const focusable = { tabindex: 0 };
  const body = svg("polygon", { class: "body", role: "button", "aria-label": "Move", ...focusable });
  const slider = (name) => ({ class: "handle", role: "slider", "aria-label": name, "aria-valuemin": 0, ...focusable });
  const corners = [0, 1, 2, 3].map((k) => svg("rect", k === 2 ? slider("Scale") : { class: "handle" }));
  const sides = ["Scale x", "Scale y"].map((name) => svg("rect", { ...slider(name), class: "handle side" }));
  const knob = svg("circle", { ...slider("Turn"), class: "handle knob", "aria-valuemin": -180, "aria-valuemax": 180 });

  const fields = new Map(FIELDS.map(([name, text, step]) => {
    const input = make("input", { type: "number", step: String(step), id: `pose-${name}` });
    input.addEventListener("input", () => {
      if (Number.isFinite(input.valueAsNumber)) hold({ [name]: input.valueAsNumber });
    });
    input.addEventListener("change", show);
    $("pose").append(make("label", {}, make("span", { textContent: text }), input));
    return [name, input];
  }));

  const box = () => entry.boxes[n];
  const theta = () => State.thetasOf(entry).slice(6 * n, 6 * n + 6);
  const still = { angle: 0, x: 0, y: 0, scaleX: 1, scaleY: 1, shear: 0 };
  const pose = () => Pose.of(box(), theta()) ?? still;
  const centre = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];

  // Pin the object with some of its pose changed.
  function hold(changes) {
    const next = { ...pose(), ...changes };
    for (const name of ["scaleX", "scaleY"]) next[name] = Math.min(Math.max(next[name], LEAST), MOST);
    next.shear = Math.min(Math.max(next.shear, -89), 89);
    State.pin(entry, n, Pose.theta(box(), next));
  }

  // Painting

  const zoom = () => Number(after.dataset.zoom);

  function fit() {
    if (!scene) return;
    const pane = after.parentElement.parentElement, room = 2 * after.parentElement.clientLeft;
    const fitting = Math.min((pane.clientWidth - room) / scene.width, (pane.clientHeight - room) / scene.height);
    const chosen = zoomed.value === "fit" ? Math.max(fitting, 0.05) : Number(zoomed.value);
    for (const canvas of [before, after]) {
      canvas.dataset.zoom = String(chosen);
      canvas.style.width = `${scene.width * chosen}px`;
      canvas.style.height = `${scene.height * chosen}px`;
      canvas.classList.toggle("large", chosen >= 3);
    }
    handles.setAttribute("viewBox", `0 0 ${scene.width} ${scene.height}`);
    show();
  }

  // Both panes show the middle of the object.
  function centred() {
    leader = null;
    const [x, y] = centre(box());
    for (const canvas of [before, after]) {
      const pane = canvas.parentElement.parentElement, margin = canvas.parentElement.clientLeft;
      pane.scrollLeft = x * zoom() + margin - pane.clientWidth / 2;
      pane.scrollTop = y * zoom() + margin - pane.clientHeight / 2;
    }
  }

  async function open(chosen, object) {
    [entry, n, scene, rough] = [chosen, object, null, null];
    if (!dialog.open) dialog.showModal();
    say();
    const isLarge = entry.width * entry.height > LARGE;
    const opening = Promise.all([Pictures.open(entry), isLarge ? Pictures.open(entry, ROUGH) : null]);
    latest = opening;
    const found = await opening.catch(() => null);
    if (latest !== opening || !dialog.open || found === null) return; // its card says if it cannot be read
    [scene, rough] = found;
    for (const canvas of [before, after]) {
      canvas.width = scene.width;
      canvas.height = scene.height;
    }
    zoomed.value = "fit";
    fit();
    if (zoom() < 1) zoomed.value = "1"; // at full size, or larger
    fit();
    outlineBefore();
    paint();
    centred();
    body.focus({ preventScroll: true });
  }

  function paint() {
    frame = 0;
    if (!scene || !dialog.open) return;
    const bytes = Scene.render(scene, State.thetasOf(entry), State.optionsFor(entry));
    after.getContext("2d").putImageData(new ImageData(bytes, scene.width, scene.height), 0, 0);
    show();
  }

  // A large picture as far as it can follow a hand; all of it once that rests.
  function sketch() {
    frame = 0;
    if (!scene || !dialog.open) return;
    const bytes = Scene.render(rough, State.thetasOf(entry), State.optionsFor(entry));
    [draft.width, draft.height] = [rough.width, rough.height];
    draft.getContext("2d").putImageData(new ImageData(bytes, rough.width, rough.height), 0, 0);
    after.getContext("2d").drawImage(draft, 0, 0, scene.width, scene.height);
    show();
    clearTimeout(settling);
    settling = setTimeout(paint, SETTLED);
  }

  function outlineBefore() {
    const context = before.getContext("2d"), [x0, y0, x1, y1] = box();
    context.putImageData(new ImageData(scene.picture.bytes, scene.width, scene.height), 0, 0);
    for (const [colour, width] of [["#101014", 3.5], [Marks.colourOf(entry.kinds[n]), 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width / zoom();
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }

  const points = (some) => some.map((point) => point.join(",")).join(" ");

  // Handles and fields, of the pose as it is.
  function show() {
    if (!scene) return;
    const current = theta(), outline = Scene.outline(box(), current), now = pose(), unit = 1 / zoom();
    handles.style.setProperty("--colour", Marks.colourOf(entry.kinds[n]));
    handles.toggleAttribute("hidden", outline === null);
    if (outline) {
      const options = State.optionsFor(entry), moved = outline.corners;
      const seen = points(options.matte === "ellipse" ? outline.ellipse : moved);
      for (const shape of [halo, ring]) shape.setAttribute("points", seen);
      body.setAttribute("points", points(moved));
      body.setAttribute("aria-label", `Move ${entry.labels[n]}: drag, or arrow keys, ten pixels with Shift`);
      const [x0, y0, x1, y1] = Scene.labelBox(entry, box(), current, options);
      label.setAttribute("points", State.now.labels ? points([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) : "");
      const side = 2 * REACH * unit, middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      const put = (rect, [x, y]) => {
        const at = { x: x - side / 2, y: y - side / 2, width: side, height: side, rx: side / 5 };
        for (const [name, value] of Object.entries(at)) rect.setAttribute(name, value);
      };
      corners.forEach((rect, k) => put(rect, moved[k]));
      put(sides[0], middle(moved[1], moved[2]));
      put(sides[1], middle(moved[2], moved[3]));
      const top = middle(moved[0], moved[1]), bottom = middle(moved[2], moved[3]);
      const long = Math.hypot(top[0] - bottom[0], top[1] - bottom[1]) || 1;
      const at = [0, 1].map((k) => top[k] + ((top[k] - bottom[k]) / long) * KNOB * unit);
      for (const [k, name] of ["x", "y"].entries()) {
        stem.setAttribute(`${name}1`, top[k]);
        stem.setAttribute(`${name}2`, at[k]);
        knob.setAttribute(`c${name}`, at[k]);
      }
      knob.setAttribute("r", REACH * unit);
      knob.setAttribute("aria-valuenow", now.angle.toFixed(1));
      const mean = Math.sqrt(Math.abs(now.scaleX * now.scaleY));
      for (const [handle, value] of [[corners[2], mean], [sides[0], now.scaleX], [sides[1], now.scaleY]]) {
        handle.setAttribute("aria-valuenow", value.toFixed(2));
      }
    }
    for (const [name, , , digits] of FIELDS) {
      const input = fields.get(name);
      if (input !== document.activeElement || held) input.value = String(Number(now[name].toFixed(digits)));
    }
    say();
  }

  function say() {
    const pinned = State.pinned(entry, n) !== undefined, shares = Cards.sharesOf(entry);
    $("editor-title").textContent = `${n + 1} ${entry.labels[n]}`;
    const seen = shares ? `, ${Cards.percent(shares[n])} visible` : "";
    $("editor-facts").textContent = `${entry.name}, object ${n + 1} of ${entry.boxes.length}${seen}`;
    $("pin").checked = pinned;
  }

  // Hands

  const at = (event) => {
    const matrix = handles.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return [x, y];
  };

  // What a handle does with where it was taken and where it is now.
  const from = ([x, y], { middle }) => [x - middle[0], y - middle[1]];
  function turned(start, point, step) {
    const [one, other] = [start.point, point].map((each) => from(each, start)).map(([x, y]) => Math.atan2(y, x));
    const angle = start.pose.angle + ((other - one) * 180) / Math.PI;
    const whole = step ? Math.round(angle / 15) * 15 : angle;
    return { angle: ((((whole + 180) % 360) + 360) % 360) - 180 };
  }
  function scaled(start, point) {
    const [one, other] = [start.point, point].map((each) => Math.hypot(...from(each, start)));
    return { scaleX: (start.pose.scaleX * other) / one, scaleY: (start.pose.scaleY * other) / one };
  }
  const stretched = (name) => (start, point) => {
    const way = from(start.point, start), long = way[0] ** 2 + way[1] ** 2, now = from(point, start);
    return { [name]: Math.max((start.pose[name] * (way[0] * now[0] + way[1] * now[1])) / long, LEAST) };
  };
  const moved = (start, point) => ({
    x: start.pose.x + point[0] - start.point[0],
    y: start.pose.y + point[1] - start.point[1],
  });

  for (const [handle, change] of [
    [body, moved], [knob, turned], ...corners.map((corner) => [corner, scaled]),
    [sides[0], stretched("scaleX")], [sides[1], stretched("scaleY")],
  ]) {
    handle.addEventListener("pointerdown", (event) => {
      const now = pose(), [x, y] = centre(box());
      held = { pose: now, point: at(event), middle: [x + now.x, y + now.y] };
      handle.setPointerCapture(event.pointerId);
      (handle.hasAttribute("tabindex") ? handle : body).focus({ preventScroll: true });
      event.preventDefault();
    });
    // Or a finger slides the pane: browsers forget touch-action of what is inside of an SVG.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("pointermove", (event) => held && hold(change(held, at(event), event.shiftKey)));
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (held = null));
  }

  const onKeys = (handle, change) => handle.addEventListener("keydown", (event) => {
    if (!(event.key in TURNS)) return;
    event.preventDefault();
    hold(change(pose(), event.key, event.shiftKey ? 10 : 1));
  });
  onKeys(body, ({ x, y }, key, step) => ({ x: x + MOVES[key][0] * step, y: y + MOVES[key][1] * step }));
  onKeys(knob, ({ angle }, key, step) => ({ angle: angle + TURNS[key] * step }));
  const grown = (key, step) => 1 + 0.01 * step * TURNS[key];
  const longer = ({ scaleX }, key, step) => ({ scaleX: scaleX * grown(key, step) });
  const higher = ({ scaleY }, key, step) => ({ scaleY: scaleY * grown(key, step) });
  onKeys(corners[2], (...given) => ({ ...longer(...given), ...higher(...given) }));
  onKeys(sides[0], longer);
  onKeys(sides[1], higher);

  // Buttons

  // To the next object that is shown.
  function step(by) {
    const count = entry.boxes.length, isHidden = (k) => State.now.hidden.has(entry.labels[k]);
    let next = (n + by + count) % count;
    while (isHidden(next) && next !== n) next = (next + by + count) % count;
    open(entry, next);
  }
  $("object-previous").addEventListener("click", () => step(-1));
  $("object-next").addEventListener("click", () => step(1));
  $("pin").addEventListener("change", ({ target }) => State.pin(entry, n, target.checked ? theta() : null));
  $("unmoved").addEventListener("click", () => hold(still));
  $("copy-object").addEventListener("click", () => Ui.copy(Takeaway.thetas(entry), `the thetas of ${entry.name}`));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => ([scene, rough, held] = [null, null, null]));
  zoomed.addEventListener("change", () => {
    fit();
    outlineBefore();
    centred();
  });
  window.addEventListener("resize", () => dialog.open && fit());
  // Both panes slide together.
  const panes = [before, after].map((canvas) => canvas.parentElement.parentElement);
  panes.forEach((pane, k) => {
    for (const hand of ["pointerdown", "wheel", "keydown"]) {
      pane.addEventListener(hand, () => (leader = pane), { passive: true });
    }
    pane.addEventListener("scroll", () => {
      const other = panes[1 - k];
      if (leader !== pane) return; // the other moved it
      other.scrollLeft = pane.scrollLeft + (pane.clientWidth - other.clientWidth) / 2;
      other.scrollTop = pane.scrollTop + (pane.clientHeight - other.clientHeight) / 2;
    });
  });

  State.follow(() => dialog.open && (frame ||= requestAnimationFrame(rough ? sketch : paint)));

  // Shares of a card are known.
  const told = (card) => dialog.open && card.entry === entry && say();

  return { open, told };
})();
