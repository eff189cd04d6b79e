// The justified grid: rows of equal height that fill the width, every picture in its own aspect.

// In units of the target height: what a row may have, and where an unfinished last row ends.
const LOWEST = 0.5;
const HIGHEST = 1.6;
const UNFINISHED = 1.25;

/**
 * The rows for pictures of these aspect ratios (width / height), in order: [{ start, height, widths }] in whole
 * pixels. Together their heights are as near to `target` as can be. The last row may stay
 * unfinished if `isEnd`; else it is filled like the others, so that more pictures can follow.
 */
export function justify(ratios, width, target, gap, isEnd) {
  // For each number of pictures: the least cost of its rows, and where the last of them starts.
  const best = [{ cost: 0, start: 0 }];
  for (let end = 1; end <= ratios.length; end += 1) {
    best[end] = { cost: Infinity, start: end - 1 };
    let sum = 0;
    for (let start = end - 1; start >= 0; start -= 1) {
      sum += ratios[start];
      const height = (width - gap * (end - start - 1)) / sum / target;
      if (height < LOWEST && start < end - 1) break;
      const isUnfinished = isEnd && end === ratios.length && height > UNFINISHED;
      const cost = best[start].cost + (isUnfinished ? 0 : Math.log(height) ** 2);
      if (cost < best[end].cost) best[end] = { cost, start };
    }
  }
  const rows = [];
  for (let end = ratios.length; end > 0; end = best[end].start) {
    const { start } = best[end];
    const most = target * (isEnd && end === ratios.length ? UNFINISHED : HIGHEST);
    rows.unshift({ start, ...filled(ratios.slice(start, end), width, most, gap) });
  }
  return rows;
}

function filled(ratios, width, most, gap) {
  const space = width - gap * (ratios.length - 1);
  const natural = space / ratios.reduce((sum, ratio) => sum + ratio, 0);
  const height = Math.min(natural, most);
  const widths = ratios.map((ratio) => Math.max(1, Math.floor(ratio * height)));
  // The row's last picture takes the rounding error, so the right edge is straight.
  if (natural <= most) widths[widths.length - 1] += space - widths.reduce((sum, each) => sum + each, 0);
  return { height: Math.max(1, Math.round(height)), widths };
}
