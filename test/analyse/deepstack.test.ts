/** Qwen3-VL: image features are added behind the first layers at places that the graph's own mask of image tokens says. */
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { cli } from '../support/cli.js';
import { factsOf } from '../support/decoder.js';
import { folder } from '../support/folder.js';
import { expectRefusal } from '../support/refuse.js';
import { FIXTURES } from '../support/fixtures.js';

/** Features come behind layers 0 and 1 of five. */
const MODEL = `${FIXTURES}/qwen3-vl-dynamo20-deepstack/model.onnx`;

describe('deepstack', () => {
  it('has its mask taken for the image mask: no input is added', async () => {
    expect((await factsOf(MODEL)).roles.imageMask?.name).toBe('visual_pos_masks');
    for (const imageMask of [undefined, 'input']) {
      const report = await compile(MODEL, { layers: [2], imageMask, output: `${folder()}/out.onnx` });
      expect(report.addedInputs).toEqual([]);
    }
  });

  it('is refused with a boundary before features that are added later, and the first layer that may be is named', async () => {
    const error = await expectRefusal(MODEL, 'PD308', ['--layers', '1,3']);
    expect(error.message).toContain('"deepstack_visual_embeds"');
    expect(error.message).toContain('where "visual_pos_masks" says');
    expect(error.hint).toContain('the first layer a boundary may stand before is 2');
  });

  it('is told by inspect', async () => {
    const { out } = await cli('inspect', MODEL);
    expect(out).toContain('image tokens: the input visual_pos_masks');
  });
});
