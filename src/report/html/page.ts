/** One self-contained page: style inside, no scripts, the JSON it shows embedded. */
import { html, Markup } from './markup.js';
import { note, type Section } from './parts.js';
import { STYLE } from './style.js';

export function page(title: string, top: Markup, sections: readonly Section[], json: Markup, tool: string): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${new Markup(STYLE)}</style>
</head>
<body>
<div class="page">
${top}
<main>${sections.map((s) => html`<section class="card" id="${s.id}" aria-labelledby="${s.id}-title"><h2 id="${s.id}-title">${s.title}</h2>${s.body}</section>`)}</main>
<footer>${note(`Made by ${tool}. The full report is in this file as JSON: the script element with the id "report".`)}</footer>
</div>
<script type="application/json" id="report">${json}</script>
</body>
</html>
`.text;
}
