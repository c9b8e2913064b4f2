/**
 * Strings from outside (names in models, paths, messages of other programs) as each medium can show them without being
 * steered by them: one function a medium, and nothing else prints such a string. HTML's is in html/markup.ts.
 */

/** Characters that move cursors, change colours, reorder or hide text: C0 and C1 controls, line separators, bidirectional marks. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

const visible = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** One string as a part of a line: line breaks and tabs are made visible as well. */
export function inline(text: string): string {
  return text.replace(STEERING, visible).replace(/[\n\t]/g, (c) => (c === '\n' ? '\\n' : '\\t'));
}

/** Whole text for a terminal or a log: lines stay, and none of them is a workflow command of GitHub or Azure. */
export function terminalText(text: string): string {
  return text.replace(STEERING, visible).replace(/^(\s*)(::|##)/gm, '$1\\$2');
}

/** JSON that is safe on a terminal: C1 controls and bidirectional marks, which JSON leaves as they are, are escaped. */
export function jsonText(value: unknown, indent = 2, replacer?: (key: string, value: unknown) => unknown): string {
  return JSON.stringify(value, replacer as never, indent).replace(STEERING, visible);
}

/** One string within Markdown that GitHub renders: no markup, HTML, links, mentions or table cells of its own. */
export function markdownText(text: string): string {
  return inline(text)
    .replace(/[\\`*_[\]#|~$]/g, '\\$&')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/@/g, '@\u200b')
    .replace(/:\/\//g, ':\u200b//');
}

/** One string as code within Markdown: fenced by more backticks than it has in a row. */
export function markdownCode(text: string): string {
  const shown = inline(text);
  const longest = Math.max(0, ...[...shown.matchAll(/`+/g)].map((m) => m[0].length));
  const fence = '`'.repeat(longest + 1);
  return longest > 0 ? `${fence} ${shown} ${fence}` : `${fence}${shown}${fence}`;
}

/** Text or attribute value of XML 1.0, which forbids most controls, lone surrogates and two noncharacters even as references. */
export function xmlText(text: string): string {
  return text
    .replace(/\p{Surrogate}/gu, visible)
    .replace(STEERING, visible)
    .replace(/[\ufffe\uffff]/g, visible)
    .replace(/[<>&"'\n\t]/g, (c) => `&#${c.charCodeAt(0)};`);
}
