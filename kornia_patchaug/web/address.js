"use strict";

// What is set, as the part of the page's address after #: whoever is given the address sees the same.
const Address = (() => {
  const { now, draws, defaults, within } = State;
  const SETTLED = 300; // milliseconds until the address follows: browsers stop those who change it all the time
  let timer = 0;

  // What is not as it was at first.
  function text() {
    const first = defaults(), found = new URLSearchParams();
    const names = ["seed", "draw", ...State.RANGES, "feather", "fill", ...Object.keys(State.WORDS), ...State.FLAGS];
    for (const name of names) if (String(now[name]) !== String(first[name])) found.set(name, String(now[name]));
    for (const [label, own] of now.own) {
      found.append("own", JSON.stringify([label, ...State.RANGES.map((name) => own[name])]));
    }
    for (const label of now.hidden) found.append("hide", label);
    const pins = pinsOf(now);
    if (String(pins) !== String(pinsOf(first))) found.set("pins", "these");
    if (found.has("pins")) for (const pin of pins) found.append("pin", pin);
    return String(found);
  }

  function pinsOf({ pins }) {
    const own = [...pins].filter(([key]) => /^\d+$/.test(key)); // the others are of pictures that nobody else has
    return own.flatMap(([key, thetas]) =>
      [...thetas].map(([n, theta]) => [key, n, ...Array.from(theta, State.short)].join(" ")),
    );
  }

  function write() {
    clearTimeout(timer);
    history.replaceState(null, "", `#${text()}`);
  }

  const READ = {
    seed: (text) => (State.isSeed(text) ? text : undefined),
    draw: (text) => (Number.isInteger(Number(text)) && text >= 1 && text <= draws ? Number(text) : undefined),
    fill: (text) => (["none", "surroundings"].includes(text) ? text : number("fill", text)),
    degrees: (text) => number("degrees", text),
    shear: (text) => number("shear", text),
    feather: (text) => number("feather", text),
    translate: (text) => pair("translate", text.split(",")),
    scale: (text) => ordered(pair("scale", text.split(","))),
  };
  for (const [name, words] of Object.entries(State.WORDS)) {
    READ[name] = (text) => (words.includes(text) ? text : undefined);
  }
  for (const name of State.FLAGS) READ[name] = (text) => ({ true: true, false: false })[text];

  function number(name, value) {
    const found = typeof value === "string" && value.trim() === "" ? NaN : Number(value);
    return Number.isFinite(found) ? within(name, found) : undefined;
  }

  function pair(name, values) {
    const found = Array.isArray(values) ? values.map((value) => number(name, value)) : [];
    return found.length === 2 && !found.includes(undefined) ? found : undefined;
  }

  const ordered = (found) => (found && found[0] <= found[1] ? found : undefined);

  function readOwn(text) {
    let told = null;
    try {
      told = JSON.parse(text);
    } catch {
      return;
    }
    if (!Array.isArray(told) || told.length !== 5 || typeof told[0] !== "string") return;
    const [label, degrees, translate, scale, shear] = told;
    const own = {
      degrees: number("degrees", degrees),
      translate: pair("translate", translate),
      scale: ordered(pair("scale", scale)),
      shear: number("shear", shear),
    };
    if (!Object.values(own).includes(undefined)) now.own.set(label, own);
  }

  function readPin(text) {
    const [picture, n, ...theta] = text.split(" ").map(Number), entry = Pictures.all[picture];
    const fits = theta.length === 6 && theta.every((value) => Number.isFinite(Math.fround(value)));
    if (!entry || !fits || !(n in entry.boxes)) return;
    if (!now.pins.has(entry.key)) now.pins.set(entry.key, new Map());
    now.pins.get(entry.key).set(n, Float32Array.from(theta));
  }

  // What an address says, as far as it can be: anybody may have written it.
  function recall() {
    const told = new URLSearchParams(location.hash.slice(1));
    Object.assign(now, defaults());
    for (const name of ["clip", ...Object.keys(READ)]) {
      const value = told.has(name) ? READ[name](told.get(name)) : undefined;
      if (value !== undefined) now[name] = value;
    }
    told.getAll("own").forEach(readOwn);
    told.getAll("hide").forEach((label) => now.hidden.add(label));
    if (told.get("pins") === "these") now.pins.clear();
    told.getAll("pin").forEach(readPin);
  }

  recall();
  State.follow(() => {
    clearTimeout(timer);
    timer = setTimeout(write, SETTLED);
  });
  window.addEventListener("hashchange", () => {
    recall();
    State.changed("all");
  });

  return { write, READ };
})();
