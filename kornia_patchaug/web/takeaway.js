"use strict";

// What is set, as text to take along: Python, the command, and JSON that `--replay` reads.
const Takeaway = (() => {
  const { now } = State;
  const CLOSE = 1e-3; // pixels between the boxes of a picture and those of a draw
  const IMPORTS = ["import torch", "", "import kornia_patchaug as kp", ""];

  const tuple = (values) => `(${values.join(", ")}${values.length === 1 ? "," : ""})`;
  // JSON's text is Python's where it is ASCII.
  const escaped = (letter) => `\\U${letter.codePointAt(0).toString(16).padStart(8, "0")}`;
  const quoted = (text) => JSON.stringify(text).replace(/[^ -~]/gu, escaped);
  const tensor = (rows) => {
    const lines = rows.map((row) => `    [${Array.from(row, State.short).join(", ")}],\n`);
    return rows.length === 0 ? "" : `torch.tensor([\n${lines.join("")}], dtype=torch.float32)`;
  };

  // What options do not say as they are by default is left out.
  function optionsText() {
    const { padding_mode, clip, fill, matte, feather, order } = State.options(), said = [];
    said.push(clip ? `padding_mode="${padding_mode}"` : "clip=False");
    if (fill !== null) said.push(`fill=${JSON.stringify(fill)}`);
    if (matte !== null) said.push(`matte="${matte}"`);
    if (matte !== null) said.push(`feather=${feather}`); // of a mask too, whose hole grows with it
    if (order !== "area") said.push(`order="${order}"`);
    return said;
  }

  const rangesText = (name, rows) => {
    const each = rows.map((row) => [row[name]].flat());
    if (rows.length > 1) return `${name}=${tuple(each.map(tuple))}`;
    return `${name}=${each[0].length === 1 ? each[0][0] : tuple(each[0])}`;
  };

  const wrapped = (name, parts) => `${name}(\n${parts.map((part) => `    ${part},\n`).join("")})`;

  function python() {
    const classes = now.own.size > 0 ? Pictures.classes() : [];
    const rows = classes.length > 0 ? classes.map(State.rangesOf) : [now];
    const parts = State.RANGES.map((name) => rangesText(name, rows));
    parts.push("p=1.0", ...optionsText(), `generator=torch.Generator().manual_seed(${now.seed})`);
    const lines = [...IMPORTS, `augment = ${wrapped("kp.RandomPatchAffine", parts)}`];
    const masks = now.matte === "mask" ? ", masks=masks" : "";
    const call = rows.length > 1 ? `, classes=classes${masks}` : masks;
    if (rows.length > 1) {
      lines.push(`names = [${classes.map(quoted).join(", ")}]  # classes (N,): which of these each object is`);
    }
    lines.push(`# call ${now.draw} of augment(image, boxes${call}) gives the picture`, "");
    return lines.join("\n");
  }

  function rowsOf(values, count) {
    return Array.from({ length: values.length / count }, (_, k) => values.slice(count * k, count * (k + 1)));
  }

  // The exact thetas of a picture.
  function thetas(entry) {
    const { name, width, height, boxes } = entry, rows = rowsOf(State.thetasOf(entry), 6);
    const masks = State.options().matte === "mask" && entry.shapes ? ", masks=masks" : "";
    const shape = masks && `, masks (${boxes.length}, ${height}, ${width})`;
    return [
      ...IMPORTS,
      `# image (1, 3, ${height}, ${width}): ${quoted(name)}${shape}`,
      `boxes = ${tensor(boxes) || "torch.zeros(0, 4)"}`,
      `theta = ${tensor(rows) || "torch.zeros(0, 6)"}`,
      `augment = ${wrapped("kp.PatchAffine", optionsText())}`,
      `# augment(image, boxes, theta${masks}) gives the picture`,
      "",
    ].join("\n");
  }

  function command() {
    const { padding_mode, clip, fill, matte, feather, order } = State.options(), [before, after] = Pictures.given.around;
    const words = [
      before, "--degrees", now.degrees, "--translate", ...now.translate, "--scale", ...now.scale, "--shear", now.shear,
      clip ? "--clip" : "--no-clip", "--padding-mode", padding_mode,
      "--fill", fill ?? "none", "--matte", matte ?? "none", "--feather", feather,
      "--order", order, "--seed", now.seed, "--draws", State.draws, after,
    ];
    return words.filter((word) => word !== "").join(" ");
  }

  // What the command does not say.
  function leftOut() {
    const found = [];
    if (now.own.size > 0) found.push("ranges of classes");
    if (now.pins.size > 0) found.push("pinned objects");
    if (Pictures.all.length > Pictures.given.pictures.length) found.push("your own pictures");
    return found;
  }

  function saved(entries) {
    const pictures = entries.map((entry) => ({
      name: entry.name,
      width: entry.width,
      height: entry.height,
      boxes: entry.boxes.map((box) => box.map(State.short)),
      thetas: rowsOf(State.thetasOf(entry), 6).map((row) => Array.from(row, State.short)),
    }));
    const { version } = Pictures.given, { seed, draw } = now;
    const ranges = Object.fromEntries(State.RANGES.map((name) => [name, now[name]]));
    return `${JSON.stringify({ version, seed, draw, options: State.options(), ranges, pictures })}\n`;
  }

  // The reverse of `saved`

  const isDraw = (told) => told !== null && typeof told === "object" && "options" in told && "pictures" in told;
  const isRow = (row, count) => Array.isArray(row) && row.length === count && row.every(Number.isFinite);
  const rowsFit = (rows, count) => Array.isArray(rows) && rows.every((row) => isRow(row, count));

  // The pictures of the page that are one of a draw: of its name, its size and its boxes.
  function same({ name, width, height, boxes }) {
    const near = (box, n) => box.every((edge, k) => Math.abs(edge - boxes[n][k]) <= CLOSE);
    return Pictures.all.filter((entry) => entry.name === name && entry.width === width && entry.height === height
      && entry.boxes.length === boxes.length && entry.boxes.every(near));
  }

  // Set what a draw says, and pin its objects where they were; returns how many of its pictures are here.
  function restore({ version, seed, draw, options, ranges, pictures }) {
    if (version !== Pictures.given.version) Labels.refuse(`a draw of version ${version}, which this page cannot read`);
    const told = { seed, ...options, ...ranges }, found = {};
    for (const name of ["seed", ...Object.keys(State.options()), ...State.RANGES]) {
      found[name] = Address.READ[name](String(told[name] ?? "none"));
      if (found[name] === undefined) Labels.refuse(`a draw whose ${name} is none`);
    }
    const fits = ({ boxes, thetas }) => rowsFit(boxes, 4) && rowsFit(thetas, 6) && boxes.length === thetas.length;
    if (!Array.isArray(pictures) || !pictures.every(fits)) Labels.refuse("a draw without boxes and thetas");
    if (!found.clip) delete found.padding_mode; // which says nothing then
    Object.assign(now, found, { draw: Address.READ.draw(String(draw)) ?? 1 });
    const here = pictures.flatMap((each) => same(each).map((entry) => [entry, each.thetas]));
    for (const [{ key }, thetas] of here) {
      now.pins.set(key, new Map(thetas.map((theta, n) => [n, Float32Array.from(theta)])));
    }
    State.changed("all");
    return here.length;
  }

  return { python, thetas, command, leftOut, saved, isDraw, restore };
})();
