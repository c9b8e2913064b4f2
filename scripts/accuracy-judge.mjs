#!/usr/bin/env node
/**
 * Accuracy of the judge (fixtures/judge: trained on prompts of many forms; and once more with dropping in training) at equal cost: schedules,
 * rankers, tuned plans, baselines. To docs/accuracy-judge.json, then the tables of docs/accuracy.md.
 *
 *   npm run build && node scripts/accuracy-judge.mjs [--minutes 60] [--plans folder]     measures what is lacking, then writes
 *   node scripts/accuracy-judge.mjs --minutes 0                                          only writes
 *
 * --plans: plan files named <budget>.json (40.json: tuned for 40% of the MACs), as `pdrop-compile tune` writes them; they are kept in the JSON.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { askModel, bitsOf, flagsOf, isRight, lookAtEval, openLvlm, wilson } from './accuracy-lvlm.mjs';
import { differenceText, markdown, percent, withInterval } from './accuracy-report.mjs';

const root = join(import.meta.dirname, '..');
const folder = join(root, 'fixtures', 'judge');
const target = join(root, 'docs', 'accuracy-judge.json');
const page = join(root, 'docs', 'accuracy.md');
const MODELS = { plain: 'decoder_model_merged.onnx', dropping: 'decoder_trained_with_dropping.onnx' };
/** The median question: `<s>`, three words, the image, eight words. */
const PROMPT = { imageTokens: 64, textTokens: 12 };
const BUDGETS = [0.75, 0.6, 0.5, 0.4, 0.3];
const RANKERS = ['attention', 'attention+grid:0.25', 'norope', 'norope+grid:0.25', 'change', 'transition', 'diverse', 'balanced', 'uniform', 'random'];

const results = existsSync(target) ? JSON.parse(readFileSync(target, 'utf8')) : { schema: 'pdrop-compile/accuracy-judge/1', prompt: PROMPT, results: {} };
const save = () => writeFileSync(target, `{\n "schema": ${JSON.stringify(results.schema)},\n "prompt": ${JSON.stringify(results.prompt)},\n "results": {\n${Object.entries(results.results).map(([id, r]) => `  ${JSON.stringify(id)}: ${JSON.stringify(r)}`).join(',\n')}\n }\n}\n`);

async function measure({ minutes, plans }) {
  const { compile } = await import('../dist/src/index.js');
  const until = Date.now() + minutes * 60_000;
  const model = await openLvlm(folder);
  const features = await lookAtEval(model, model.questions.map((q) => q.picture));
  const out = mkdtempSync(join(tmpdir(), 'pdrop-judge-'));
  process.on('exit', () => rmSync(out, { recursive: true, force: true }));
  const decoder = (which) => join(folder, MODELS[which]);
  const macsOf = async (options) => {
    const { macs } = await compile(decoder('plain'), { ...options, ...PROMPT, dryRun: true });
    return macs.rewritten / macs.original;
  };
  /** The λ (of stages) or share (of one cut) in hundredths whose cost is the highest within the budget; undefined when none is. */
  const within = async (budget, optionsOf) => {
    let [low, high] = [0, 100];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((await macsOf(optionsOf(String(middle / 100)))) <= budget) low = middle;
      else high = middle;
    }
    return low === 0 ? undefined : optionsOf(String(low / 100));
  };
  const one = async (id, which, options) => {
    if (results.results[id] || Date.now() > until) return;
    const started = performance.now();
    const path = options ? join(out, 'model.onnx') : decoder(which);
    let cost = {};
    if (options) {
      const { macs, plan } = await compile(decoder(which), { ...options, ...PROMPT, output: path, force: true });
      cost = { macs: macs.rewritten / macs.original, rank: plan.rank, grid: plan.grid, layers: plan.layers, keep: plan.keep, positions: plan.positions };
    }
    const answers = await askModel(model, path, model.questions, features, { batch: 64 });
    const right = model.questions.map((q, i) => isRight(q, answers[i]));
    results.results[id] = { ...cost, right: bitsOf(right) };
    save();
    console.log(`${id}: ${percent(right.filter(Boolean).length / right.length)} at ${percent(cost.macs ?? 1)}, ${((performance.now() - started) / 1000).toFixed(1)} s`);
  };

  const schedules = new Map();
  for (const budget of BUDGETS) {
    // As few stages, evenly spaced as the paper's, as reach the budget with λ of at least 0.3.
    for (const stages of [4, 6, 12]) {
      const options = await within(budget, (lambda) => ({ stages, lambda }));
      if (!options || Number(options.lambda) < 0.3) continue;
      schedules.set(`stages-${100 * budget}`, options);
      break;
    }
    const cut = await within(budget, (keep) => ({ layers: [2], keep: [keep] }));
    if (cut) schedules.set(`cut-${100 * budget}`, cut);
  }
  // The most telling first, so that a run can be ended at any time and taken up.
  const models = Object.keys(MODELS).filter((w) => existsSync(decoder(w)));
  for (const which of models) {
    await one(`${which}/original`, which);
    for (const rank of ['attention', 'uniform', 'random']) for (const positions of ['compact', 'keep']) await one(`${which}/default-${rank}-${positions}`, which, { stages: 4, lambda: '0.5', rank, positions });
    for (const rank of RANKERS) await one(`${which}/default-${rank}-keep`, which, { stages: 4, lambda: '0.5', rank, positions: 'keep' });
  }
  for (const which of models) {
    for (const [name, options] of schedules) for (const rank of ['attention', 'uniform', 'random']) await one(`${which}/${name}-${rank}-keep`, which, { ...options, rank, positions: 'keep' });
    for (const [name, options] of schedules) await one(`${which}/${name}-attention+grid:0.25-keep`, which, { ...options, rank: 'attention+grid:0.25', positions: 'keep' });
    for (const file of plans ? readdirSync(plans).filter((f) => /^\d+\.json$/.test(f)) : []) await one(`${which}/tuned-${file.slice(0, -5)}`, which, { plan: join(plans, file) });
  }
  for (const which of models) {
    for (const [name, options] of schedules) for (const rank of RANKERS.slice(2, 8)) if (name.startsWith('stages')) await one(`${which}/${name}-${rank}-keep`, which, { ...options, rank, positions: 'keep' });
  }
  await model.close();
}

function tables() {
  const { questions, needs } = JSON.parse(readFileSync(join(folder, 'eval', 'questions.json'), 'utf8'));
  const of = (id, kind) => {
    const r = results.results[id];
    if (!r) return undefined;
    const flags = flagsOf(r.right, questions.length).filter((_, i) => kind === undefined || questions[i].kind === kind);
    const right = flags.reduce((a, b) => a + b, 0);
    return { ...r, flags, right, n: flags.length, share: right / flags.length, interval: wilson(right, flags.length) };
  };
  const against = (a, b) => (a && b ? differenceText(a, b) : '');
  const out = {};
  const names = { plain: 'trained without dropping', dropping: 'trained with dropping' };
  const here = Object.keys(MODELS).filter((w) => of(`${w}/original`));
  out['judge-main'] = markdown(['schedule', 'MACs', ...here.flatMap((w) => [`${names[w]}`, 'to its original'])], [
    ['original', ''], ...['attention', 'uniform', 'random'].flatMap((rank) => ['compact', 'keep'].map((p) => [`λ 0.5, 4 stages, ${rank}, ${p === 'keep' ? 'kept' : 'compact'} positions`, `default-${rank}-${p}`])),
  ].flatMap(([name, id]) => {
    const cells = here.map((w) => of(`${w}/${id || 'original'}`));
    return cells.some((c) => c) ? [[name, percent(cells.find((c) => c)?.macs ?? 1), ...cells.flatMap((c, i) => [withInterval(c), id ? against(c, of(`${here[i]}/original`)) : ''])]] : [];
  }));
  out['judge-budgets'] = markdown(['MACs', 'schedule', ...here.flatMap((w) => [`${names[w]}: attention`, 'attention+grid', 'uniform', 'random', 'tuned', 'tuned − PyramidDrop'])], BUDGETS.flatMap((budget) => ['stages', 'cut'].flatMap((kind) => {
    const name = `${kind}-${100 * budget}`;
    const any = of(`plain/${name}-attention-keep`);
    if (!any) return [];
    const how = kind === 'cut' ? `one cut before layer 2, keep ${any.keep[0]}` : `${any.layers.length + 1} stages, λ ${any.keep[0]}`;
    return [[percent(any.macs), how, ...here.flatMap((w) => {
      const tuned = kind === 'stages' ? of(`${w}/tuned-${100 * budget}`) : undefined;
      const at = (rank) => of(`${w}/${name}-${rank}-keep`);
      return [...['attention', 'attention+grid:0.25', 'uniform', 'random'].map((rank) => (at(rank) ? percent(at(rank).share) : '')), tuned ? percent(tuned.share) : '', against(tuned, at('attention'))];
    })]];
  })));
  const ours = (w) => of(`${w}/default-attention-keep`);
  out['judge-rankers'] = markdown(['`--rank`', 'MACs', ...here.flatMap((w) => [names[w], 'to `attention`'])], RANKERS.map((rank) => {
    const cells = here.map((w) => of(`${w}/default-${rank}-keep`));
    return [`\`${rank}\``, percent(cells[0]?.macs ?? 1), ...cells.flatMap((c, i) => [withInterval(c), rank === 'attention' ? '' : against(c, ours(here[i]))])];
  }));
  const by = (w, budget, rank, kind) => of(`${w}/${rank === 'tuned' ? `tuned-${100 * budget}` : `stages-${100 * budget}-${rank}-keep`}`, kind);
  out['judge-budget-rankers'] = markdown(['decoder', '`--rank`', ...BUDGETS.map((b) => `${100 * b}% of the MACs`)], here.flatMap((w) => RANKERS.flatMap((rank) => {
    const cells = BUDGETS.map((b) => by(w, b, rank));
    return cells.some((c) => c) ? [[names[w], `\`${rank}\``, ...cells.map((c, i) => (c ? `${percent(c.share)}${rank === 'attention' ? '' : ` (${against(c, by(w, BUDGETS[i], 'attention'))})`}` : ''))]] : [];
  })));
  out['judge-budget-kinds'] = markdown(['decoder', 'kind', ...BUDGETS.flatMap((b) => [`${100 * b}%: attention`, 'random', 'tuned'])], here.flatMap((w) => Object.keys(needs).map((kind) => [names[w], `\`${kind}\``, ...BUDGETS.flatMap((b) => ['attention', 'random', 'tuned'].map((rank) => (by(w, b, rank, kind) ? percent(by(w, b, rank, kind).share) : '')))])));
  out['judge-kinds'] = markdown(['kind', 'needs', 'questions', ...here.flatMap((w) => [`${names[w]}: original`, 'attention, kept', 'uniform, kept', 'random, kept', 'attention, compact'])], Object.entries(needs).map(([kind, need]) => [`\`${kind}\``, need, String(of('plain/original', kind)?.n ?? ''), ...here.flatMap((w) => ['original', 'default-attention-keep', 'default-uniform-keep', 'default-random-keep', 'default-attention-compact'].map((id) => (of(`${w}/${id}`, kind) ? percent(of(`${w}/${id}`, kind).share) : '')))]));
  return out;
}

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' }, plans: { type: 'string' } } });
if (Number(values.minutes) > 0) await measure({ minutes: Number(values.minutes), plans: values.plans });
let text = readFileSync(page, 'utf8');
for (const [name, table] of Object.entries(tables())) text = text.replace(new RegExp(`(<!-- table:${name} -->\n)[\\s\\S]*?(<!-- /table -->)`), (_, a, b) => `${a}\n${table}\n\n${b}`);
writeFileSync(page, text);
