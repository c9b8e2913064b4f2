/** Where what is saved pays for what dropping costs. */
import { describe, expect, it } from 'vitest';
import { spread } from '../../../src/validate/fidelity/statistics.js';
import { breakEven } from '../../../src/validate/speed/break-even.js';
import type { PhaseLatency } from '../../../src/validate/speed/latency.js';

describe('break-even', () => {
  const phase = (original: number, rewritten: number): PhaseLatency => ({ original: spread([original]), rewritten: spread([rewritten]), speedup: original / rewritten, uncertainty: 0 });
  it('is where the MACs save what dropping costs', () => {
    // 10 ms whatever the length, 100 ms of MACs of which half are saved; dropping costs 5 ms: a tenth of what 500 image tokens save.
    expect(breakEven({ prefill: phase(110, 65), decode: phase(10, 9) }, 500, 2)).toBeCloseTo(50, 9);
    // Dropping costs all that is saved here.
    expect(breakEven({ prefill: phase(110, 110), decode: phase(10, 10) }, 500, 2)).toBeCloseTo(500, 9);
    expect(breakEven({ prefill: phase(110, 55), decode: phase(10, 10) }, 500, 2)).toBe(0);
    expect(breakEven({ prefill: phase(100, 60), decode: null }, 500, 2)).toBeCloseTo(100, 9);
  });

  it('is not told where no MACs are saved, or nothing is known of them', () => {
    expect(breakEven({ prefill: phase(110, 65), decode: null }, 500, 1)).toBeNull();
    expect(breakEven({ prefill: phase(110, 65), decode: null }, 500, Number.NaN)).toBeNull();
    expect(breakEven({ prefill: phase(110, 65), decode: null }, 0, 2)).toBeNull();
  });
});
