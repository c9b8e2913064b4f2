#!/usr/bin/env node
/**
 * npm run demo: compiles the shipped LVLM (fixtures/lvlm), asks the original and the results a handful of questions about a shipped picture,
 * and writes validate's HTML report with the kept-token maps over that picture.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { styleText } from 'node:util';
import { compile } from '../dist/src/index.js';
import { openSession } from '../dist/src/validate/running/session.js';
import { ask, GRID, isRight, look, openLvlm, promptEmbeds, readPng } from './accuracy-lvlm.mjs';

const STAGES = 4;
const LAMBDA = '0.5';
const PICTURE = 0;
const KINDS = ['place_digit', 'place_colour', 'row', 'row_count', 'largest_colour', 'largest_place', 'left_of', 'count_all'];

const started = performance.now();
const root = join(import.meta.dirname, '..');
const model = join(root, 'fixtures', 'lvlm');
const out = join(root, 'out', 'demo');
const shown = (path) => relative(process.cwd(), path) || '.';
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const original = join(model, 'decoder_model_merged.onnx');
const rewritten = join(out, 'decoder.pdrop.onnx');
const kept = join(out, 'decoder.kept-positions.onnx');
const demo = JSON.parse(readFileSync(join(model, 'demo', 'questions.json'), 'utf8'));
const questions = KINDS.flatMap((kind) => demo.questions.find((q) => q.picture === PICTURE && q.kind === kind) ?? []);
const words = Object.entries(JSON.parse(readFileSync(join(model, 'tokenizer.json'), 'utf8')).model.vocab).reduce((all, [word, id]) => all.set(id, word), new Map());

console.log(`$ pdrop-compile ${shown(original)} --stages ${STAGES} --lambda ${LAMBDA} -o ${shown(rewritten)}`);
const report = await compile(original, { stages: STAGES, lambda: LAMBDA, output: rewritten, imageTokens: demo.imageTokens, textTokens: 7 });
console.log(`  tokens dropped before layers ${report.plan.layers.join(', ')} of ${report.layers}; image tokens ${report.stages.map((s) => s.imageTokens).join(' → ')}; ${(report.milliseconds / 1000).toFixed(2)} s`);

console.log(`$ pdrop-compile ${shown(original)} --stages ${STAGES} --lambda ${LAMBDA} --positions keep -o ${shown(kept)}\n`);
await compile(original, { stages: STAGES, lambda: LAMBDA, positions: 'keep', output: kept });

// The picture is looked at once; all graphs are asked the same.
const lvlm = await openLvlm(model, 2);
const picture = join(model, 'demo', demo.pictures[PICTURE]);
const features = new Map([[PICTURE, await look(lvlm, readPng(picture).rgb)]]);
const sides = [];
for (const path of [original, rewritten, kept]) {
  const session = await openSession(path, { threads: 2 });
  sides.push({ session, answers: await ask(lvlm, session, questions, features, 1), times: [] });
}
// Timed in turns, after everything has run once.
for (let round = 0; round < 3; round++) {
  for (const q of questions) {
    for (const side of sides) {
      const from = performance.now();
      await ask(lvlm, side.session, [q], features, 1);
      side.times.push(performance.now() - from);
    }
  }
}
for (const side of sides) {
  side.milliseconds = side.times.sort((x, y) => x - y)[side.times.length >> 1];
  await side.session.close();
}
await lvlm.close();

const text = (ids) => ids.filter((id) => id !== demo.eosTokenId).map((id) => words.get(id) ?? `<${id}>`).join(' ');
const table = [['question', 'right answer', 'original', 'rewritten', '… kept positions'], ...questions.map((q, i) => [q.text, q.answer, ...sides.map((s) => text(s.answers[i]))])];
const widths = table[0].map((_, c) => Math.max(...table.map((row) => row[c].length)));
const colour = (name, value) => (process.stdout.isTTY ? styleText(name, value) : value);
console.log(`Asked about ${shown(picture)}:\n`);
table.forEach((row, r) => {
  const cells = row.map((cell, c) => {
    const padded = cell.padEnd(widths[c]);
    if (r === 0) return colour('bold', c < 2 ? padded : `${padded}  `);
    if (c < 2) return padded;
    return isRight(questions[r - 1], sides[c - 2].answers[r - 1]) ? `${padded} ✓` : `${colour('red', padded)} ✗`;
  });
  console.log(`  ${cells.join('   ')}`.trimEnd());
});
const rights = sides.map((s) => `${questions.filter((q, i) => isRight(q, s.answers[i])).length} of ${questions.length}`);
const mega = (macs) => `${((2 * macs) / 1e6).toFixed(0)} MFLOPs`;
console.log(`
  right             ${rights[0]}  →  ${rights[1]}, with kept positions ${rights[2]}
  decoder prefill   ${mega(report.macs.original)}  →  ${mega(report.macs.rewritten)} (${(100 * report.macs.ratio).toFixed(1)}%, of which ranking ${(100 * report.macs.rankShare).toFixed(1)}%)
  time a question   ${sides[0].milliseconds.toFixed(1)} ms  →  ${sides[1].milliseconds.toFixed(1)} ms (median of prefill and the answer's tokens${sides[1].milliseconds > 0.9 * sides[0].milliseconds ? '; so small a model spends its time on launching nodes' : ''})
`);

// The same questions as samples of validate.
const samples = join(out, 'samples');
mkdirSync(samples);
copyFileSync(picture, join(samples, demo.pictures[PICTURE]));
writeFileSync(join(samples, 'samples.jsonl'), questions.map((q, i) => {
  const embeds = promptEmbeds(lvlm, q, features.get(PICTURE));
  return `${JSON.stringify({
    id: `${i + 1}-${q.kind}`,
    title: q.text,
    inputs: { inputs_embeds: { dtype: 'float32', shape: [1, embeds.length / lvlm.width, lvlm.width], base64: Buffer.from(embeds.buffer).toString('base64') } },
    labels: q.answerIds,
    answers: [q.answerIds],
    picture: demo.pictures[PICTURE],
    images: [{ rows: GRID, columns: GRID, start: 1 }],
  })}\n`;
}).join(''));
const html = join(out, 'report.html');
const flags = ['--data', samples, '--generate', '6', '--eos', String(demo.eosTokenId), '--repeats', '5', '--no-memory', '--work-dir', out, '--html', html];
console.log(`$ pdrop-compile validate ${[original, rewritten, ...flags].map((a) => (a.startsWith(root) ? shown(a) : a)).join(' ')}`);
const validated = spawnSync(process.execPath, [join(root, 'bin', 'pdrop-compile.js'), 'validate', original, rewritten, ...flags, '--quiet'], { stdio: ['ignore', 'inherit', 'inherit'] });
console.log(validated.status === 0 ? '  every gate passed' : `  validate ended with ${validated.status}`);
console.log(`\nMaps of the kept tokens over the picture, a boundary each: ${shown(html)}`);
console.log(`How often this model is right under which schedule: docs/accuracy.md   (${((performance.now() - started) / 1000).toFixed(0)} s)`);
process.exitCode = validated.status ?? 1;
