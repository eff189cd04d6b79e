// The justified grid: rows of equal height that fill the width, every picture in its own aspect.

/**
 * Sizes in whole pixels for pictures of these aspect ratios (width / height), in order: [{width, height}].
 * Rows come as near to `target` height as they can; an unfinished last row keeps it.
 */
export function justify(ratios, width, target, gap) {
  const sizes = [];
  let start = 0;
  while (start < ratios.length) {
    const { end, height } = row(ratios, start, width, target, gap);
    sizes.push(...filled(ratios.slice(start, end), width, height, target, gap));
    start = end;
  }
  return sizes;
}

function row(ratios, start, width, target, gap) {
  let sum = 0;
  let before = Infinity;
  for (let end = start; end < ratios.length; end += 1) {
    sum += ratios[end];
    const height = (width - gap * (end - start)) / sum;
    if (height <= target) {
      // Break after this picture or before it, whichever comes nearer to the target.
      const isBetterBefore = end > start && before / target < target / height;
      return isBetterBefore ? { end, height: before } : { end: end + 1, height };
    }
    before = height;
  }
  return { end: ratios.length, height: Math.min(before, target * 1.25) };
}

function filled(ratios, width, height, target, gap) {
  const rounded = Math.max(1, Math.round(height));
  const sizes = ratios.map((ratio) => ({ width: Math.max(1, Math.floor(ratio * height)), height: rounded }));
  const used = sizes.reduce((sum, size) => sum + size.width, 0) + gap * (sizes.length - 1);
  // The row's last picture takes the rounding error, so the right edge is straight.
  if (width - used <= sizes.length + 1) sizes.at(-1).width += Math.max(0, width - used);
  return sizes;
}
