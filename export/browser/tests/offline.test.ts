import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BrowserContext, Page } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { VECTORS, browse, dropped, open, pick, rows, serve } from './site';

let server: PreviewServer;
let url: string;
let context: BrowserContext;
let page: Page;
let wrong: string[];
const fetched = new Map<string, number>();

beforeAll(async () => {
  ({ server, url } = await serve());
  ({ context, wrong } = await browse(url));
  // Of the page and of the worker that keeps things, what came over the network.
  context.on('response', async (response) => {
    if (response.fromServiceWorker()) return;
    const path = new URL(response.url()).pathname;
    const bytes = (await response.body().catch(() => Buffer.alloc(0))).length;
    fetched.set(path, (fetched.get(path) ?? 0) + bytes);
  });
  page = await open(context, url);
  await page.locator('#offline:has-text("without a network")').waitFor();
});
afterAll(() => context.close());

test('the first load is below 12 MB besides the models', async () => {
  await page.waitForLoadState('networkidle');
  const besides = [...fetched].filter(([path]) => !path.endsWith('.tflite'));
  const bytes = besides.reduce((sum, [, size]) => sum + size, 0);
  console.log(`first load: ${(bytes / 1e6).toFixed(2)} MB besides the models, in ${besides.length} files`);
  expect(bytes).toBeGreaterThan(9e6); // the WebAssembly is among them
  expect(bytes).toBeLessThan(12e6);
});

test('only what the page is made of is asked for, of its own origin', () => {
  expect(wrong).toEqual([]);
});

test('once loaded, the page opens and hears without a server', async () => {
  await server.close();
  page = await open(context, url);
  expect(await dropped(page, 'stop.wav', `${VECTORS}stop.wav`)).toMatch(/answered in/);
  expect((await rows(page))[0]!.text).toBe('stop');
  await pick(page, 'commands-ar');
  expect(await page.locator('#model-about').innerText()).toMatch(/40 labels/);
  expect(wrong).toEqual([]);
});
