export function countMacs(): { macs: number } { return { macs: 0 }; }
