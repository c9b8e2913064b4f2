/**
 * Grids of patches as they lie on the picture. Tiles of a multi-crop layout go into one panel, each at its place; a
 * grid that would cover another one (the thumbnail of the whole picture, a second image) starts a panel of its own.
 */
import type { PatchGrid } from '../../validate/feeding/sample.js';

export interface PlacedGrid {
  readonly grid: PatchGrid;
  /** Place of its top left patch in the panel, in patches. */
  readonly x: number;
  readonly y: number;
}

export interface Panel {
  readonly grids: readonly PlacedGrid[];
  /** Size in patches. */
  readonly width: number;
  readonly height: number;
  /** Where the whole picture lies in the panel, in patches; it may reach beyond it. */
  readonly picture: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
}

const EPSILON = 1e-6;

function overlap(a: PatchGrid, b: PatchGrid): boolean {
  const [al, at, ar, ab] = a.area;
  const [bl, bt, br, bb] = b.area;
  return Math.min(ar, br) - Math.max(al, bl) > EPSILON && Math.min(ab, bb) - Math.max(at, bt) > EPSILON;
}

/** Tiles that fit together have patches of the same size on the picture. */
function sameScale(a: PatchGrid, b: PatchGrid): boolean {
  const size = (g: PatchGrid): [number, number] => [(g.area[2] - g.area[0]) / g.columns, (g.area[3] - g.area[1]) / g.rows];
  const [[aw, ah], [bw, bh]] = [size(a), size(b)];
  return Math.abs(aw - bw) < 0.02 * aw && Math.abs(ah - bh) < 0.02 * ah;
}

/** The panels of one row of a batch; an unknown layout gives one line-wrapped panel. */
export function panelsOf(grids: readonly PatchGrid[], imageTokens: number): Panel[] {
  const covered = grids.reduce((n, g) => n + g.rows * g.columns, 0);
  const sane = grids.length > 0 && grids.every((g) => g.rows > 0 && g.columns > 0 && g.area[2] > g.area[0] && g.area[3] > g.area[1]);
  const list = sane ? grids : [];
  const groups: PatchGrid[][] = [];
  for (const g of list) {
    const group = groups.find((had) => had.every((h) => !overlap(h, g) && sameScale(h, g)));
    if (group) group.push(g);
    else groups.push([g]);
  }
  const panels = groups.map(panelOf);
  // Tokens that no grid covers (row separators, an unknown layout) are shown in reading order.
  const rest = imageTokens - (sane ? covered : 0);
  if (rest > 0) panels.push(strip(sane ? covered : 0, rest));
  return panels;
}

function panelOf(group: readonly PatchGrid[]): Panel {
  const left = Math.min(...group.map((g) => g.area[0]));
  const top = Math.min(...group.map((g) => g.area[1]));
  const right = Math.max(...group.map((g) => g.area[2]));
  const bottom = Math.max(...group.map((g) => g.area[3]));
  const [first] = group as [PatchGrid];
  const across = first.columns / (first.area[2] - first.area[0]);
  const down = first.rows / (first.area[3] - first.area[1]);
  return {
    grids: group.map((grid) => ({ grid, x: Math.round((grid.area[0] - left) * across), y: Math.round((grid.area[1] - top) * down) })),
    width: Math.round((right - left) * across),
    height: Math.round((bottom - top) * down),
    picture: { x: -left * across, y: -top * down, width: across, height: down },
  };
}

function strip(first: number, count: number): Panel {
  const columns = Math.min(count, Math.max(8, Math.ceil(Math.sqrt(count))));
  const rows = Math.ceil(count / columns);
  const grid: PatchGrid = { rows, columns, first, row: 0, area: [0, 0, 1, 1] };
  return { grids: [{ grid, x: 0, y: 0 }], width: columns, height: rows, picture: { x: 0, y: 0, width: 0, height: 0 } };
}

/** Path around the regions for which `inside` holds: the edges between a cell inside and what is not, runs of them in one line. */
export function outlinePath(panel: Panel, inside: (token: number) => boolean): string {
  const at = new Set<string>();
  for (const { grid, x, y } of panel.grids) {
    for (let r = 0; r < grid.rows; r++) for (let c = 0; c < grid.columns; c++) if (inside(grid.first + r * grid.columns + c)) at.add(`${x + c},${y + r}`);
  }
  const is = (c: number, r: number): boolean => at.has(`${c},${r}`);
  const lines: string[] = [];
  for (let r = 0; r <= panel.height; r++) {
    for (let c = 0; c < panel.width; c++) {
      const start = c;
      while (c < panel.width && is(c, r) !== is(c, r - 1)) c++;
      if (c > start) lines.push(`M${start} ${r}h${c - start}`);
    }
  }
  for (let c = 0; c <= panel.width; c++) {
    for (let r = 0; r < panel.height; r++) {
      const start = r;
      while (r < panel.height && is(c, r) !== is(c - 1, r)) r++;
      if (r > start) lines.push(`M${c} ${start}v${r - start}`);
    }
  }
  return lines.join('');
}

/** Path of the cells for which `inside` holds, a rectangle for each run of neighbours in a line. */
export function cellsPath(panel: Panel, inside: (token: number) => boolean): string {
  const runs: string[] = [];
  for (const { grid, x, y } of panel.grids) {
    for (let r = 0; r < grid.rows; r++) {
      for (let c = 0; c < grid.columns; c++) {
        const start = c;
        while (c < grid.columns && inside(grid.first + r * grid.columns + c)) c++;
        if (c > start) runs.push(`M${x + start} ${y + r}h${c - start}v1h${start - c}z`);
      }
    }
  }
  return runs.join('');
}
