/** The built page on a server of its own, and a real Chromium that looks at it. */

import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BrowserContext, type Page, chromium } from 'playwright-core';
import { type PreviewServer, preview } from 'vite';

export const VECTORS = fileURLToPath(new URL('../../vectors/', import.meta.url));
export const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'];
const OFFLINE = ['--disable-background-networking', '--disable-component-update'];

export async function serve(): Promise<{ server: PreviewServer; url: string }> {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const server = await preview({ root, preview: { host: '127.0.0.1', port: 0, strictPort: false } });
  const { port } = server.httpServer.address() as { port: number };
  return { server, url: `http://127.0.0.1:${port}/` };
}

/** A browser with an empty profile; what it must never do is collected in `wrong`. */
export async function browse(url: string, flags: string[] = [], options: object = {}) {
  const profile = mkdtempSync(join(tmpdir(), 'chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    args: [...QUIET, ...OFFLINE, ...flags],
    ...options,
  });
  const wrong: string[] = [];
  context.on('request', (request) => {
    const asked = request.url();
    if (!asked.startsWith(url) && !/^(blob|data):/.test(asked)) wrong.push(`asks for ${asked}`);
  });
  context.on('console', (line) => line.type() === 'error' && wrong.push(`console: ${line.text()}`));
  context.on('weberror', (error) => wrong.push(`throws ${error.error()}`));
  return { context, wrong };
}

export async function open(context: BrowserContext, url: string): Promise<Page> {
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(url);
  await page.locator('#listen:enabled').waitFor();
  await said(page);
  return page;
}

/** Drops a file on the page, as a person would. */
export async function drop(page: Page, name: string, content: Buffer | string): Promise<void> {
  const bytes = typeof content === 'string' ? readFileSync(content) : content;
  const transfer = await page.evaluateHandle(
    ([base64, name]) => {
      const transfer = new DataTransfer();
      const bytes = Uint8Array.from(atob(base64!), (one) => one.charCodeAt(0));
      transfer.items.add(new File([bytes], name!));
      return transfer;
    },
    [bytes.toString('base64'), name],
  );
  await page.dispatchEvent('body', 'drop', { dataTransfer: transfer });
}

/** What the page says when it has done what it was asked for. */
export async function said(page: Page): Promise<string> {
  await page.locator('main[aria-busy=false]').waitFor({ timeout: 60_000 });
  return (await page.locator('#message').textContent())!;
}

/** Drops a file and waits for what the page says to it. */
export async function dropped(page: Page, name: string, content: Buffer | string): Promise<string> {
  await drop(page, name, content);
  return said(page);
}

/** Picks a model of the list. */
export async function pick(page: Page, name: string): Promise<void> {
  await page.locator('#models').selectOption(name);
  await page.locator('#models').dispatchEvent('change'); // also where it was the one before
  await said(page);
}

export interface Row {
  text: string;
  confidence: number;
  time: number;
}

/** What the table says, the first first. */
export async function rows(page: Page): Promise<Row[]> {
  const found = await page.locator('#events tbody tr').evaluateAll((all) => all.map((row) => ({ ...(row as HTMLElement).dataset })));
  return found.reverse().map((row) => ({ text: row.text!, confidence: Number(row.confidence), time: Number(row.time) }));
}

export async function setThreshold(page: Page, value: number): Promise<void> {
  await page.locator('#threshold').evaluate((range, value) => {
    (range as HTMLInputElement).step = 'any';
    (range as HTMLInputElement).valueAsNumber = value;
    range.dispatchEvent(new Event('input'));
  }, value);
}

/** 16-bit samples as a WAV file. */
export function wav(samples: Int16Array, rateHz: number): Buffer {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + 2 * samples.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rateHz, 24);
  head.writeUInt32LE(2 * rateHz, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(2 * samples.length, 40);
  return Buffer.concat([head, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)]);
}

/** Samples and rate of a 16-bit mono WAV file as soundfile writes it. */
export function readWav(path: string): { samples: Int16Array; rateHz: number } {
  const bytes = readFileSync(path);
  return { samples: new Int16Array(Uint8Array.from(bytes.subarray(44)).buffer), rateHz: bytes.readUInt32LE(24) };
}
