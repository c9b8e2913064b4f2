/** Headless Chromium over the DevTools protocol on a pipe: no port, no library. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

/** Path of the browser; undefined where none is installed. `CHROMIUM` names another one. */
export function findChromium(): string | undefined {
  return [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable'].find((p) => p !== undefined && existsSync(p));
}

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--remote-debugging-pipe'];

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
  readonly sessionId?: string;
}

export interface View {
  readonly width: number;
  readonly scheme: 'light' | 'dark';
}

export class Page {
  /** What the browser logged: errors, warnings, violations of the page's security policy. */
  readonly complaints: string[] = [];
  /** Addresses asked for, data URIs left out. */
  readonly requests: string[] = [];
  readonly #browser: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, { resolve: (r: Record<string, unknown>) => void; reject: (e: Error) => void }>();
  readonly #events = new Map<string, () => void>();
  #session: string | undefined;
  #next = 0;

  private constructor(path: string) {
    this.#profile = mkdtempSync(join(tmpdir(), 'pdrop-chromium-'));
    this.#browser = spawn(path, [...FLAGS, `--user-data-dir=${this.#profile}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    let rest = '';
    (this.#browser.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\0');
      rest = parts.pop() ?? '';
      for (const part of parts) this.#take(JSON.parse(part) as Message);
    });
    this.#browser.on('exit', () => {
      for (const w of this.#waiting.values()) w.reject(new Error('the browser ended'));
    });
  }

  static async open(path: string): Promise<Page> {
    const page = new Page(path);
    const { targetInfos } = (await page.send('Target.getTargets')) as { targetInfos: { type: string; targetId: string }[] };
    const target = targetInfos.find((t) => t.type === 'page')?.targetId ?? ((await page.send('Target.createTarget', { url: 'about:blank' })).targetId as string);
    page.#session = (await page.send('Target.attachToTarget', { targetId: target, flatten: true })).sessionId as string;
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`);
    return page;
  }

  send(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const id = ++this.#next;
    const text = JSON.stringify({ id, method, params, ...(this.#session === undefined ? {} : { sessionId: this.#session }) });
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      (this.#browser.stdio[3] as Writable).write(`${text}\0`);
    });
  }

  #take(m: Message): void {
    if (m.id !== undefined) {
      const waiting = this.#waiting.get(m.id);
      this.#waiting.delete(m.id);
      if (m.error) waiting?.reject(new Error(m.error.message));
      else waiting?.resolve(m.result ?? {});
    } else if (m.method === 'Log.entryAdded' || m.method === 'Runtime.consoleAPICalled' || m.method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(m.params));
    else if (m.method === 'Network.requestWillBeSent') {
      const { url } = m.params?.request as { url: string };
      if (!url.startsWith('data:')) this.requests.push(url);
    } else if (m.method !== undefined) this.#events.get(m.method)?.();
  }

  /** Loads a page as a reader with this width and theme sees it. */
  async show(url: string, view: View): Promise<void> {
    await this.send('Emulation.setDeviceMetricsOverride', { width: view.width, height: 900, deviceScaleFactor: 1, mobile: view.width < 600 });
    await this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: view.scheme }] });
    const loaded = new Promise<void>((resolve) => this.#events.set('Page.loadEventFired', resolve));
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** Value of a JavaScript expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = (await this.send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })) as { result: { value: T }; exceptionDetails?: unknown };
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#browser.once('exit', resolve));
    // Asked to close, it ends its own children first: killed, they still write into the profile while it is removed.
    await this.send('Browser.close').catch(() => this.#browser.kill());
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
  }
}
