"use strict";

// What is set on the page. Names and values are those of `RandomPatchAffine`.
const State = (() => {
  const { ranges: start, seed, draws } = Pictures.given;
  const RANGES = ["degrees", "translate", "scale", "shear"];
  // What the command takes.
  const LIMITS = {
    degrees: [0, 360],
    translate: [0, 100],
    scale: [0.01, 100],
    shear: [0, 89],
    feather: [0, 1],
    fill: [0, 1],
  };
  const WORDS = {
    padding_mode: ["zeros", "border", "reflection", "image", "transparent"],
    matte: ["none", "mask", "box", "ellipse"],
    order: ["area", "rows"],
  };
  const FLAGS = ["clip", "outlines", "labels", "shares"];
  const LAST_SEED = 2n ** 63n - 1n;

  const givenPins = ({ thetas }, k) =>
    thetas ? [[String(k), new Map(thetas.map((theta, n) => [n, Float32Array.from(theta)]))]] : [];

  const defaults = () => ({
    seed,
    draw: 1,
    degrees: start.degrees,
    translate: [...start.translate],
    scale: [...start.scale],
    shear: start.shear,
    clip: start.clip,
    padding_mode: start.clip ? start.padding_mode : "image",
    fill: start.fill ?? "none",
    matte: start.matte ?? "none",
    feather: start.feather,
    order: start.order ?? "area",
    outlines: true,
    labels: true,
    shares: true,
    own: new Map(), // ranges of classes that have their own: class -> {degrees, translate, scale, shear}
    hidden: new Set(), // classes
    pins: new Map(Pictures.given.pictures.flatMap(givenPins)), // stay whatever is drawn: picture -> object -> theta
  });
  const now = defaults(), followers = [];

  const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const within = (name, value) => {
    const limits = name === "translate" && now.clip ? [0, 1] : LIMITS[name];
    return Array.isArray(value) ? value.map((one) => clamp(one, limits)) : clamp(value, limits);
  };

  function set(name, value) {
    now[name] = value;
    if (name === "clip" && value) {
      for (const each of [now, ...now.own.values()]) each.translate = within("translate", each.translate);
    }
    changed(name);
  }

  // A range of all objects, or of a class, which then has ranges of its own.
  function setRange(name, value, label = null) {
    if (label !== null && !now.own.has(label)) now.own.set(label, common());
    (label === null ? now : now.own.get(label))[name] = within(name, value);
    changed(name);
  }

  const common = () => ({
    degrees: now.degrees, translate: [...now.translate], scale: [...now.scale], shear: now.shear,
  });
  const rangesOf = (label) => now.own.get(label) ?? now;

  function shareRanges(label) {
    now.own.delete(label);
    changed("own");
  }

  const pinned = (entry, n) => now.pins.get(entry.key)?.get(n);

  function pin(entry, n, theta) {
    if (!now.pins.has(entry.key)) now.pins.set(entry.key, new Map());
    const pins = now.pins.get(entry.key);
    if (theta === null) pins.delete(n);
    else pins.set(n, Float32Array.from(theta));
    if (pins.size === 0) now.pins.delete(entry.key);
    changed("pins", entry);
  }

  // As `PatchAffine` takes them.
  const options = () => ({
    padding_mode: now.clip ? now.padding_mode : "zeros",
    clip: now.clip,
    fill: now.fill === "none" ? null : now.fill,
    matte: now.matte === "none" ? null : now.matte,
    feather: now.feather,
    order: now.order,
  });
  // As the picture is painted: without masks, boxes.
  const optionsFor = (entry) => {
    const found = options();
    return found.matte === "mask" && !entry.shapes ? { ...found, matte: "box" } : found;
  };

  function noiseOf(entry) {
    const key = `${now.seed} ${now.draw}`;
    if (entry.noise.key !== key) {
      const next = Draws.noises(now.seed);
      let values;
      for (let k = 0; k < now.draw; k++) values = next(entry.boxes.length);
      entry.noise = { key, values };
    }
    return entry.noise.values;
  }

  // The thetas of a picture, (N, 6) flat.
  function thetasOf(entry) {
    const found = Draws.thetas(entry.boxes, entry.labels.map(rangesOf), noiseOf(entry));
    for (const [n, theta] of now.pins.get(entry.key) ?? []) found.set(theta, 6 * n);
    return found;
  }

  const follow = (follower) => followers.push(follower);

  function changed(name, entry = null) {
    for (const follower of followers) follower(name, entry);
  }

  const isSeed = (text) => /^[0-9]{1,19}$/.test(text) && BigInt(text) <= LAST_SEED;
  // The fewest digits that float32 takes for a number.
  function short(value) {
    for (let digits = 6; digits < 9; digits++) {
      const text = Number(value.toPrecision(digits));
      if (Math.fround(text) === Math.fround(value)) return text;
    }
    return Number(value.toPrecision(9));
  }

  return {
    now, LIMITS, RANGES, WORDS, FLAGS, draws, defaults, within,
    set, setRange, shareRanges, rangesOf, pin, pinned, options, optionsFor, thetasOf, follow, changed, isSeed, short,
  };
})();
