/** The page: what is dropped on it is compiled; a picture and a question go through both decoders. */
import { compileFile, explain, sort } from './compile.js';
import { answer, openDecoder, openFolder, prepare } from './run.js';

const at = (id) => document.getElementById(id);
const MOST_TOKENS = 32;
let files;
let made;
let opened;

function say(text, wrong = false) {
  at('status').textContent = text;
  at('status').className = wrong ? 'error' : '';
}

const guarded = (work) => async (event) => {
  event.preventDefault();
  try {
    await work(event);
  } catch (error) {
    say(explain(error), true);
  }
};

function take(list) {
  files = sort([...list]);
  [made, opened] = [undefined, undefined];
  at('question').hidden = true;
  at('compile').disabled = !files.decoder;
  say(files.decoder ? `${files.decoder.name}${files.vision && files.embed && files.tokenizer ? ', with what a picture and a question need' : ''}` : 'no decoder among these files: decoder_model_merged*.onnx, or one .onnx file alone', !files.decoder);
}

/** All files of what was dropped, folders gone through. */
async function dropped(items) {
  const found = [];
  const visit = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (let part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); part.length > 0; part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))) for (const e of part) await visit(e);
    }
  };
  for (const entry of [...items].map((i) => i.webkitGetAsEntry()).filter(Boolean)) await visit(entry);
  return found;
}

async function compile() {
  say('compiling');
  const config = files.config ? JSON.parse(await files.config.text()) : {};
  const prompt = { batch: 1, imageTokens: config.image_seq_length ?? 576, textTokens: 16, past: 0 };
  const options = { stages: Number(at('stages').value), lambda: at('lambda').value, positions: at('positions').value, imageTokenId: config.image_token_id ?? config.image_token_index };
  const { report, bytes } = await compileFile(files.decoder, options, prompt);
  // The one that is asked also says which tokens it keeps.
  const probed = await compileFile(files.decoder, { ...options, probe: true }, prompt);
  made = { report, bytes, probed: probed.bytes };
  const rows = report.stages.map((s) => [s.stage, `${s.layers[0]}–${s.layers[1]}`, s.tokens, s.imageTokens, s.macs === null ? '?' : s.macs.toExponential(2), s.macs === null ? '' : `${((100 * s.macs) / s.originalMacs).toFixed(1)}%`]);
  fill('stages-table', rows);
  say(`${report.layers} layers; tokens dropped before layers ${report.plan.layers.join(', ')}; prefill of ${prompt.imageTokens} image and ${prompt.textTokens} text tokens: ${(100 * report.macs.ratio).toFixed(1)}% of the MACs`);
  at('download').href = URL.createObjectURL(new Blob([bytes]));
  at('download').download = files.decoder.name.replace(/\.onnx$/, '.pdrop.onnx');
  at('download').hidden = false;
  at('question').hidden = !(files.vision && files.embed && files.tokenizer && files.preprocessor);
}

async function ask() {
  const picture = at('picture').files[0];
  if (!picture) throw new Error('choose a picture');
  say('running the original and the compiled decoder');
  opened ??= await openFolder(files);
  opened.original ??= await openDecoder(files.decoder);
  if (opened.made !== made) opened.compiled = await openDecoder(made.probed);
  opened.made = made;
  const prompt = await prepare(opened, picture, at('text').value);
  const results = { original: await answer(opened, opened.original, prompt, MOST_TOKENS), compiled: await answer(opened, opened.compiled, prompt, MOST_TOKENS) };
  fill('answers', Object.entries(results).map(([name, r]) => [name, r.text, `${r.prefill.toFixed(0)} ms`, `${r.total.toFixed(0)} ms`]));
  const side = Math.sqrt(prompt.tokens);
  at('maps').replaceChildren(...(Number.isInteger(side) ? results.compiled.kept.map((kept, i) => map(prompt, side, kept, i + 1)) : []));
  say('');
}

/** The picture, dark where its tokens are dropped. */
function map({ canvas, start }, side, kept, boundary) {
  const figure = document.createElement('figure');
  const out = document.createElement('canvas');
  [out.width, out.height] = [canvas.width, canvas.height];
  const context = out.getContext('2d');
  context.drawImage(canvas, 0, 0);
  context.fillStyle = '#000c';
  const stays = new Set(kept.map((k) => k - start));
  const [w, h] = [canvas.width / side, canvas.height / side];
  let left = 0;
  for (let i = 0; i < side * side; i++) {
    if (stays.has(i)) left++;
    else context.fillRect((i % side) * w, Math.floor(i / side) * h, w, h);
  }
  const caption = document.createElement('figcaption');
  caption.textContent = `after boundary ${boundary}: ${left} of ${side * side} image tokens`;
  figure.append(out, caption);
  return figure;
}

function fill(id, rows) {
  at(id).tBodies[0].replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement('tr');
      for (const text of cells) row.insertCell().textContent = String(text);
      return row;
    }),
  );
  at(id).hidden = false;
}

at('folder').addEventListener('change', (e) => take(e.target.files));
at('file').addEventListener('change', (e) => take(e.target.files));
at('drop').addEventListener('dragover', (e) => e.preventDefault());
at('drop').addEventListener('drop', guarded(async (e) => take(await dropped(e.dataTransfer.items))));
at('options').addEventListener('submit', guarded(compile));
at('question').addEventListener('submit', guarded(ask));
