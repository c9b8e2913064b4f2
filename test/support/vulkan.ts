/** Finding a Vulkan driver for the WebGPU provider: one that is configured, or the software driver of Debian's chromium. */
import { existsSync } from 'node:fs';

const SOFTWARE_DRIVERS = ['/usr/lib/chromium/vk_swiftshader_icd.json', '/usr/lib/chromium-browser/vk_swiftshader_icd.json'];

/** Points the Vulkan loader at a driver; false when there is none. Call before a WebGPU session is made. */
export function useVulkan(): boolean {
  if (process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES) return true;
  const driver = SOFTWARE_DRIVERS.find(existsSync);
  if (!driver) return false;
  process.env.VK_DRIVER_FILES = driver;
  process.env.VK_ICD_FILENAMES = driver;
  return true;
}
