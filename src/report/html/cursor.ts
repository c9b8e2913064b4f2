/**
 * A value of the report together with where it stands there. Everything the page shows is reached through cursors, so
 * that each figure carries its JSON pointer (RFC 6901) and cannot come from anywhere else.
 */
import { html, type Markup } from './markup.js';

export class Cursor<T> {
  constructor(
    readonly value: T,
    readonly pointer = '',
  ) {}

  at<K extends keyof T & (string | number)>(key: K): Cursor<T[K]> {
    const token = String(key).replace(/~/g, '~0').replace(/\//g, '~1');
    return new Cursor(this.value[key], `${this.pointer}/${token}`);
  }

  /** Null where there is no value. */
  get some(): Cursor<NonNullable<T>> | null {
    return this.value === null || this.value === undefined ? null : new Cursor(this.value as NonNullable<T>, this.pointer);
  }
}

/** The elements of a list, each with its place. */
export function each<E>(list: Cursor<readonly E[]>): Cursor<E>[] {
  return list.value.map((value, i) => new Cursor(value, `${list.pointer}/${i}`));
}

/** Figures that are not numbers (NaN survives in memory, JSON makes it null) count as missing. */
export function known(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** Attributes that name a figure: its place in the JSON and its full value. */
export function dataOf(c: Cursor<number | null | undefined>): Markup {
  return html`data-path="${c.pointer}" data-value="${known(c.value) ? String(c.value) : 'null'}"`;
}

/** A figure as people read it, with its place and its full value for machines; – where it is missing. */
export function figure(c: Cursor<number | null | undefined>, format: (v: number) => string): Markup {
  return known(c.value) ? html`<data value="${String(c.value)}" ${dataOf(c)}>${format(c.value)}</data>` : html`<span class="none" ${dataOf(c)} title="not measured">–</span>`;
}
