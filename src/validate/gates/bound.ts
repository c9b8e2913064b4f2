/** How different two runs that should be equal may be. */
import type { Provider } from '../running/providers.js';

export interface Bound {
  readonly value: number;
  readonly from: string;
}

export const FP32_BOUND = 1e-5;

/**
 * 1e-5 in float32 on the CPU. Elsewhere rounding depends on the shapes kernels see, and the bound comes from a control:
 * the original with Gathers that move nothing, on the same provider. `control` is its largest relative difference.
 */
export function boundFor(dtype: string, provider: Provider, control: number | undefined): Bound {
  if (dtype === 'float32' && provider === 'cpu') return { value: FP32_BOUND, from: 'float32 on CPU' };
  const floor = dtype === 'float16' ? 1e-2 : 1e-4;
  if (control === undefined) return { value: dtype === 'float16' ? 2e-2 : 1e-3, from: `${dtype} on ${provider}, no control` };
  return { value: Math.max(floor, 4 * control), from: `${dtype} on ${provider}: 4 × the control's ${control.toExponential(1)}, at least ${floor}` };
}
