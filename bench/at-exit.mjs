/** Preloaded (`node --import`) into what is measured: when it ends, writes its peak memory and CPU time to a file. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Peak resident bytes of this process alone: rusage counts the parent's memory at the time of the fork. */
function peakBytes() {
  try {
    const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'));
    if (line) return Number(line[1]) * 1024;
  } catch {
    // Not Linux.
  }
  return process.resourceUsage().maxRSS * 1024;
}

process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  writeFileSync(process.env.BENCH_MEASURED, JSON.stringify({ peakBytes: peakBytes(), cpuMs: (user + system) / 1000 }));
});
