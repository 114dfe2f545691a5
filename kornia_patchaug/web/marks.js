"use strict";

// Outlines and tags of objects over a picture, in the colours and by the rules of `outlines.py`.
const Marks = (() => {
  const HALO = "#101014";
  const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#2a7fd0", "#d55e00", "#cc79a7"];
  const DARKER = ["#009e73", "#2a7fd0", "#d55e00"]; // on which text is white
  const LINE = 2, HALO_WIDTH = 0.75, BOX = 1; // pixels of the window
  const THIN_LINE = 1.25, THIN_HALO = 0.5; // of many objects
  const TAG = 11, PADDING = 4;
  const TAGGED = 0.06; // of a picture that tags may hide, if there are many

  const colourOf = (kind) => COLOURS[kind % COLOURS.length];
  const inkOn = (colour) => (DARKER.includes(colour) ? "#fff" : HALO);
  const font = `600 ${TAG}px system-ui, sans-serif`;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function roomOf(context, text) {
    context.font = font;
    return [Math.max(TAG + 5, context.measureText(text).width + 2 * PADDING), TAG + 5];
  }

  // Nine places of a tag's centre: corners, middles of edges, the centre; each moved into the picture.
  function placesOf(corners, [across, down], [width, height]) {
    const wanted = [...corners];
    corners.forEach((corner, k) => wanted.push(corner.map((at, axis) => (at + corners[(k + 1) % 4][axis]) / 2)));
    wanted.push([0, 1].map((axis) => corners.reduce((sum, corner) => sum + corner[axis], 0) / 4));
    return wanted.map(([x, y]) => {
      const place = [
        Math.min(Math.max(x, across / 2 + 1), width - across / 2 - 1),
        Math.min(Math.max(y, down / 2 + 1), height - down / 2 - 1),
      ];
      return { place, pushed: Math.hypot(place[0] - x, place[1] - y) };
    });
  }

  // Which of its nine places each tag has, or null: the first that keeps clear of the tags before it. Where tags would
  // hide the picture, only the largest objects have one.
  function choose(context, items, [width, height]) {
    const rooms = items.map(({ text }) => roomOf(context, text));
    const mean = rooms.reduce((sum, [across, down]) => sum + across * down, 0) / Math.max(rooms.length, 1);
    const most = Math.max(Pictures.MANY, Math.floor((TAGGED * width * height) / Math.max(mean, 1)));
    const area = items.map(({ corners }) => {
      const [x, y] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
      return (Math.max(...x) - Math.min(...x)) * (Math.max(...y) - Math.min(...y));
    });
    const rows = items.map((_, n) => n).sort((one, other) => area[other] - area[one]);
    const spots = items.map(() => null), taken = [];
    for (const n of rows.slice(0, most).sort((one, other) => one - other)) {
      const [across, down] = rooms[n].map((side) => side + PADDING);
      let least = Infinity;
      placesOf(items[n].corners, rooms[n], [width, height]).forEach(({ place, pushed }, k) => {
        let overlap = 0;
        for (const [x, y] of taken) {
          overlap += Math.max(across - Math.abs(place[0] - x), 0) * Math.max(down - Math.abs(place[1] - y), 0);
        }
        const cost = 100 * overlap + Math.max(pushed - TAG, 0) + 0.01 * k;
        if (cost >= least) return;
        least = cost;
        spots[n] = k;
      });
      taken.push(placesOf(items[n].corners, rooms[n], [width, height])[spots[n]].place);
    }
    return spots;
  }

  function ring(context, points, inset, [width, height]) {
    context.beginPath();
    points.forEach(([x, y], k) => {
      // What lies on the border of the picture is moved in by half a line, which would be cut off otherwise.
      const inside = [clamp(x, inset, width - inset), clamp(y, inset, height - inset)];
      const near = Math.abs(inside[0] - x) <= inset + 1e-3 && Math.abs(inside[1] - y) <= inset + 1e-3;
      context[k === 0 ? "moveTo" : "lineTo"](...(near ? inside : [x, y]));
    });
    context.closePath();
  }

  function tag(context, text, colour, [x, y], [across, down]) {
    context.beginPath();
    context.roundRect(x - across / 2, y - down / 2, across, down, 4);
    context.fillStyle = colour;
    context.fill();
    context.strokeStyle = HALO;
    context.lineWidth = 1;
    context.stroke();
    context.fillStyle = inkOn(colour);
    context.font = font;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x, y + 0.5);
  }

  // Items {n, kind, text, corners, ring, label} in pixels of the window; corners and label may be null. Object `pointed`
  // stands out.
  function draw(context, items, spots, size, { outlines, labels }, pointed = null) {
    const many = items.length > Pictures.MANY, [line, halo] = many ? [THIN_LINE, THIN_HALO] : [LINE, HALO_WIDTH];
    context.clearRect(0, 0, ...size);
    context.lineJoin = "round";
    if (labels) {
      context.globalAlpha = 0.63;
      context.lineWidth = BOX;
      for (const { kind, label } of items) {
        if (!label || !(label[2] > label[0] && label[3] > label[1])) continue;
        const [x0, y0, x1, y1] = label;
        context.strokeStyle = colourOf(kind);
        ring(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], BOX / 2, size);
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    function surround(item, line, halo) {
      ring(context, item.ring, line / 2, size);
      context.strokeStyle = HALO;
      context.lineWidth = line + 2 * halo;
      context.stroke();
      context.strokeStyle = colourOf(item.kind);
      context.lineWidth = line;
      context.stroke();
    }
    function name(item, spot) {
      const room = roomOf(context, item.text);
      tag(context, item.text, colourOf(item.kind), placesOf(item.corners, room, size)[spot].place, room);
    }
    if (outlines) {
      for (const item of items) if (item.ring) surround(item, line, halo);
      items.forEach((item, k) => spots[k] != null && item.corners && name(item, spots[k]));
    }
    const at = items.findIndex(({ n, ring }) => n === pointed && ring);
    if (at < 0) return;
    context.fillStyle = "#08080c73"; // the others step back
    context.fillRect(0, 0, ...size);
    context.save();
    ring(context, items[at].ring, 0, size);
    context.clip();
    context.clearRect(0, 0, ...size);
    context.restore();
    surround(items[at], LINE + 1, HALO_WIDTH);
    name(items[at], spots[at] ?? 0);
  }

  return { draw, choose, colourOf, inkOn };
})();
