/**
 * Mixtures of experts whose tokens are sorted by expert and back: each token alone, which only evaluation shows. What is
 * nearly that, and mixes tokens, is refused.
 */
import { describe, expect, it } from 'vitest';
import { cliJson } from '../support/cli.js';
import { modelFile } from '../support/folder.js';
import { encodeModel, graphOf, INT32, int64, loadModel, node, type NodeProto, type TensorProto } from '../support/proto.js';
import { expectRefusal } from '../support/refuse.js';

const FIXTURE = 'tf-mixtral';
const BOUNDARIES = ['--layers', '2', '--lambda', '0.5'];

/** The fixture with the last layer's expert block changed. */
function changed(edit: (nodes: NodeProto[], find: (opType: string, from?: number) => number) => void, initializers: TensorProto[] = []): string {
  const model = loadModel(FIXTURE);
  const graph = graphOf(model);
  const nodes = graph.node as NodeProto[];
  graph.initializer?.push(...initializers);
  const router = nodes.map((n) => n.opType).lastIndexOf('ScatterND');
  const start = nodes.slice(0, router).map((n) => n.opType).lastIndexOf('Gemm');
  edit(nodes, (opType, from = start) => nodes.findIndex((n, i) => i >= from && n.opType === opType));
  return modelFile(encodeModel(model));
}

const int32 = (name: string, value: number): TensorProto => ({ name, dims: [], dataType: INT32, rawData: new Uint8Array(Int32Array.of(value).buffer) }) as unknown as TensorProto;

/** Room for `count` tokens an expert: the count is cut, and with it the group that is multiplied. */
function withRoom(count: number): string {
  return changed(
    (nodes, find) => {
      const at = find('CumSum');
      const counts = nodes[at] as NodeProto;
      nodes.splice(at, 0, node('Min', [(counts.input as string[])[0] as string, 'room'], ['cut']));
      (counts.input as string[])[0] = 'cut';
    },
    [int32('room', count)],
  );
}

describe('experts', () => {
  it('as the exporter writes them are each token’s own', async () => {
    const { code, json } = await cliJson(changed(() => undefined), ...BOUNDARIES, '--dry-run');
    expect(JSON.stringify(json.error ?? null)).toBe('null');
    expect(code).toBe(0);
  });

  it('whose router weighs tokens against each other are refused', async () => {
    // Less the mean over all tokens: that survives any permutation of them.
    const path = changed((nodes, find) => {
      const at = find('Softmax');
      const scores = (nodes[at]?.input as string[])[0] as string;
      nodes.splice(at, 0, node('ReduceMean', [scores, 'first'], ['mean_score']), node('Sub', [scores, 'mean_score'], ['centred']));
      ((nodes[at + 2] as NodeProto).input as string[])[0] = 'centred';
    }, [int64('first', [0])]);
    const error = await expectRefusal(path, 'PD308', BOUNDARIES);
    expect(error.message).toContain('depends on which other tokens there are');
  });

  it('whose tokens are not sorted back are refused', async () => {
    const path = changed((nodes, find) => {
      const scatter = find('ScatterND');
      const back = nodes[find('GatherND', scatter)] as NodeProto;
      (back.input as string[])[1] = (nodes[scatter]?.input as string[])[1] as string;
    });
    const error = await expectRefusal(path, 'PD308', BOUNDARIES);
    expect(error.message).toContain('depends on which other tokens there are');
  });

  it('that are sent a token less when others come first are refused', async () => {
    const path = withRoom(4);
    const error = await expectRefusal(path, 'PD308', BOUNDARIES);
    expect(error.culprit).toBeDefined();
  });

  it('with more room than any trial fills are refused as well', async () => {
    const path = withRoom(100_000);
    const error = await expectRefusal(path, 'PD308', BOUNDARIES);
    expect(error.message).toContain('100000');
  });
});
