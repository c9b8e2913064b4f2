/** Version of the tool, stamped into compiled models; a test keeps it equal to package.json. */
export const VERSION = '0.1.0';
