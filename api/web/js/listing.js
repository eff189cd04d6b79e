// The results of one state; only parts of them need to be loaded.
//
// They lie in blocks of neighbours, which are loaded and laid out as wholes; where the counts per month
// are known, no block crosses the end of a month. A result is {asset, region, channels, score, rank}.

const BLOCK = 60;
// Of lists, the blocks used last stay loaded.
const MOST_LOADED = 100;

/** The results of `state`, none of them known yet. */
export function makeListing(key, state) {
  const listing = {
    key, state, isLoaded: false, isMatched: true, problem: null, next: null, parts: [], unread: [], took: null,
    headingOf: () => null,
    /** The newest asset of a list when it was counted; null for a search, which is read page by page. */
    through: null,
    /** Whether the blocks are those of the months, so that `month` of each is its heading. */
    hasMonths: false,
    /** How many results are known to exist. */
    length: 0,
    /** {start, count, month, items (null until loaded)}; the grid adds where each lies. */
    blocks: [],

    /** Make the blocks of a list: `months` are its [{ month, count }] in order, `month` null without headings. */
    count(months, through) {
      listing.blocks = months.flatMap(({ month, count }) => {
        const parts = Math.ceil(count / BLOCK);
        return Array.from({ length: parts }, (_, part) => {
          const size = Math.floor((count * (part + 1)) / parts) - Math.floor((count * part) / parts);
          return { start: 0, count: size, month, items: null };
        });
      });
      listing.through = through;
      number();
    },

    /** Add results at the end. */
    append(items) {
      for (let start = 0; start < items.length; start += BLOCK) {
        const some = items.slice(start, start + BLOCK);
        listing.blocks.push({ start: 0, count: some.length, month: null, items: some });
      }
      number();
    },

    /** Store results from a position on, as far as they fill blocks. */
    fill(start, items) {
      for (let at = blockIndex(start); at < listing.blocks.length; at += 1) {
        const block = listing.blocks[at];
        if (block.start + block.count > start + items.length) break;
        if (block.start < start) continue;
        Object.assign(block, { items: items.slice(block.start - start, block.start - start + block.count), rows: null });
        touch(block);
      }
      if (listing.through === null) return;
      for (const block of used) {
        if (used.size <= MOST_LOADED) break;
        block.items = null;
        used.delete(block);
      }
    },

    /** Say that blocks are in use, which keeps them loaded. */
    touch: (blocks) => blocks.forEach(touch),

    /** The block of a position. */
    blockOf: (index) => listing.blocks[blockIndex(index)],
    indexOfBlock: (block) => blockIndex(block.start),

    /** The result at a position; undefined if it is not loaded. */
    at(index) {
      const block = index >= 0 && index < listing.length ? listing.blockOf(index) : null;
      return block?.items?.[index - block.start];
    },

    /** The position of the first loaded result for which `test` holds; -1 if there is none. */
    find(test) {
      for (const { start, items } of listing.blocks) {
        const within = items ? items.findIndex(test) : -1;
        if (within >= 0) return start + within;
      }
      return -1;
    },

    /** All loaded results. */
    loaded: () => listing.blocks.flatMap(({ items }) => items ?? []),

    /** Take out the photographs with these ids; returns how many were loaded. */
    remove(ids) {
      const before = listing.length;
      for (const block of listing.blocks) {
        const left = block.items?.filter(({ asset }) => !ids.has(asset.id));
        if (!left || left.length === block.count) continue;
        Object.assign(block, { items: left, count: left.length, rows: null });
        if (!left.length) used.delete(block);
      }
      listing.blocks = listing.blocks.filter(({ count }) => count > 0);
      number();
      return before - listing.length;
    },
  };

  const used = new Set();
  function touch(block) {
    if (block.items === null) return;
    used.delete(block);
    used.add(block);
  }

  function number() {
    let start = 0;
    for (const block of listing.blocks) {
      block.start = start;
      start += block.count;
    }
    listing.length = start;
  }

  function blockIndex(index) {
    let [low, high] = [0, listing.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (listing.blocks[middle].start <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  return listing;
}
