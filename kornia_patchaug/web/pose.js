"use strict";

// Thetas as a hand holds them: {angle, x, y, scaleX, scaleY, shear} in degrees and in pixels of the picture.
const Pose = (() => {
  const DEGREE = Math.PI / 180;

  const halves = (box) => [(box[2] - box[0]) / 2, (box[3] - box[1]) / 2];

  // Of what moves nothing anywhere there is none: null.
  function of(box, [a, b, tx, c, d, ty]) {
    const [halfX, halfY] = halves(box), determinant = a * d - b * c;
    if (!(Math.abs(determinant) > 1e-12 && halfX > 0 && halfY > 0)) return null;
    // dst_from_src, in pixels from the centre.
    const xx = d / determinant, xy = ((-b / determinant) * halfX) / halfY;
    const yx = ((-c / determinant) * halfY) / halfX, yy = a / determinant;
    const x = -(xx * tx * halfX + xy * ty * halfY), y = -(yx * tx * halfX + yy * ty * halfY);
    const turn = Math.atan2(yx, xx), cos = Math.cos(turn), sin = Math.sin(turn), scaleX = Math.hypot(xx, yx);
    const slant = -(cos * xy + sin * yy) / scaleX;
    return { angle: turn / DEGREE, x, y, scaleX, scaleY: cos * yy - sin * xy, shear: Math.atan(slant) / DEGREE };
  }

  function theta(box, { angle, x, y, scaleX, scaleY, shear }) {
    const [halfX, halfY] = halves(box), cos = Math.cos(angle * DEGREE), sin = Math.sin(angle * DEGREE);
    const along = 1 / scaleX, across = 1 / scaleY, slant = Math.tan(shear * DEGREE) / scaleY;
    const a = along * cos - slant * sin, b = along * sin + slant * cos, c = -across * sin, d = across * cos;
    const numbers = [
      a, (b * halfY) / halfX, -(a * x + b * y) / halfX, (c * halfX) / halfY, d, -(c * x + d * y) / halfY,
    ];
    return Float32Array.from(numbers);
  }

  return { of, theta };
})();
