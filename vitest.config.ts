import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/float16.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    globals: false,
    // npm run coverage. Processes that tests start (bin/, fuzz/) are not counted.
    coverage: { provider: 'v8', include: ['src/**/*.ts', 'passes/**/*.ts'], reporter: ['text-summary', 'html', 'json-summary'], reportsDirectory: 'coverage' },
  },
});
