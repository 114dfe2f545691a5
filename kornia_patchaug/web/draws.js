"use strict";

// The draws of `RandomPatchAffine` from a generator of its own: a seed here is that seed there. What is drawn, and in
// which order, is in `noise.py`, `draw.py` and `generators.py`.
const Draws = (() => {
  const STATE = 624, MIDDLE = 397;
  const THETA_NOISE = 7; // an angle, two shifts, two scales, two shears
  const LEAST_SCALE = 0.001;

  // The Mersenne twister of Matsumoto and Nishimura (1998), which torch seeds with the low 32 bits of a seed.
  function twister(seed) {
    const state = new Uint32Array(STATE);
    state[0] = seed;
    for (let k = 1; k < STATE; k++) state[k] = Math.imul(1812433253, state[k - 1] ^ (state[k - 1] >>> 30)) + k;
    let next = STATE;
    return () => {
      if (next === STATE) {
        for (let k = 0; k < STATE; k++) {
          const mixed = (state[k] & 0x80000000) | (state[(k + 1) % STATE] & 0x7fffffff);
          state[k] = state[(k + MIDDLE) % STATE] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
        }
        next = 0;
      }
      let word = state[next++];
      word ^= word >>> 11;
      word ^= (word << 7) & 0x9d2c5680;
      word ^= (word << 15) & 0xefc60000;
      return (word ^ (word >>> 18)) >>> 0;
    };
  }

  // What torch.rand makes of a word: a float32 has 24 bits.
  const uniform = (word) => (word & 0xffffff) / 0x1000000;

  // A function that at each call returns the noise of the next draw of one picture, (count, 7) in [0, 1), flat. A seed
  // is a number, a BigInt or the digits of one: a number holds no more than 53 bits.
  function noises(seed) {
    const words = twister(Number(BigInt.asUintN(32, BigInt(seed))));
    return (count) => {
      words(); // the gate of the image
      words(); // and of the batch
      words(); // the high half of the seed of this draw
      const drawn = twister(words());
      for (let k = 0; k < count; k++) drawn(); // the gates of objects
      return Float32Array.from({ length: count * THETA_NOISE }, () => uniform(drawn()));
    };
  }

  // Both ends of a range, each a number an axis, which Python keeps in float32.
  function ends(name, range) {
    let numbers = (typeof range === "number" ? [range] : [...range]).map(Math.fround);
    if (name === "scale") {
      const m = LEAST_SCALE;
      numbers = numbers.map((x) => (x > m ? x : (m * m) / (2 * m - x)));
    }
    if (name === "translate" || numbers.length === 1) return [numbers.map((x) => -x), numbers];
    return [numbers.filter((_, k) => k % 2 === 0), numbers.filter((_, k) => k % 2 === 1)];
  }

  function between(name, range, noise, first) {
    const [one, other] = ends(name, range);
    return one.map((low, axis) => low + (other[axis] - low) * noise[first + axis]);
  }

  // `theta_in_pixels`, flat: of an angle, a shift in pixels, scales and shears, and the half sizes of the box frame.
  function thetaInPixels(angle, scale, shift, shear, half) {
    const radians = Math.PI / 180;
    const cos = Math.cos(angle * radians), sin = Math.sin(angle * radians);
    const tanX = Math.tan(shear[0] * radians), tanY = Math.tan(shear[1] * radians);
    // The inverses of the four steps: unshear @ unscale @ unrotate @ shift back.
    const xx = (1 + tanX * tanY) / scale[0], xy = tanX / scale[1], yx = tanY / scale[0], yy = 1 / scale[1];
    const a = xx * cos - xy * sin, b = xx * sin + xy * cos, c = yx * cos - yy * sin, d = yx * sin + yy * cos;
    const [x, y] = half, ratio = (up, down) => (down === 0 ? 0 : up / down);
    const shiftX = -(a * shift[0] + b * shift[1]), shiftY = -(c * shift[0] + d * shift[1]);
    // From pixels to the box frame, as `centred_matrices` has the way back.
    return [a, b * ratio(y, x), ratio(shiftX, x), c * ratio(x, y), d, ratio(shiftY, y)];
  }

  // The theta of a box, 6 numbers, of 7 of noise from `first` on. `ranges` has degrees, and may have translate, scale
  // and shear, as `RandomPatchAffine` takes them.
  function theta(box, ranges, noise, first = 0, alignCorners = false) {
    const drawn = (name, column, leftOut) =>
      ranges[name] == null ? leftOut : between(name, ranges[name], noise, first + column);
    const sides = [box[2] - box[0], box[3] - box[1]];
    const [angle] = drawn("degrees", 0, [0]), share = drawn("translate", 1, [0, 0]);
    const [scaleX, scaleY = scaleX] = drawn("scale", 3, [1, 1]);
    const [shearX, shearY = 0] = drawn("shear", 5, [0, 0]); // one range shears along x only
    const shift = share.map((part, axis) => part * sides[axis]);
    const half = sides.map((side) => (alignCorners ? Math.max(side - 1, 0) : side) / 2);
    return thetaInPixels(angle, [scaleX, scaleY], shift, [shearX, shearY], half);
  }

  // A function that at each call returns the thetas of the next draw, (N, 6) flat, of boxes and of ranges: those of all
  // objects, or an array with those of each.
  function from(seed) {
    const noise = noises(seed);
    return (boxes, ranges, alignCorners = false) => thetas(boxes, ranges, noise(boxes.length), alignCorners);
  }

  // The thetas of noise that was drawn before: moving a slider draws nothing anew.
  function thetas(boxes, ranges, noise, alignCorners = false) {
    const found = new Float32Array(boxes.length * 6);
    boxes.forEach((box, n) => {
      const own = Array.isArray(ranges) ? ranges[n] : ranges;
      found.set(theta(box, own, noise, n * THETA_NOISE, alignCorners), n * 6);
    });
    return found;
  }

  return { from, noises, thetas, theta };
})();
