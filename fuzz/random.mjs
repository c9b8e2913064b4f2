/** Seeded numbers: mulberry32, small and good enough to pick mutations. A case is named by a seed and a number. */

/** One stream of numbers for each case of a campaign. */
export function caseSeed(seed, number) {
  let h = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
  h = Math.imul(h ^ (h >>> 13) ^ number, 0xc2b2ae35) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

/** Cases that follow each other share what is dear to make (the fixture, what it computes): so many do. */
export const BLOCK = 12;

/** The number after `number`, where several processes take turns by blocks. */
export function following(number, jobs) {
  return (number + 1) % BLOCK === 0 ? number + 1 + BLOCK * (jobs - 1) : number + 1;
}

export function random(seed) {
  let a = seed >>> 0;
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  const shuffle = (items) => {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = below(i + 1);
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  };
  return { next, below, pick: (items) => items[below(items.length)], chance: (p) => next() < p, shuffle };
}
