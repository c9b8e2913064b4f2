/**
 * Feeds for a damaged decoder: those of the fixture's own prompts as far as the mutant still takes them as they are;
 * what it declares otherwise is made from its declaration.
 */
const ARRAYS = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array };

/** `extra` is the mask of image tokens. */
export function feedsFor(ort, session, fixture, r) {
  const scenario = r.pick(fixture.info.scenarios.filter((s) => s.runs[0] && s.kind !== 'decode'));
  const [run] = scenario.runs;
  const feeds = {};
  const lead = run.feeds.inputs_embeds ?? run.feeds.input_ids;
  const [rows, tokens] = lead.shape;
  for (const input of session.inputMetadata) {
    const { name, type } = input;
    const ref = run.feeds[name];
    if (ref && ref.dtype === type && ref.shape.length === input.shape.length) {
      feeds[name] = fixture.tensor(ref);
      continue;
    }
    const past = fixture.info.cache.find((c) => c.past === name);
    if (past && input.shape.length === 4 && ARRAYS[type]) {
      feeds[name] = fixture.emptyPast(session, name, rows, past.layer);
      continue;
    }
    const Kind = ARRAYS[type];
    if (!Kind) continue;
    const shape = input.shape.map((d, axis) => (typeof d === 'number' ? d : axis === 0 ? rows : tokens));
    const count = shape.reduce((a, b) => a * b, 1);
    if (!(count < 1e7)) continue;
    const values = Array.from({ length: count }, () => (type.startsWith('float') ? r.next() : 1));
    feeds[name] = new ort.Tensor(type, type === 'int64' ? BigInt64Array.from(values, BigInt) : type === 'float16' ? Uint16Array.from(values, (v) => 0x3000 + Math.floor(v * 0x0a00)) : Kind.from(values), shape);
  }
  const marked = run.feeds.image_token_mask;
  const mask = marked ? fixture.tensor(marked) : new ort.Tensor('bool', Uint8Array.from({ length: rows * tokens }, (_, i) => (i % tokens > 3 && i % tokens < 10 ? 1 : 0)), [rows, tokens]);
  return { feeds, extra: { image_token_mask: mask }, now: { scenario: scenario.name, rows, tokens } };
}
