"use strict";

// The controls around the pictures.
const Ui = (() => {
  const { now } = State, { make, count } = Cards;
  const $ = (id) => document.getElementById(id);
  // Of each number: its range, which of two it is, its name, and the slider's ends and steps.
  const DIALS = [
    ["degrees", null, "degrees", 0, 180, 1],
    ["translate", 0, "translate x", 0, 1, 0.01],
    ["translate", 1, "translate y", 0, 1, 0.01],
    ["scale", 0, "scale from", 0.1, 3, 0.01],
    ["scale", 1, "scale to", 0.1, 3, 0.01],
    ["shear", null, "shear", 0, 60, 1],
  ];
  const LOGGED = 200; // lines
  let ofClass = null; // whose ranges are set; null: of all

  function say(text) {
    const log = $("log");
    log.append(make("li", { textContent: text }));
    while (log.children.length > LOGGED) log.firstChild.remove();
    $("log-box").hidden = false;
    log.scrollTop = log.scrollHeight;
  }

  function toast(text) {
    $("toast").showPopover(); // above a dialog
    $("toast").textContent = text;
    clearTimeout(toast.timer);
    toast.timer = setTimeout(() => $("toast").hidePopover(), 2500);
  }

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied ${what}`);
    } catch { // not allowed: then by hand
      $("by-hand-text").value = text;
      $("by-hand").showModal();
      $("by-hand-text").select();
    }
  }

  function save(text, name) {
    const file = new Blob([text], { type: "application/json" });
    const link = make("a", { href: URL.createObjectURL(file), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    toast(`Saved ${name}`);
  }

  // A slider and a field of the same number; returns what shows how it is set. While it is typed it is written only
  // where it `fits`: its first digits may not be meant.
  function dial(place, id, text, [first, last, step], limits, read, write, fits = () => true) {
    const slider = make("input", { type: "range", id, min: first, max: Math.max(last, read()), step: String(step) });
    const field = make("input", { type: "number", min: limits[0], max: limits[1], step: "any" });
    field.setAttribute("aria-label", `${text}, exactly`);
    slider.addEventListener("input", () => write(slider.valueAsNumber));
    field.addEventListener("input", () => {
      const number = field.valueAsNumber;
      if (number >= limits[0] && number <= limits[1] && fits(number)) write(number);
    });
    field.addEventListener("change", () => {
      if (Number.isFinite(field.valueAsNumber)) write(field.valueAsNumber);
      field.value = String(read());
    });
    const label = make("label", { htmlFor: id, textContent: text });
    place.append(make("div", { className: "dial" }, label, slider, field));
    return () => {
      slider.value = String(read());
      const part = (slider.valueAsNumber - first) / (slider.max - first);
      slider.style.setProperty("--part", `${100 * part}%`);
      if (document.activeElement !== field) field.value = String(read());
    };
  }

  const shown = []; // functions that show what is set

  for (const [name, part, text, ...slider] of DIALS) {
    const value = () => State.rangesOf(ofClass)[name];
    const read = () => (part === null ? value() : value()[part]);
    const write = (number) => {
      if (part === null) return State.setRange(name, number, ofClass);
      const both = [...value()];
      both[part] = number;
      if (name === "scale" && both[0] > both[1]) both[1 - part] = number;
      return State.setRange(name, both, ofClass);
    };
    const fits = (number) => name !== "scale" || (part === 0 ? number <= value()[1] : number >= value()[0]);
    shown.push(dial($("dials"), text.replace(" ", "-"), text, slider, State.LIMITS[name], read, write, fits));
  }
  const unit = [0, 1, 0.01];
  const setWithin = (name) => (value) => State.set(name, State.within(name, value));
  const grey = () => (typeof now.fill === "number" ? now.fill : 0.5), { feather, fill } = State.LIMITS;
  shown.push(dial($("feather-dial"), "feather", "feather", unit, feather, () => now.feather, setWithin("feather")));
  shown.push(dial($("grey-dial"), "grey", "grey", unit, fill, grey, setWithin("fill")));

  for (const name of ["padding_mode", "matte", "order"]) {
    $(name).append(...State.WORDS[name].map((word) => make("option", { value: word, textContent: word })));
    $(name).addEventListener("change", ({ target }) => State.set(name, target.value));
    shown.push(() => ($(name).value = now[name]));
  }
  for (const name of ["clip", "outlines", "labels", "shares"]) {
    $(name).addEventListener("change", ({ target }) => State.set(name, target.checked));
    shown.push(() => ($(name).checked = now[name]));
  }
  $("fill").addEventListener("change", ({ target }) => State.set("fill", target.value === "grey" ? 0.5 : target.value));
  shown.push(() => {
    $("fill").value = typeof now.fill === "number" ? "grey" : now.fill;
    $("grey-dial").hidden = typeof now.fill !== "number";
    $("feather-dial").hidden = now.matte === "none";
    $("padding_mode").disabled = !now.clip;
    $("padding-note").hidden = now.clip;
    $("matte-note").hidden = now.matte !== "mask" || Pictures.all.every(({ shapes }) => shapes);
  });

  // Seeds and draws

  function drawAnew() {
    const [seed] = crypto.getRandomValues(new Uint32Array(1));
    now.draw = 1;
    State.set("seed", String(seed % 1_000_000));
  }
  const step = (by) => State.set("draw", Math.min(Math.max(now.draw + by, 1), State.draws));
  $("redraw").addEventListener("click", drawAnew);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("seed").addEventListener("input", ({ target }) => {
    const fits = State.isSeed(target.value);
    target.setCustomValidity(fits ? "" : "a whole number from 0 to 2**63 - 1");
    if (!fits) return;
    now.draw = 1;
    State.set("seed", String(BigInt(target.value)));
  });
  $("seed").addEventListener("keydown", ({ key, target }) => key === "Enter" && target.blur());
  $("seed").addEventListener("change", ({ target }) => {
    target.value = now.seed;
    target.setCustomValidity("");
  });
  shown.push(() => {
    if (document.activeElement !== $("seed")) $("seed").value = now.seed;
    $("draw").textContent = `draw ${now.draw} of ${State.draws}`;
    $("previous").disabled = now.draw === 1;
    $("next").disabled = now.draw === State.draws;
  });

  // Classes

  function showClasses() {
    const classes = Pictures.classes(), counts = new Map();
    for (const label of Pictures.all.flatMap(({ labels }) => labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
    const many = Pictures.all.some(({ labels }) => labels.length > Pictures.MANY); // whose numbers are those of classes
    $("class-box").hidden = $("class-row").hidden = classes.length < 2;
    $("classes").replaceChildren(...classes.map((label, k) => {
      const name = make("span", { className: "name", textContent: label });
      const times = make("span", { className: "count", textContent: String(counts.get(label)) });
      const button = make("button", { className: "class" }, ...(many ? [Cards.numberOf(k)] : []), name, times);
      button.setAttribute("aria-pressed", String(!now.hidden.has(label)));
      button.addEventListener("click", () => {
        now.hidden[now.hidden.has(label) ? "delete" : "add"](label);
        State.set("hidden", now.hidden);
      });
      button.dataset.label = label;
      return button;
    }));
    const options = classes.map((label, k) => make("option", { value: String(k), textContent: label }));
    $("of-class").replaceChildren(make("option", { value: "", textContent: "all classes" }), ...options);
    $("of-class").value = ofClass === null ? "" : String(classes.indexOf(ofClass));
  }
  $("of-class").addEventListener("change", ({ target }) => {
    ofClass = target.value === "" ? null : Pictures.classes()[Number(target.value)];
    showAll();
  });
  $("share-ranges").addEventListener("click", () => State.shareRanges(ofClass));
  const hide = (labels) => State.set("hidden", new Set(labels));
  $("all-classes").addEventListener("click", () => hide([]));
  $("no-classes").addEventListener("click", () => hide(Pictures.classes()));
  shown.push(() => {
    for (const button of $("classes").children) {
      button.setAttribute("aria-pressed", String(!now.hidden.has(button.dataset.label)));
    }
    $("share-ranges").hidden = ofClass === null || !now.own.has(ofClass);
    for (const [k, label] of Pictures.classes().entries()) {
      const option = $("of-class").options[k + 1];
      if (option) option.textContent = now.own.has(label) ? `${label} (its own)` : label;
    }
    const pictures = Pictures.all.filter(Cards.isShown);
    const objects = pictures.flatMap(({ labels }) => labels).filter((label) => !now.hidden.has(label));
    $("facts").textContent = `${count(pictures.length, "picture")}, ${count(objects.length, "object")}`;
  });

  // To take along

  $("copy-python").addEventListener("click", () => {
    copy(Takeaway.python(), `Python${now.pins.size > 0 ? ", without pinned objects" : ""}`);
  });
  $("copy-command").addEventListener("click", () => {
    const left = Takeaway.leftOut();
    copy(Takeaway.command(), `the command${left.length > 0 ? `, which cannot tell ${left.join(" and ")}` : ""}`);
  });
  $("save-draw").addEventListener("click", () => save(Takeaway.saved(Pictures.all), "draw.json"));
  $("copy-address").addEventListener("click", () => {
    Address.write();
    copy(location.href, "the address");
  });
  $("unpin").addEventListener("click", () => {
    now.pins.clear();
    State.set("pins", now.pins);
  });
  shown.push(() => {
    const pins = [...now.pins.values()].reduce((sum, { size }) => sum + size, 0);
    $("unpin").hidden = pins === 0;
    $("unpin").textContent = `Unpin ${count(pins, "object")}`;
  });

  // Own pictures

  async function take(files) {
    const { added, draws } = await Files.read(files, say), first = Cards.list.firstChild;
    for (const entry of added) Cards.add(entry, first);
    if (added.length > 0) {
      say(`Added ${added.map(({ name }) => name).join(", ")}`);
      toast(`Added ${count(added.length, "picture")}`);
      Cards.list.firstChild.scrollIntoView({ block: "nearest" });
    }
    for (const { name, told } of draws) {
      try {
        say(`${name}: ${Takeaway.restore(told)} of ${count(told.pictures.length, "picture")} of this draw are here`);
      } catch (error) {
        if (!(error instanceof Labels.Unusable)) throw error;
        say(`${name}: ${error.message}`);
      }
    }
    showClasses();
    showAll();
  }
  for (const id of ["files", "folder"]) {
    $(id).addEventListener("change", ({ target }) => {
      take([...target.files]);
      target.value = "";
    });
  }
  let inside = 0;
  const hasFiles = ({ dataTransfer }) => dataTransfer && [...dataTransfer.types].includes("Files");
  for (const [name, by] of [["dragenter", 1], ["dragleave", -1]]) {
    window.addEventListener(name, (event) => {
      if (!hasFiles(event)) return;
      inside += by;
      document.body.classList.toggle("dropping", inside > 0);
    });
  }
  window.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  window.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = 0;
    document.body.classList.remove("dropping");
    take(await Files.dropped(event.dataTransfer));
  });

  // Comparing with the input, while a key or the button is held

  const compare = $("compare"), comparing = (wanted) => {
    Cards.compare(wanted);
    compare.setAttribute("aria-pressed", String(wanted));
  };
  compare.addEventListener("pointerdown", (event) => {
    compare.setPointerCapture(event.pointerId);
    comparing(true);
  });
  for (const end of ["pointerup", "pointercancel", "blur"]) compare.addEventListener(end, () => comparing(false));
  compare.addEventListener("keydown", ({ key }) => [" ", "Enter"].includes(key) && comparing(true));
  compare.addEventListener("keyup", () => comparing(false));
  compare.addEventListener("contextmenu", (event) => event.preventDefault());
  window.addEventListener("blur", () => comparing(false));

  const toggle = (name) => State.set(name, !now[name]);
  const KEYS = {
    r: drawAnew, n: () => step(1), p: () => step(-1), c: () => comparing(true),
    o: () => toggle("outlines"), l: () => toggle("labels"), v: () => toggle("shares"),
  };
  const writes = ({ target }) => target.matches("select, textarea, input:not([type=range], [type=checkbox])");
  window.addEventListener("keydown", (event) => {
    const alone = !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat;
    const act = KEYS[event.key.toLowerCase()];
    if (!act || !alone || writes(event) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    act();
  });
  window.addEventListener("keyup", ({ key }) => key.toLowerCase() === "c" && comparing(false));

  $("skip").addEventListener("click", () => $("pictures").focus());

  // The drawer of narrow windows

  $("drawer").addEventListener("click", () => {
    const open = document.body.classList.toggle("drawer");
    $("drawer").setAttribute("aria-expanded", String(open));
  });

  function showAll() {
    for (const each of shown) each();
  }
  State.follow(showAll);
  $("made-by").textContent = Pictures.given.command;
  showClasses();
  showAll();
  for (const entry of Pictures.all) Cards.add(entry);

  return { say, copy };
})();
