/**
 * The house, floor by floor (ARCHITECTURE.md): a file imports only from its own floor and from those below.
 * From the top down; folders of one line are neighbours, which may not import each other unless said so.
 */
const FLOORS = [
  { name: 'cli', path: '^src/cli/' },
  { name: 'library', path: '^src/((index|core|transformers)\\.ts$|library/|check/(check-file|second-reading)\\.ts$)' },
  { name: 'folder', path: '^src/folder/' },
  { name: 'report', path: '^src/report/' },
  { name: 'validate', path: '^src/validate/(?!context|options|result)[^/]+\\.ts$' },
  { name: 'sweep', path: '^src/validate/sweep/' },
  { name: 'speed', path: '^src/validate/speed/' },
  { name: 'what one validation opens', path: '^src/validate/context\\.ts$' },
  { name: 'fidelity', path: '^src/validate/fidelity/' },
  { name: 'gates', path: '^src/validate/gates/' },
  { name: 'cost of a run', path: '^src/validate/cost/' },
  { name: 'models', path: '^src/validate/models/' },
  { name: 'feeding', path: '^src/validate/feeding/' },
  { name: 'running', path: '^src/validate/running/' },
  // The forms of its options and report: types out of all rooms, and read in all of them.
  { name: 'forms of validate', path: '^src/validate/(options|result)\\.ts$', types: 'from anywhere' },
  { name: 'disk', path: '^src/disk/' },
  { name: 'compile', path: '^src/compile\\.ts$' },
  { name: 'check', path: '^src/check/(soundness|follows-plan|fixed)\\.ts$' },
  { name: 'marks', path: '^src/marks/' },
  { name: 'passes', path: '^passes/' },
  { name: 'rewrite', path: '^src/rewrite/' },
  { name: 'cost and plan', path: '^src/(cost/|plan/(?!(plan|ranks|image-token-id)\\.ts))' },
  { name: 'analyse', path: '^src/analyse/' },
  { name: 'the plan as data', path: '^src/plan/(plan|ranks|image-token-id)\\.ts$' },
  { name: 'onnx', path: '^src/onnx/' },
  { name: 'ir', path: '^src/ir/' },
  { name: 'diagnostics', path: '^src/(diagnostics|version|clock)\\.ts$' },
];

/** What runs in a web page as well. */
const CORE = '^(passes/|src/(ir|onnx|analyse|plan|rewrite|cost|marks)/|src/(compile|check/(soundness|follows-plan|fixed)|core|transformers|diagnostics|version|clock)\\.ts$)';

const floors = FLOORS.slice(1).map((floor, i) => ({
  name: `${floor.name.replaceAll(' ', '-')}-imports-from-below`,
  comment: `a file of the floor "${floor.name}" imports only from its own floor and from those below`,
  severity: 'error',
  from: { path: floor.path },
  to: { path: FLOORS.slice(0, i + 1).map((above) => above.path), ...(floor.types && { dependencyTypesNot: ['type-only'] }) },
}));

module.exports = {
  forbidden: [
    ...floors,
    {
      name: 'no-cycles',
      comment: 'two files that need each other are one file, or three',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'only-the-wire-knows-protobufjs',
      comment: 'how numbers, lengths and text are spelt is asked in one place',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/onnx/wire\\.ts$' },
      to: { path: 'node_modules/(protobufjs|long)/' },
    },
    {
      name: 'onnx-proto-reads-whole-messages-only',
      comment: 'it drops fields that it does not know: nothing that is written back may pass through it. Its types cost nothing',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/(check/second-reading|validate/(feeding/data/tensor_pb|doctor))\\.ts$' },
      to: { path: 'node_modules/onnx-proto/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'onnx-proto-is-imported-when-it-is-used',
      comment: 'it takes three times as long to load as all that compiling needs',
      severity: 'error',
      from: { path: '^(src|passes)/' },
      to: { path: 'node_modules/onnx-proto/', dynamic: false, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'only-onnx-knows-the-wire',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/onnx/' },
      to: { path: '^src/onnx/wire\\.ts$' },
    },
    {
      name: 'only-session-imports-onnxruntime',
      comment: 'it is large, and compiling must not need it',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/validate/running/session\\.ts$' },
      to: { path: 'node_modules/onnxruntime' },
    },
    {
      name: 'the-core-imports-nothing-of-node',
      comment: 'bytes come from a ByteSource and go to a ByteSink; the same compiler runs in a web page',
      severity: 'error',
      from: { path: CORE },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'the-core-imports-no-packages',
      comment: 'but for protobufjs, which runs in a web page too',
      severity: 'error',
      from: { path: CORE },
      to: { pathNot: 'node_modules/protobufjs/minimal\\.js$', dependencyTypes: ['npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'only-the-cli-knows-commander',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/cli/' },
      to: { path: 'node_modules/commander/' },
    },
    {
      name: 'no-development-packages',
      comment: 'what runs is in dependencies; transformers.js, which who needs it installs, is one of the tests as well',
      severity: 'error',
      from: { path: '^(src|passes)/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: 'node_modules/@huggingface/transformers/' },
    },
    {
      name: 'only-one-file-imports-transformers-js',
      comment: 'what is used of it is declared there',
      severity: 'error',
      from: { path: '^(src|passes)/', pathNot: '^src/validate/feeding/asking/transformers\\.ts$' },
      to: { path: 'node_modules/@huggingface/transformers/' },
    },
    {
      name: 'transformers-js-is-imported-when-it-is-used',
      comment: 'it is an optional peer dependency, and takes most of a second to load',
      severity: 'error',
      from: { path: '^(src|passes)/' },
      to: { path: 'node_modules/@huggingface/transformers/', dynamic: false, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'sources-know-no-tests',
      severity: 'error',
      from: { path: '^(src|passes)/' },
      to: { path: '^(test|bench|fixtures)/' },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-orphans',
      comment: 'a file nothing imports is dead, unless it is an entry',
      severity: 'error',
      from: { orphan: true, pathNot: '^src/(index|core|transformers)\\.ts$' },
      to: {},
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'], exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'], mainFields: ['main', 'types'] },
  },
};
